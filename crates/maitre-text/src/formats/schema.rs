//! What a JSON schema allows one argument to be. Formats that write arguments without quotes (XML parameters)
//! need it: only the schema tells the text `5` from the number 5.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::json::is_json;
use super::literal;

/// How deep references and alternatives of a schema are followed.
const MAX_DEPTH: usize = 16;

/// A set of JSON types. Empty if the schema does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Kinds(u8);

impl Kinds {
    pub(super) const NULL: Self = Self(1);
    pub(super) const BOOLEAN: Self = Self(2);
    pub(super) const INTEGER: Self = Self(4);
    pub(super) const NUMBER: Self = Self(8);
    pub(super) const STRING: Self = Self(16);
    pub(super) const ARRAY: Self = Self(32);
    pub(super) const OBJECT: Self = Self(64);

    pub(super) fn has(self, kind: Self) -> bool {
        self.0 & kind.0 != 0
    }

    pub(super) fn is_unknown(self) -> bool {
        self.0 == 0
    }

    fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What the property `name` of an object may be.
    pub(super) fn of_property(root: &Map<String, Value>, name: &str) -> Self {
        let named = root.get("properties").and_then(|all| all.get(name));
        named
            .or_else(|| root.get("additionalProperties"))
            .map_or(Self::default(), |schema| Self::of(root, schema, 0))
    }

    /// What `schema`, which stands in `root`, allows.
    pub(super) fn of_schema(root: &Map<String, Value>, schema: &Value) -> Self {
        Self::of(root, schema, 0)
    }

    fn of(root: &Map<String, Value>, schema: &Value, depth: usize) -> Self {
        let Some(schema) = schema.as_object().filter(|_| depth < MAX_DEPTH) else {
            return Self::default();
        };
        let mut kinds = match schema.get("type") {
            Some(Value::String(name)) => Self::named(name),
            Some(Value::Array(names)) => {
                Self::union(names.iter().filter_map(Value::as_str).map(Self::named))
            }
            _ => Self::default(),
        };
        if kinds.is_unknown() {
            if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
                kinds =
                    resolve(root, target).map_or(kinds, |schema| Self::of(root, schema, depth + 1));
            }
            for key in ["anyOf", "oneOf", "allOf"] {
                let alternatives = schema.get(key).and_then(Value::as_array);
                let all = alternatives.into_iter().flatten();
                kinds = kinds.and(Self::union(all.map(|s| Self::of(root, s, depth + 1))));
            }
            let values = schema.get("enum").and_then(Value::as_array);
            let values = values.into_iter().flatten().chain(schema.get("const"));
            kinds = kinds.and(Self::union(values.map(Self::of_value)));
        }
        if schema.get("nullable") == Some(&Value::Bool(true)) && !kinds.is_unknown() {
            kinds = kinds.and(Self::NULL);
        }
        kinds
    }

    fn union(all: impl Iterator<Item = Self>) -> Self {
        all.fold(Self::default(), Self::and)
    }

    fn named(name: &str) -> Self {
        match name {
            "null" => Self::NULL,
            "boolean" => Self::BOOLEAN,
            "integer" => Self::INTEGER,
            "number" => Self::NUMBER,
            "string" => Self::STRING,
            "array" => Self::ARRAY,
            "object" => Self::OBJECT,
            _ => Self::default(),
        }
    }

    fn of_value(value: &Value) -> Self {
        match value {
            Value::Null => Self::NULL,
            Value::Bool(_) => Self::BOOLEAN,
            Value::Number(number) if number.is_f64() => Self::NUMBER,
            Value::Number(_) => Self::INTEGER,
            Value::String(_) => Self::STRING,
            Value::Array(_) => Self::ARRAY,
            Value::Object(_) => Self::OBJECT,
        }
    }
}

/// The schema that a reference within the same document points to.
pub(super) fn resolve<'a>(root: &'a Map<String, Value>, target: &str) -> Option<&'a Value> {
    let path = target.strip_prefix("#/")?;
    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
    let value = root.get(first)?;
    if rest.is_empty() {
        return Some(value);
    }
    value.pointer(&format!("/{rest}"))
}

/// The JSON of an argument that stands in the text without quotes. What does not fit its type is kept as a
/// string: a client sees what the model wrote.
pub(super) fn to_json(text: &str, kinds: Kinds) -> Cow<'_, str> {
    let trimmed = text.trim();
    if kinds.is_unknown() {
        // What reads as JSON is JSON, and the rest is text.
        return match is_json(trimmed) {
            true => Cow::Borrowed(trimmed),
            false => Cow::Owned(literal::quote(text)),
        };
    }
    typed(trimmed, kinds).unwrap_or_else(|| Cow::Owned(literal::quote(text)))
}

fn typed(text: &str, kinds: Kinds) -> Option<Cow<'_, str>> {
    let word = match text {
        "null" | "None" if kinds.has(Kinds::NULL) => Some("null"),
        "true" | "True" if kinds.has(Kinds::BOOLEAN) => Some("true"),
        "false" | "False" if kinds.has(Kinds::BOOLEAN) => Some("false"),
        _ => None,
    };
    if let Some(word) = word {
        return Some(Cow::Borrowed(word));
    }
    let starts_as_number = text.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    if starts_as_number && is_json(text) {
        let whole = !text.contains(['.', 'e', 'E']);
        if kinds.has(Kinds::NUMBER) || kinds.has(Kinds::INTEGER) && whole {
            return Some(Cow::Borrowed(text));
        }
        if kinds.has(Kinds::INTEGER) {
            // Some models write 5.0 where an integer is wanted.
            let digits = text.strip_suffix(".0").filter(|digits| is_json(digits))?;
            return Some(Cow::Borrowed(digits));
        }
    }
    let nested = text.starts_with('[') && kinds.has(Kinds::ARRAY)
        || text.starts_with('{') && kinds.has(Kinds::OBJECT);
    if nested {
        if is_json(text) {
            return Some(Cow::Borrowed(text));
        }
        return literal::python_value(text).map(Cow::Owned);
    }
    // A model may put a string that is the only choice in JSON quotes or not; as it stands is as it is meant.
    None
}
