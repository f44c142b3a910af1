//! The names of an object. A text with a name twice is JSON, and a reader keeps one of the two: what such an answer meets before it
//! is read, it need not meet behind.

use regex_syntax::hir::{Hir, HirKind};
use serde_json::{Map, Value};

use super::{GrammarError, nothing};

/// Every escape of JSON but `\u`, in the order of the library's own set.
const NO_CODES: &str = "nrbtf\\\"";

/// What stands in a schema that matters for names.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Whether an object has both names that the schema lists, and names that it doesn't.
    is_open: bool,
    /// Where a text has to have a character that only a code writes.
    needs_codes: Option<String>,
}

impl Found {
    /// Looks at a schema, without the schemas in it.
    pub(super) fn look_at(
        &mut self,
        schema: &Map<String, Value>,
        path: &str,
    ) -> Result<(), GrammarError> {
        let is_empty = |key: &str| match schema.get(key) {
            Some(Value::Object(map)) => map.is_empty(),
            Some(Value::Array(list)) => list.is_empty(),
            _ => true,
        };
        let no_others = schema
            .get("additionalProperties")
            .is_some_and(nothing::is_false);
        let is_closed = no_others && is_empty("patternProperties");
        let has_names =
            !(is_empty("properties") && is_empty("required") && is_empty("patternProperties"));
        self.is_open |= has_names && !is_closed;
        if self.needs_codes.is_none() && needs_codes(schema) {
            self.needs_codes = Some(path.to_owned());
        }
        if is_closed {
            return Ok(());
        }
        enough_names(schema, path)
    }

    /// The letters that may follow a backslash, if not all of JSON's. Where a name can be written in two ways, with `a` and with
    /// `\u0061`, a name that the schema lists could come again among the others.
    pub(super) fn escapes(&self) -> Result<Option<&'static str>, GrammarError> {
        match &self.needs_codes {
            _ if !self.is_open => Ok(None),
            None => Ok(Some(NO_CODES)),
            Some(path) => Err(GrammarError::Unsupported {
                reason: format!(
                    "a control character at {path} is not supported beside an object that has other names than those of its \
                     properties (additionalProperties)"
                ),
            }),
        }
    }
}

/// Refuses `minProperties` where names that came twice could make up for those that are missing.
fn enough_names(schema: &Map<String, Value>, path: &str) -> Result<(), GrammarError> {
    let Some(least) = schema.get("minProperties").and_then(Value::as_u64) else {
        return Ok(());
    };
    let may_be_object = match schema.get("type") {
        None => true,
        Some(Value::Array(types)) => types.iter().any(|it| it == "object"),
        Some(one) => one == "object",
    };
    let required = schema.get("required").and_then(Value::as_array);
    let mut required: Vec<&str> = required
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    required.sort_unstable();
    required.dedup();
    // One name beside the required ones is none of them.
    let sure = required.len() as u64 + 1;
    if !may_be_object || least <= sure {
        return Ok(());
    }
    Err(GrammarError::Unsupported {
        reason: format!(
            "minProperties {least} at {path} is not supported: a name could come twice, so at most {sure} can be asked for, one \
             more than are required"
        ),
    })
}

/// Whether a text that meets the schema has to have a control character without a short escape.
fn needs_codes(schema: &Map<String, Value>) -> bool {
    let values = ["const", "enum"]
        .into_iter()
        .filter_map(|key| schema.get(key));
    let mut values: Vec<&Value> = values.collect();
    while let Some(value) = values.pop() {
        match value {
            Value::String(text) if text.chars().any(is_code) => return true,
            Value::Array(items) => values.extend(items),
            Value::Object(map) => values.extend(map.values()),
            _ => {}
        }
    }
    let pattern = schema.get("pattern").and_then(Value::as_str);
    let named = schema.get("patternProperties").and_then(Value::as_object);
    let named = named.into_iter().flat_map(Map::keys).map(String::as_str);
    let mut patterns = pattern.into_iter().chain(named);
    patterns.any(|it| regex_syntax::parse(it).is_ok_and(|it| spells_code(&it)))
}

fn is_code(char: char) -> bool {
    char.is_ascii_control() && !matches!(char, '\u{8}' | '\u{c}' | '\n' | '\r' | '\t')
}

/// Whether every text that a regular expression matches has such a character. The parser has bounded the levels.
fn spells_code(regex: &Hir) -> bool {
    match regex.kind() {
        HirKind::Literal(literal) => literal.0.iter().any(|&byte| is_code(char::from(byte))),
        HirKind::Class(class) => {
            let text = class.literal();
            let only = |start: char, end: char| (start..=end).all(is_code);
            text.is_some_and(|it| it.iter().any(|&byte| is_code(char::from(byte))))
                || match class {
                    regex_syntax::hir::Class::Unicode(class) => {
                        let mut ranges = class.iter();
                        !class.ranges().is_empty() && ranges.all(|it| only(it.start(), it.end()))
                    }
                    regex_syntax::hir::Class::Bytes(_) => false,
                }
        }
        HirKind::Repetition(repetition) => repetition.min > 0 && spells_code(&repetition.sub),
        HirKind::Capture(capture) => spells_code(&capture.sub),
        HirKind::Concat(parts) => parts.iter().any(spells_code),
        HirKind::Alternation(parts) => parts.iter().all(spells_code),
        HirKind::Empty | HirKind::Look(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(schema: &Value) -> Result<Option<&'static str>, String> {
        let mut found = Found::default();
        let map = schema.as_object().unwrap();
        let looked = found.look_at(map, "#/x").and_then(|()| found.escapes());
        looked.map_err(|error| error.to_string())
    }

    #[test]
    fn codes_are_left_out_where_a_name_could_come_again() {
        for (schema, expected) in [
            (json!({"properties": {"a": {}}}), Some(NO_CODES)),
            (json!({"required": ["a"]}), Some(NO_CODES)),
            (
                json!({"patternProperties": {"^a": {}}, "additionalProperties": false}),
                Some(NO_CODES),
            ),
            (
                json!({"properties": {"a": {}}, "additionalProperties": false}),
                None,
            ),
            (json!({"type": "object"}), None),
            (json!({"const": "\u{1}"}), None),
        ] {
            assert_eq!(found(&schema), Ok(expected), "{schema}");
        }
        for says in [
            json!({"const": {"k": ["\u{1}"]}}),
            json!({"enum": ["a", "\u{7f}"]}),
            json!({"pattern": "^a?(\\x1bx|\\x1cyz)$"}),
            json!({"pattern": "[\\x01-\\x03]"}),
        ] {
            let mut schema = json!({"properties": {"a": {}}});
            let pairs = says.as_object().unwrap().clone();
            schema.as_object_mut().unwrap().extend(pairs);
            let message = found(&schema).unwrap_err();
            assert!(message.contains("control character at #/x"), "{message}");
        }
        let any = json!({"properties": {"a": {}}, "pattern": "^[^a].\\s(\\x1bx|yz)\\x1b*$", "const": "\n\t"});
        assert_eq!(found(&any), Ok(Some(NO_CODES)));
    }

    #[test]
    fn at_most_one_name_is_asked_for_that_is_not_required() {
        for (schema, is_taken) in [
            (json!({"minProperties": 1}), true),
            (json!({"minProperties": 2}), false),
            (json!({"minProperties": 2, "required": ["a"]}), true),
            (json!({"minProperties": 3, "required": ["a", "a"]}), false),
            (
                json!({"minProperties": 3, "additionalProperties": false}),
                true,
            ),
            (
                json!({"minProperties": 2, "type": ["string", "null"]}),
                true,
            ),
            (
                json!({"minProperties": 2, "type": ["string", "object"]}),
                false,
            ),
            (
                json!({"minProperties": 2, "additionalProperties": false, "patternProperties": {"a": {}}}),
                false,
            ),
        ] {
            let found = found(&schema);
            assert_eq!(found.is_ok(), is_taken, "{schema}: {found:?}");
            if let Err(message) = found {
                assert!(message.starts_with("minProperties"), "{message}");
            }
        }
    }
}
