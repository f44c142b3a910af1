//! A schema as the library takes it exactly. What says nothing is left out, and what the library understands too loosely or too
//! strictly is said in other keywords.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::{GrammarError, bounds, ecma, formats, multiples, names, nothing};

/// Keywords with one schema.
const ONE: [&str; 10] = [
    "additionalItems",
    "additionalProperties",
    "contains",
    "else",
    "if",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
];
/// Keywords with a list of schemas.
const LISTS: [&str; 4] = ["allOf", "anyOf", "oneOf", "prefixItems"];
/// Keywords with schemas by name.
const NAMED: [&str; 5] = [
    "$defs",
    "definitions",
    "dependentSchemas",
    "patternProperties",
    "properties",
];

/// Rewrites a schema, whose limits have been checked, and returns the letters that may follow a backslash in its texts, if not
/// all of JSON's.
pub(super) fn rewrite(schema: &mut Value) -> Result<Option<&'static str>, GrammarError> {
    multiples::check_together(schema)?;
    let mut walk = Walk {
        is_old: is_old(schema),
        path: "#".to_owned(),
        references: Vec::new(),
        names: names::Found::default(),
    };
    walk.visit(schema)?;
    // A reference may lead to where no keyword does, as `#/components/schemas/…` in OpenAPI.
    let mut seen = HashSet::new();
    while let Some(pointer) = walk.references.pop() {
        if !seen.insert(pointer.clone()) {
            continue;
        }
        if let Some(target) = schema.pointer_mut(&pointer) {
            walk.path = format!("#{pointer}");
            walk.visit(target)?;
        }
    }
    walk.names.escapes()
}

/// Adds constraints to those that a schema has.
pub(super) fn also(schema: &mut Map<String, Value>, more: impl IntoIterator<Item = Value>) {
    let all = schema
        .entry("allOf")
        .or_insert_with(|| Value::Array(Vec::new()));
    if let Value::Array(all) = all {
        all.extend(more);
    }
}

/// Whether the schema is of a draft before 2019-09.
fn is_old(schema: &Value) -> bool {
    let draft = schema.get("$schema").and_then(Value::as_str);
    draft.is_some_and(|it| {
        ["draft-04", "draft-06", "draft-07"]
            .iter()
            .any(|old| it.contains(old))
    })
}

/// Writes the patterns of a schema as the library reads them.
fn patterns(schema: &mut Map<String, Value>) {
    if let Some(Value::String(pattern)) = schema.get_mut("pattern") {
        *pattern = ecma::to_rust(pattern);
    }
    if let Some(Value::Object(named)) = schema.get_mut("patternProperties") {
        let rewritten = std::mem::take(named).into_iter();
        *named = rewritten
            .map(|(key, value)| (ecma::to_rust(&key), value))
            .collect();
    }
}

struct Walk {
    is_old: bool,
    /// Where the walk is, as a JSON pointer.
    path: String,
    /// Places that references lead to.
    references: Vec<String>,
    names: names::Found,
}

impl Walk {
    /// The levels are bounded.
    fn visit(&mut self, schema: &mut Value) -> Result<(), GrammarError> {
        let Value::Object(map) = schema else {
            return Ok(());
        };
        nothing::leave_out(map, self.is_old);
        patterns(map);
        formats::spell_out(map);
        multiples::spell_out(map, &self.path)?;
        bounds::spell_out(map);
        self.names.look_at(map, &self.path)?;
        if let Some(Value::String(reference)) = map.get("$ref") {
            self.references.extend(pointer(reference));
        }
        for (key, value) in map {
            if key == "items" {
                match value {
                    Value::Array(_) => self.visit_all(key, value)?,
                    one => self.step(key, one)?,
                }
            } else if ONE.contains(&key.as_str()) {
                self.step(key, value)?;
            } else if LISTS.contains(&key.as_str()) || NAMED.contains(&key.as_str()) {
                self.visit_all(key, value)?;
            }
        }
        Ok(())
    }

    fn visit_all(&mut self, key: &str, values: &mut Value) -> Result<(), GrammarError> {
        let len = self.enter(key);
        match values {
            Value::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.step(&index.to_string(), item)?;
                }
            }
            Value::Object(map) => {
                for (name, value) in map {
                    self.step(name, value)?;
                }
            }
            _ => {}
        }
        self.path.truncate(len);
        Ok(())
    }

    fn step(&mut self, key: &str, schema: &mut Value) -> Result<(), GrammarError> {
        let len = self.enter(key);
        self.visit(schema)?;
        self.path.truncate(len);
        Ok(())
    }

    fn enter(&mut self, key: &str) -> usize {
        let len = self.path.len();
        self.path.push('/');
        self.path.push_str(key);
        len
    }
}

/// The JSON pointer of a reference, decoded.
fn pointer(reference: &str) -> Option<String> {
    let (_, fragment) = reference.split_once('#')?;
    if !fragment.is_empty() && !fragment.starts_with('/') {
        return None;
    }
    let mut bytes = Vec::with_capacity(fragment.len());
    let mut rest = fragment.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|it| std::str::from_utf8(it).ok());
        match code.and_then(|it| u8::from_str_radix(it, 16).ok()) {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn references_lead_to_schemas_that_no_keyword_holds() {
        let mut schema = json!({
            "$ref": "#/components/a%20b/x~1y",
            "components": {"a b": {"x/y": {"items": {"uniqueItems": false}, "format": "uuid"}}},
        });
        rewrite(&mut schema).unwrap();
        let target = &schema["components"]["a b"]["x/y"];
        assert_eq!(target["items"], json!({}));
        assert!(target.get("format").is_none() && target.get("pattern").is_some());
    }

    #[test]
    fn values_are_no_schemas() {
        let value = json!({"uniqueItems": false, "format": "date"});
        let schema = json!({
            "enum": [value], "const": value, "default": value, "examples": [value],
            "properties": {"uniqueItems": {"const": false}, "format": true},
        });
        let mut rewritten = schema.clone();
        rewrite(&mut rewritten).unwrap();
        assert_eq!(rewritten, schema);
    }

    #[test]
    fn references_are_decoded() {
        for (reference, expected) in [
            ("#", Some("")),
            ("#/a", Some("/a")),
            ("https://example.com/x#/%C3%A4%", Some("/ä%")),
            ("#anchor", None),
            ("other", None),
            ("#/%ff", None),
        ] {
            assert_eq!(pointer(reference).as_deref(), expected, "{reference}");
        }
    }
}
