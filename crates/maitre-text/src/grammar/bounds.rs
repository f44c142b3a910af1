//! Bounds of numbers that a number must not reach. The library takes 0 for a number between 0 and 0.5.

use serde_json::{Map, Value};

/// The smallest number that is told from 0: with 15 digits behind the point.
const SMALLEST: f64 = 1e-15;

/// Says a bound that is a whole number, and is left out, as the next number that is not.
pub(super) fn spell_out(schema: &mut Map<String, Value>) {
    for (with, without, is_lower) in [
        ("minimum", "exclusiveMinimum", true),
        ("maximum", "exclusiveMaximum", false),
    ] {
        // Before draft 6, whether the bound is left out is true or false.
        let key = match schema.get(without) {
            Some(Value::Bool(true)) => with,
            _ => without,
        };
        let Some(bound) = schema.get(key).and_then(Value::as_f64) else {
            continue;
        };
        // Towards 0, the library leaves the bound out.
        let is_away = if is_lower { bound >= 0.0 } else { bound <= 0.0 };
        if bound.fract() != 0.0 || !is_away {
            continue;
        }
        let next = match (bound == 0.0, is_lower) {
            (true, true) => SMALLEST,
            (true, false) => -SMALLEST,
            (false, true) => bound.next_up(),
            (false, false) => bound.next_down(),
        };
        schema.shift_remove(without);
        let given = schema.get(with).and_then(Value::as_f64).unwrap_or(next);
        let tighter = if is_lower {
            given.max(next)
        } else {
            given.min(next)
        };
        schema.insert(with.to_owned(), tighter.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn whole_bounds_that_are_left_out_are_the_next_numbers() {
        for (schema, expected) in [
            (json!({"exclusiveMinimum": 0}), json!({"minimum": 1e-15})),
            (json!({"exclusiveMaximum": 0}), json!({"maximum": -1e-15})),
            (
                json!({"exclusiveMinimum": 3}),
                json!({"minimum": 3.0000000000000004}),
            ),
            (
                json!({"exclusiveMinimum": 3, "minimum": 5}),
                json!({"minimum": 5.0}),
            ),
            (
                json!({"minimum": 0, "exclusiveMinimum": true}),
                json!({"minimum": 1e-15}),
            ),
            (
                json!({"exclusiveMinimum": -3}),
                json!({"exclusiveMinimum": -3}),
            ),
            (
                json!({"exclusiveMaximum": 0.5}),
                json!({"exclusiveMaximum": 0.5}),
            ),
            (
                json!({"minimum": 0, "exclusiveMinimum": false}),
                json!({"minimum": 0, "exclusiveMinimum": false}),
            ),
        ] {
            let mut spelled = schema.clone();
            spell_out(spelled.as_object_mut().unwrap());
            assert_eq!(spelled, expected, "{schema}");
        }
    }
}
