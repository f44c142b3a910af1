//! `multipleOf` with fractions. The library counts multiples with floating-point numbers, in which 3 times 0.1 is not 0.3; here they
//! are counted as decimal numbers.

use serde_json::{Map, Value, json};

use super::{GrammarError, rewrite};

/// Multiples between two bounds that are listed one by one.
const MAX_LISTED: i128 = 256;
/// Digits behind the point that are counted with.
const MAX_DIGITS: u32 = 15;
/// Decimal digits that a number keeps in 64 bits of floating point, as which it is read.
const KEPT: i128 = 999_999_999_999_999;
const BOUNDS: [&str; 4] = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"];
/// What no number is.
const OTHER_TYPES: [&str; 5] = ["array", "boolean", "null", "object", "string"];

/// `coef / 10^exp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Decimal {
    coef: i128,
    exp: u32,
}

impl Decimal {
    /// The decimal number that `value` is written as, if it has few enough digits.
    fn of(value: f64) -> Option<Self> {
        // `Display` writes the fewest digits that read as the same number, and no exponent.
        let text = value.to_string();
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        let exp = u32::try_from(fraction.len())
            .ok()
            .filter(|&it| it <= MAX_DIGITS)?;
        let coef = format!("{whole}{fraction}").parse().ok()?;
        Some(Self { coef, exp })
    }

    /// The numerator over `10^exp`, which is not smaller than its own.
    fn over(self, exp: u32) -> Option<i128> {
        self.coef.checked_mul(10_i128.checked_pow(exp - self.exp)?)
    }

    fn to_json(self) -> Option<Value> {
        let Self { mut coef, mut exp } = self;
        while exp > 0 && coef % 10 == 0 {
            (coef, exp) = (coef / 10, exp - 1);
        }
        if exp == 0 {
            return i64::try_from(coef).ok().map(Value::from);
        }
        let float: f64 = format!("{coef}e-{exp}").parse().ok()?;
        serde_json::Number::from_f64(float).map(Value::Number)
    }
}

/// A bound, and whether it is a value itself.
type Bound = Option<(Decimal, bool)>;

/// Says `multipleOf` in a schema as the library counts.
pub(super) fn spell_out(schema: &mut Map<String, Value>, path: &str) -> Result<(), GrammarError> {
    if !may_be_number(schema) {
        return Ok(());
    }
    gather(schema);
    let Some(step) = schema.get("multipleOf").and_then(Value::as_f64) else {
        return Ok(());
    };
    let step = step.abs();
    if step == 0.0 {
        return Ok(());
    }
    let unit = Decimal::of(step);
    if let Some(unit) = unit
        && ["const", "enum"]
            .iter()
            .any(|key| schema.contains_key(*key))
    {
        keep_multiples(schema, unit);
        return Ok(());
    }
    let Some((unit, first, last)) = unit.and_then(|it| range(it, schema)) else {
        return countable(step, path);
    };
    for key in BOUNDS {
        schema.shift_remove(key);
    }
    let multiple = |index: i128| {
        let coef = unit.coef.checked_mul(index)?;
        Decimal { coef, ..unit }.to_json()
    };
    if last - first < MAX_LISTED {
        schema.shift_remove("multipleOf");
        let values: Vec<Value> = (first..=last).filter_map(multiple).collect();
        rewrite::also(
            schema,
            [json!({"anyOf": [{"type": OTHER_TYPES}, {"enum": values}]})],
        );
        return Ok(());
    }
    for (key, index) in [("minimum", first), ("maximum", last)] {
        schema.extend(multiple(index).map(|it| (key.to_owned(), it)));
    }
    countable(step, path)
}

/// Of the values that a schema lists, those that are multiples, or no numbers.
fn keep_multiples(schema: &mut Map<String, Value>, unit: Decimal) {
    schema.shift_remove("multipleOf");
    let is_kept = |value: &Value| {
        let Some(number) = value.as_f64().and_then(Decimal::of) else {
            return !value.is_number();
        };
        let exp = number.exp.max(unit.exp);
        let whole = |it: Decimal| it.over(exp);
        let rest = whole(number)
            .zip(whole(unit))
            .and_then(|(it, unit)| it.checked_rem(unit));
        rest == Some(0)
    };
    if let Some(Value::Array(values)) = schema.get_mut("enum") {
        values.retain(is_kept);
    }
    if schema.get("const").is_some_and(|it| !is_kept(it)) {
        rewrite::also(schema, [Value::Bool(false)]);
    }
}

/// Takes a step and copies bounds out of `allOf`, so that they can be counted with. A number meets them there or here.
fn gather(schema: &mut Map<String, Value>) {
    let has_step = schema.contains_key("multipleOf");
    let Some(Value::Array(all)) = schema.get_mut("allOf") else {
        return;
    };
    let mut maps = all.iter_mut().filter_map(Value::as_object_mut);
    let step = match has_step {
        true => None,
        false => maps.find_map(|map| map.shift_remove("multipleOf")),
    };
    let mut found = Vec::new();
    for map in all.iter().filter_map(Value::as_object) {
        for key in BOUNDS {
            found.extend(map.get(key).and_then(Value::as_f64).map(|it| (key, it)));
        }
    }
    schema.extend(step.map(|it| ("multipleOf".to_owned(), it)));
    if !schema.contains_key("multipleOf") {
        return;
    }
    for (key, found) in found {
        let is_lower = key.ends_with("inimum");
        let given = schema.get(key);
        let is_tighter = match given.and_then(Value::as_f64) {
            Some(given) if is_lower => found > given,
            Some(given) => found < given,
            None => given.is_none(),
        };
        if is_tighter {
            schema.insert(key.to_owned(), found.into());
        }
    }
}

fn may_be_number(schema: &Map<String, Value>) -> bool {
    let is_number = |it: &Value| it == "number" || it == "integer";
    match schema.get("type") {
        None => true,
        Some(Value::Array(types)) => types.iter().any(is_number),
        Some(one) => is_number(one),
    }
}

/// The tighter one of a schema's two lower or upper bounds. Before draft 6, `exclusiveMinimum` is true or false.
fn bound(schema: &Map<String, Value>, is_lower: bool) -> Bound {
    let (including, excluding) = match is_lower {
        true => ("minimum", "exclusiveMinimum"),
        false => ("maximum", "exclusiveMaximum"),
    };
    let float = |key: &str| schema.get(key).and_then(Value::as_f64);
    let of = |value: f64, is_included| Some((Decimal::of(value)?, is_included));
    match (float(including), float(excluding)) {
        (Some(value), None) => of(value, schema.get(excluding) != Some(&Value::Bool(true))),
        (None, Some(value)) => of(value, false),
        (Some(with), Some(without)) => {
            let is_tighter = match is_lower {
                true => without >= with,
                false => without <= with,
            };
            match is_tighter {
                true => of(without, false),
                false => of(with, true),
            }
        }
        (None, None) => None,
    }
}

/// The step, and which multiples of it lie between the bounds: the first and the last one. Without a bound, multiples are those
/// that are read as they are written.
fn range(step: Decimal, schema: &Map<String, Value>) -> Option<(Decimal, i128, i128)> {
    let kept = |coef| {
        (
            Decimal {
                coef,
                exp: step.exp,
            },
            true,
        )
    };
    let (least, with_least) = bound(schema, true).unwrap_or(kept(-KEPT));
    let (most, with_most) = bound(schema, false).unwrap_or(kept(KEPT));
    let exp = step.exp.max(least.exp).max(most.exp);
    let (unit, least, most) = (step.over(exp)?, least.over(exp)?, most.over(exp)?);
    let mut first = least.div_euclid(unit) + i128::from(least.rem_euclid(unit) != 0);
    if !with_least && first * unit == least {
        first += 1;
    }
    let mut last = most.div_euclid(unit);
    if !with_most && last * unit == most {
        last -= 1;
    }
    Some((step, first, last))
}

/// Whether the library can count in a step: it multiplies it by ten until it is a whole number, with rounding errors.
fn countable(step: f64, path: &str) -> Result<(), GrammarError> {
    let mut value = step;
    while value.fract() != 0.0 {
        value *= 10.0;
    }
    if value <= f64::from(u32::MAX) {
        return Ok(());
    }
    Err(GrammarError::Unsupported {
        reason: format!(
            "multipleOf {step} at {path} is supported only between a minimum and a maximum with at most {MAX_LISTED} multiples"
        ),
    })
}

/// Whether the steps of a schema have a least common multiple that the library can compute, should it combine some.
pub(super) fn check_together(schema: &Value) -> Result<(), GrammarError> {
    let mut steps: Vec<Decimal> = Vec::new();
    let mut is_combined = false;
    let mut left = vec![schema];
    while let Some(value) = left.pop() {
        match value {
            Value::Array(items) => left.extend(items),
            Value::Object(map) => {
                let combines = ["allOf", "anyOf", "oneOf", "$ref", "patternProperties"];
                is_combined |= combines.iter().any(|key| map.contains_key(*key));
                let step = map.get("multipleOf").and_then(Value::as_f64);
                steps.extend(step.and_then(|it| Decimal::of(it.abs())));
                left.extend(map.values());
            }
            _ => {}
        }
    }
    let combined = steps.into_iter().filter(|it| it.coef != 0).try_fold(
        Decimal { coef: 1, exp: 0 },
        |all, step| {
            let exp = all.exp.max(step.exp);
            let (a, b) = (all.over(exp)?, step.over(exp)?);
            let product = a.checked_mul(b).filter(|&it| it <= i128::from(u32::MAX))?;
            let coef = product / greatest_common_divisor(a, b);
            Some(Decimal { coef, exp })
        },
    );
    if combined.is_some() || !is_combined {
        return Ok(());
    }
    Err(GrammarError::Unsupported {
        reason: "multipleOf is supported beside allOf, anyOf, oneOf, patternProperties and $ref only where the least common \
                 multiple of the schema's steps has at most nine digits"
            .to_owned(),
    })
}

fn greatest_common_divisor(a: i128, b: i128) -> i128 {
    match b {
        0 => a,
        _ => greatest_common_divisor(b, a % b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(mut schema: Value) -> Value {
        spell_out(schema.as_object_mut().unwrap(), "#").unwrap();
        schema
    }

    fn listed(schema: &Value) -> Value {
        spelled(schema.clone())["allOf"][0]["anyOf"][1]["enum"].clone()
    }

    #[test]
    fn few_multiples_are_listed() {
        for (schema, values) in [
            (
                json!({"multipleOf": 0.1, "minimum": 0.25, "maximum": 0.35}),
                json!([0.3]),
            ),
            (
                json!({"multipleOf": 0.1, "exclusiveMinimum": 0.3, "exclusiveMaximum": 0.5}),
                json!([0.4]),
            ),
            (
                json!({"multipleOf": 0.1, "minimum": 0.3, "exclusiveMinimum": 0.2, "maximum": 0.3}),
                json!([0.3]),
            ),
            (
                json!({"multipleOf": 0.07, "minimum": -0.1, "maximum": 0.2}),
                json!([-0.07, 0, 0.07, 0.14]),
            ),
            (
                json!({"multipleOf": 0.5, "minimum": -1, "maximum": 1}),
                json!([-1, -0.5, 0, 0.5, 1]),
            ),
            (
                json!({"multipleOf": 0.1, "minimum": 0.31, "maximum": 0.39}),
                json!([]),
            ),
            (
                json!({"multipleOf": 0.1, "minimum": 0.3, "exclusiveMinimum": true, "maximum": 0.4}),
                json!([0.4]),
            ),
            (
                json!({"multipleOf": 1e-7, "minimum": 0, "maximum": 2e-7}),
                json!([0, 1e-7, 2e-7]),
            ),
        ] {
            assert_eq!(listed(&schema), values, "{schema}");
        }
    }

    #[test]
    fn steps_and_bounds_in_several_places_are_one() {
        for schema in [
            json!({"minimum": 0.25, "allOf": [{"multipleOf": 0.1}, {"maximum": 0.35, "minimum": 0}]}),
            json!({"multipleOf": 0.1, "allOf": [{"maximum": 0.35}, {"minimum": 0.25}]}),
        ] {
            let all = spelled(schema)["allOf"].take();
            let last = all.as_array().unwrap().last().unwrap();
            assert_eq!(last["anyOf"][1]["enum"], json!([0.3]));
            assert!(!all.to_string().contains("multipleOf"), "{all}");
        }
        let schema = json!({"multipleOf": 0.1, "enum": [0.3, "a", 0.35, 1, null]});
        assert_eq!(spelled(schema), json!({"enum": [0.3, "a", 1, null]}));
        let schema = json!({"multipleOf": 0.1, "const": 0.25});
        assert_eq!(spelled(schema), json!({"const": 0.25, "allOf": [false]}));
    }

    #[test]
    fn bounds_of_many_are_multiples() {
        let open = spelled(json!({"type": "integer", "multipleOf": 7}));
        assert_eq!(open["maximum"], 999_999_999_999_994_u64);
        assert_eq!(open["minimum"], -999_999_999_999_994_i64);
        let schema = json!({"multipleOf": 0.1, "minimum": 0.25, "exclusiveMaximum": 100.35});
        let expected = json!({"multipleOf": 0.1, "minimum": 0.3, "maximum": 100.3});
        assert_eq!(spelled(schema), expected);
        let text = json!({"type": "string", "multipleOf": 0.07});
        assert_eq!(spelled(text.clone()), text);
    }

    #[test]
    fn steps_that_cannot_be_counted_are_refused() {
        for step in [0.07, 0.14, 1e-15] {
            let mut schema = json!({"multipleOf": step, "minimum": 0});
            let refused = spell_out(schema.as_object_mut().unwrap(), "#/x").unwrap_err();
            let message = refused.to_string();
            assert!(
                message.starts_with(&format!("multipleOf {step} at #/x")),
                "{message}"
            );
        }
        let steps = |a: f64, b: f64| json!({"allOf": [{"multipleOf": a}, {"multipleOf": b}]});
        assert!(check_together(&steps(0.01, 512.0)).is_ok());
        assert!(check_together(&steps(100_003.0, 100_019.0)).is_err());
        assert!(check_together(&steps(1e-5, 1e6)).is_err());
        let apart = json!({"items": [{"multipleOf": 1e-5}, {"multipleOf": 1e6}]});
        assert!(check_together(&apart).is_ok());
    }
}
