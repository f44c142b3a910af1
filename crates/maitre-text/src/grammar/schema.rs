//! A JSON schema before it is compiled: parsed, measured, and told how its answers may use whitespace.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use super::limits::{
    MAX_ENUM_VALUES, MAX_FIXED_BYTES, MAX_GRAMMAR_BYTES, MAX_ONE_OF, MAX_PATTERN_PROPERTIES,
    MAX_PROPERTIES, MAX_REGEX_BYTES, MAX_SCHEMA_DEPTH, MAX_SCHEMA_LEVELS, MAX_WHITESPACE,
};
use super::{GrammarError, JsonWhitespace, regex_size, rewrite};

/// The library's options lie in a schema under this key.
const OPTIONS: &str = "x-guidance";

/// Parses a schema and prepares it.
pub(super) fn prepared(schema: &str, whitespace: JsonWhitespace) -> Result<Value, GrammarError> {
    within("the schema's bytes are", schema.len(), MAX_GRAMMAR_BYTES)?;
    let parsed = serde_json::from_str(schema).map_err(|error| GrammarError::Invalid {
        expected: "a JSON schema",
        reason: error.to_string(),
    })?;
    let mut schema = match parsed {
        Value::Bool(true) => json!({}),
        Value::Bool(false) => {
            return Err(GrammarError::Invalid {
                expected: "a JSON schema that can be met",
                reason: "the schema is false, so no value is valid".to_owned(),
            });
        }
        Value::Object(_) => parsed,
        _ => {
            return Err(GrammarError::Invalid {
                expected: "a JSON schema",
                reason: "a schema is an object or a boolean".to_owned(),
            });
        }
    };
    check(&schema)?;
    let mut options = options(whitespace);
    exactly(&mut schema, &mut options)?;
    if let Value::Object(map) = &mut schema {
        map.insert(OPTIONS.to_owned(), options);
    }
    Ok(schema)
}

/// Rewrites a checked schema so that the library takes it exactly.
fn exactly(schema: &mut Value, options: &mut Value) -> Result<(), GrammarError> {
    if let Some(escapes) = rewrite::rewrite(schema)?
        && let Value::Object(options) = options
    {
        let key = "json_allowed_escapes".to_owned();
        options.entry(key).or_insert_with(|| escapes.into());
    }
    Ok(())
}

/// Any JSON object.
pub(super) fn any_object(whitespace: JsonWhitespace) -> Value {
    json!({"type": "object", OPTIONS: options(whitespace)})
}

fn options(whitespace: JsonWhitespace) -> Value {
    match whitespace {
        JsonWhitespace::Compact => json!({"whitespace_flexible": false}),
        JsonWhitespace::Flexible => {
            let pattern = format!(r"[\x20\x0A\x0D\x09]{{1,{MAX_WHITESPACE}}}");
            json!({"whitespace_pattern": pattern})
        }
    }
}

fn within(what: &'static str, found: usize, limit: usize) -> Result<(), GrammarError> {
    let is_within = found <= limit;
    let too_large = GrammarError::TooLarge { what, found, limit };
    is_within.then_some(()).ok_or(too_large)
}

/// Whether a schema keeps to the limits, wherever in it something stands.
pub(super) fn check(schema: &Value) -> Result<(), GrammarError> {
    let mut enum_values = 0;
    let mut left = vec![(schema, 1)];
    while let Some((value, depth)) = left.pop() {
        within("the schema's levels are", depth, MAX_SCHEMA_DEPTH)?;
        match value {
            Value::Array(items) => left.extend(items.iter().map(|item| (item, depth + 1))),
            Value::Object(map) => {
                for (key, value) in map {
                    within("a key's bytes are", key.len(), MAX_FIXED_BYTES)?;
                    check_keyword(key, value, &mut enum_values)?;
                    left.push((value, depth + 1));
                }
            }
            _ => {}
        }
    }
    let found = levels(schema);
    within(
        "the schema's levels, its references followed, are",
        found,
        MAX_SCHEMA_LEVELS,
    )
}

/// How deep the library recurses at most: it follows each reference once, from where it meets it first.
fn levels(schema: &Value) -> usize {
    let mut depths = HashMap::new();
    let mut total = depth(schema, &mut depths);
    let mut seen = HashSet::new();
    let mut left = vec![schema];
    while let Some(value) = left.pop() {
        match value {
            Value::Array(items) => left.extend(items),
            Value::Object(map) => {
                left.extend(map.values());
                if let Some(Value::String(reference)) = map.get("$ref")
                    && seen.insert(reference.as_str())
                {
                    let pointer = reference.strip_prefix('#');
                    let target = pointer.and_then(|pointer| schema.pointer(pointer));
                    let known = target.and_then(|target| depths.get(&std::ptr::from_ref(target)));
                    total += known.copied().unwrap_or(MAX_SCHEMA_DEPTH);
                }
            }
            _ => {}
        }
    }
    total
}

/// Levels of `value`, whose nesting is bounded, and of all values in it.
fn depth(value: &Value, depths: &mut HashMap<*const Value, usize>) -> usize {
    let mut deepest = |values: &mut dyn Iterator<Item = &Value>| {
        values.map(|it| depth(it, depths)).max().unwrap_or(0)
    };
    let below = match value {
        Value::Array(items) => deepest(&mut items.iter()),
        Value::Object(map) => deepest(&mut map.values()),
        _ => 0,
    };
    depths.insert(std::ptr::from_ref(value), below + 1);
    below + 1
}

fn check_keyword(key: &str, value: &Value, enum_values: &mut usize) -> Result<(), GrammarError> {
    match (key, value) {
        (OPTIONS, _) => Err(GrammarError::Unsupported {
            reason: format!("the key {OPTIONS:?} is reserved"),
        }),
        ("enum", Value::Array(values)) => {
            *enum_values += values.len();
            values.iter().try_for_each(fixed)?;
            values.iter().try_for_each(|value| exact(key, value))?;
            within(
                "the schema's enum values are",
                *enum_values,
                MAX_ENUM_VALUES,
            )
        }
        ("const", value) => {
            fixed(value)?;
            exact(key, value)
        }
        (
            "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf",
            Value::Number(_),
        ) => exact(key, value),
        ("oneOf", Value::Array(options)) => {
            within("the options of a oneOf are", options.len(), MAX_ONE_OF)
        }
        ("pattern", Value::String(pattern)) => check_pattern(pattern),
        ("properties", Value::Object(properties)) => within(
            "the properties of an object are",
            properties.len(),
            MAX_PROPERTIES,
        ),
        ("patternProperties", Value::Object(patterns)) => {
            patterns.keys().try_for_each(|it| check_pattern(it))?;
            let found = patterns.len();
            within(
                "the patterns of a patternProperties are",
                found,
                MAX_PATTERN_PROPERTIES,
            )
        }
        _ => Ok(()),
    }
}

/// A value that has to come as it is.
fn fixed(value: &Value) -> Result<(), GrammarError> {
    let bytes = value.to_string().len();
    within("a constant's bytes are", bytes, MAX_FIXED_BYTES)
}

/// Up to here each integer is a number of its own in 64 bits of floating point, as which the library reads them.
const MAX_EXACT: f64 = 9_007_199_254_740_991.0;

/// Whether the numbers in a value are kept as they are.
fn exact(key: &str, value: &Value) -> Result<(), GrammarError> {
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| exact(key, item)),
        Value::Object(map) => map.values().try_for_each(|item| exact(key, item)),
        Value::Number(number) if number.as_f64().is_none_or(|it| it.abs() > MAX_EXACT) => {
            let reason = format!(
                "{key}: the number {number} lies beyond those that are kept exactly, up to {MAX_EXACT} either way"
            );
            Err(GrammarError::Unsupported { reason })
        }
        _ => Ok(()),
    }
}

fn check_pattern(pattern: &str) -> Result<(), GrammarError> {
    within("a pattern's bytes are", pattern.len(), MAX_REGEX_BYTES)?;
    regex_size::check(pattern)
}

/// Where in a schema the first of some keys stands, as a JSON pointer.
pub(super) fn place_of(schema: &Value, keys: &[&str]) -> Option<String> {
    let mut left = vec![(schema, "#".to_owned())];
    while let Some((value, path)) = left.pop() {
        match value {
            Value::Array(items) => {
                let items = items.iter().enumerate().rev();
                left.extend(items.map(|(index, item)| (item, format!("{path}/{index}"))));
            }
            Value::Object(map) => {
                if map.keys().any(|key| keys.contains(&key.as_str())) {
                    return Some(path);
                }
                let items = map.iter().rev();
                left.extend(items.map(|(key, item)| (item, format!("{path}/{key}"))));
            }
            _ => {}
        }
    }
    None
}

/// Checks and rewrites a schema within a grammar of the library's own, whose options may lie in it.
pub(super) fn embedded(mut schema: Value) -> Result<Value, GrammarError> {
    let Value::Object(map) = &mut schema else {
        return Ok(schema);
    };
    let given = map.shift_remove(OPTIONS);
    check(&schema)?;
    let mut options = given.unwrap_or_else(|| json!({}));
    exactly(&mut schema, &mut options)?;
    if let Value::Object(map) = &mut schema
        && options != json!({})
    {
        map.insert(OPTIONS.to_owned(), options);
    }
    Ok(schema)
}

/// Checks and rewrites the schemas that a grammar of the library's own holds: the library reads the JSON value behind `%json`.
pub(super) fn embedded_in(lark: &str) -> Result<String, GrammarError> {
    const MARK: &str = "%json";
    let mut pieces = lark.split(MARK);
    let mut written = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        written.push_str(MARK);
        let mut values = serde_json::Deserializer::from_str(piece).into_iter::<Value>();
        let rest = match values.next() {
            Some(Ok(schema)) => {
                let end = values.byte_offset();
                let start = piece.len() - piece.trim_start().len();
                written.push_str(&piece[..start]);
                written.push_str(&embedded(schema)?.to_string());
                piece.get(end..).unwrap_or_default()
            }
            _ => piece,
        };
        written.push_str(rest);
    }
    Ok(written)
}
