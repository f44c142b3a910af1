//! Keywords that say nothing: `uniqueItems: false`, `contains` with `minContains: 0`. The library refuses a keyword that it
//! doesn't know, also where every value meets it.

use serde_json::{Map, Value};

/// Keywords that say nothing about a value, whatever stands behind them.
const ANNOTATIONS: [&str; 12] = [
    "$comment",
    "$vocabulary",
    "contentEncoding",
    "contentMediaType",
    "contentSchema",
    "default",
    "deprecated",
    "description",
    "examples",
    "readOnly",
    "title",
    "writeOnly",
];
/// Keywords with a number of things. Draft 6 and later also write them as `2.0`.
const SIZES: [&str; 8] = [
    "maxContains",
    "maxItems",
    "maxLength",
    "maxProperties",
    "minContains",
    "minItems",
    "minLength",
    "minProperties",
];
/// The largest whole number up to which each is a number of its own in 64 bits of floating point.
const MAX_WHOLE: f64 = 9_007_199_254_740_992.0;

/// Leaves out of a schema what says nothing. `is_old`: `minContains` says nothing in the schema's draft.
pub(super) fn leave_out(schema: &mut Map<String, Value>, is_old: bool) {
    for size in SIZES {
        if let Some(value) = schema.get_mut(size)
            && let Some(float) = value.as_f64().filter(|_| value.is_f64())
            && float.fract() == 0.0
            && (0.0..=MAX_WHOLE).contains(&float)
        {
            *value = Value::from(float as u64);
        }
    }
    contains(schema, is_old);
    conditions(schema);
    // Draft 2020-12 doesn't know it, and before it says something beside a list of `items` only.
    if !schema.get("items").is_some_and(Value::is_array) {
        schema.shift_remove("additionalItems");
    }
    if schema
        .get("maxItems")
        .and_then(Value::as_u64)
        .is_some_and(|most| most <= 1)
    {
        schema.shift_remove("uniqueItems");
    }
    schema.retain(|key, value| !is_nothing(key, value));
}

/// Whether every value meets a keyword.
fn is_nothing(key: &str, value: &Value) -> bool {
    match key {
        // The library knows the others.
        "deprecated" | "contentSchema" | "$vocabulary" => true,
        "uniqueItems" | "$recursiveAnchor" => *value == Value::Bool(false),
        "not" => is_false(value),
        "additionalItems" | "unevaluatedItems" | "unevaluatedProperties" => is_true(value),
        "propertyNames" => is_true(value) || is_any_text(value),
        "dependentRequired" => all(value, is_empty),
        "dependentSchemas" => all(value, is_true),
        "dependencies" => all(value, |it| is_empty(it) || is_true(it)),
        _ => false,
    }
}

fn contains(schema: &mut Map<String, Value>, is_old: bool) {
    if is_old {
        schema.shift_remove("minContains");
        schema.shift_remove("maxContains");
        return;
    }
    let is_none = schema.get("minContains").and_then(Value::as_u64) == Some(0);
    let says_nothing = match schema.get("contains") {
        None => true,
        Some(item) => is_none && (!schema.contains_key("maxContains") || is_false(item)),
    };
    if says_nothing {
        for key in ["contains", "minContains", "maxContains"] {
            schema.shift_remove(key);
        }
    }
}

fn conditions(schema: &mut Map<String, Value>) {
    let says_nothing = |key: &str| schema.get(key).is_none_or(is_true);
    if !schema.contains_key("if") || (says_nothing("then") && says_nothing("else")) {
        for key in ["if", "then", "else"] {
            schema.shift_remove(key);
        }
    }
}

fn is_true(schema: &Value) -> bool {
    match schema {
        Value::Bool(value) => *value,
        Value::Object(map) => map.keys().all(|key| ANNOTATIONS.contains(&key.as_str())),
        _ => false,
    }
}

pub(super) fn is_false(schema: &Value) -> bool {
    match schema {
        Value::Bool(value) => !value,
        Value::Object(map) => map.get("not").is_some_and(is_true),
        _ => false,
    }
}

/// What a name always is.
fn is_any_text(schema: &Value) -> bool {
    let is_said = |(key, value): (&String, &Value)| match key.as_str() {
        "type" => {
            let types = value
                .as_array()
                .map_or(std::slice::from_ref(value), Vec::as_slice);
            types.iter().any(|it| it == "string")
        }
        key => ANNOTATIONS.contains(&key),
    };
    schema
        .as_object()
        .is_some_and(|map| map.iter().all(is_said))
}

fn is_empty(list: &Value) -> bool {
    list.as_array().is_some_and(Vec::is_empty)
}

fn all(map: &Value, is_met: impl Fn(&Value) -> bool) -> bool {
    map.as_object().is_some_and(|map| map.values().all(is_met))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_says_something_stays() {
        for schema in [
            json!({"uniqueItems": true, "maxItems": 2}),
            json!({"contains": {"type": "null"}}),
            json!({"contains": {"type": "null"}, "minContains": 0, "maxContains": 2}),
            json!({"contains": true, "minContains": 1}),
            json!({"not": {"type": "null"}}),
            json!({"if": {"type": "null"}, "then": false}),
            json!({"items": [true], "additionalItems": false}),
            json!({"unevaluatedProperties": false}),
            json!({"propertyNames": {"type": "null"}}),
            json!({"propertyNames": {"type": "string", "maxLength": 3}}),
            json!({"dependentRequired": {"a": ["b"]}}),
            json!({"dependentSchemas": {"a": false}}),
            json!({"dependencies": {"a": ["b"]}}),
            json!({"minLength": 2.5}),
            json!({"title": "t", "$id": "x", "nullable": true}),
        ] {
            let mut left = schema.clone();
            leave_out(left.as_object_mut().unwrap(), false);
            assert_eq!(left, schema);
        }
        let mut old = json!({"contains": {"type": "null"}, "minContains": 0});
        leave_out(old.as_object_mut().unwrap(), true);
        assert_eq!(old, json!({"contains": {"type": "null"}}));
    }
}
