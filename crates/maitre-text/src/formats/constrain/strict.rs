//! What of a strict tool's schema a format's grammar does not make arguments follow.
//!
//! Arguments as JSON follow all that the compiler of JSON schemas knows. Elements hold texts without quotes, and literals
//! are those of another language: of these the grammar knows types and lists of texts.

use serde_json::{Map, Value};

use super::super::schema::Kinds;
use super::arguments::{Property, Schema};

/// Keywords that constrain nothing.
const ANNOTATIONS: [&str; 10] = [
    "$comment",
    "$id",
    "$schema",
    "default",
    "deprecated",
    "description",
    "examples",
    "readOnly",
    "title",
    "writeOnly",
];
/// Keywords of a whole schema that a list of arguments follows.
const OF_ARGUMENTS: [&str; 6] = [
    "$defs",
    "additionalProperties",
    "definitions",
    "properties",
    "required",
    "type",
];

/// How a format writes values that are not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// Texts without quotes; what is no text is JSON.
    Elements,
    /// Literals of another language.
    Literals,
}

impl Schema {
    /// The first keyword that arguments in this style are not made to follow, behind the argument that has it; the
    /// argument is empty for one of the whole schema.
    pub(super) fn not_followed(&self, style: Style) -> Option<(String, String)> {
        let of_root = beyond(self.root(), &OF_ARGUMENTS);
        if let Some(keyword) = of_root {
            return Some((String::new(), keyword));
        }
        let properties = self.properties().unwrap_or_default();
        properties.iter().find_map(|property| {
            let keyword = of_property(property, style)?;
            Some((property.name.to_owned(), keyword))
        })
    }
}

fn of_property(property: &Property<'_>, style: Style) -> Option<String> {
    let Value::Object(schema) = property.schema else {
        return None;
    };
    let is_text = |value: &&Value| value.is_string();
    let lists_texts = property
        .choices()
        .is_some_and(|values| values.iter().all(is_text));
    if lists_texts {
        return beyond(schema, &["type", "enum", "const"]);
    }
    let may_be_text = property.kinds.is_unknown() || property.kinds.has(Kinds::STRING);
    match style {
        Style::Elements if !may_be_text => None,
        Style::Elements | Style::Literals => beyond(schema, &["type"]),
    }
}

/// The first keyword that is neither one of these nor says nothing.
fn beyond(schema: &Map<String, Value>, followed: &[&str]) -> Option<String> {
    let is_followed =
        |key: &str| followed.contains(&key) || ANNOTATIONS.contains(&key) || key.starts_with("x-");
    schema.keys().find(|key| !is_followed(key)).cloned()
}
