//! The grammar of literals: Python's and Gemma's.

use serde_json::Value;

use super::super::literal::Dialect;
use super::super::schema::Kinds;
use super::arguments::Property;
use super::writer::{Writer, quote};

const PYTHON_STRING: &str = r#"/"([^"\\\n\r]|\\["\\nt])*"/"#;
const INTEGER: &str = "/-?(0|[1-9][0-9]{0,17})/";
const NUMBER: &str = r"/-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,17})?([eE][+-]?[0-9]{1,2})?/";

/// The values of a dialect: rules for any value were written, and parts of them can be named.
pub(super) struct Literals {
    dialect: Dialect,
    text: String,
}

impl Literals {
    /// Writes the rules, unless they are there.
    pub(super) fn new(dialect: Dialect, writer: &mut Writer<'_>) -> Self {
        let text = match dialect {
            Dialect::Python => PYTHON_STRING.to_owned(),
            Dialect::Gemma(_) => "text_literal".to_owned(),
        };
        let literals = Self { dialect, text };
        if writer.begin_once("literal") {
            literals.write_rules(writer);
        }
        literals
    }

    fn write_rules(&self, writer: &mut Writer<'_>) {
        let comma = quote(self.comma());
        let (yes, no, null) = self.words();
        let text = &self.text;
        let key = match self.dialect {
            Dialect::Python => format!("{text} \": \""),
            Dialect::Gemma(mark) => {
                let open = writer.literal(mark);
                let rest = writer.text_until(mark);
                writer.rule("text_literal", &format!("{open} {rest}"));
                "/[a-zA-Z_][a-zA-Z0-9_]{0,63}/ \":\"".to_owned()
            }
        };
        writer.rule(
            "list_literal",
            &format!("\"[\" (literal ({comma} literal)*)? \"]\""),
        );
        writer.rule("entry_literal", &format!("{key} literal"));
        writer.rule(
            "object_literal",
            &format!("\"{{\" (entry_literal ({comma} entry_literal)*)? \"}}\""),
        );
        writer.rule(
            "literal",
            &format!(
                "{text} | {NUMBER} | \"{yes}\" | \"{no}\" | \"{null}\" | list_literal | object_literal"
            ),
        );
    }

    /// What stands between arguments and between items.
    pub(super) fn comma(&self) -> &'static str {
        match self.dialect {
            Dialect::Python => ", ",
            Dialect::Gemma(_) => ",",
        }
    }

    fn words(&self) -> (&'static str, &'static str, &'static str) {
        match self.dialect {
            Dialect::Python => ("True", "False", "None"),
            Dialect::Gemma(_) => ("true", "false", "null"),
        }
    }

    /// Any value.
    pub(super) fn any(&self) -> &'static str {
        "literal"
    }

    /// A value of an argument.
    pub(super) fn value(
        &self,
        property: &Property<'_>,
        follow: bool,
        writer: &Writer<'_>,
    ) -> String {
        let kinds = property.kinds;
        if !follow || kinds.is_unknown() {
            return self.any().to_owned();
        }
        let choices = property
            .choices()
            .and_then(|values| self.choices(&values, writer));
        if let Some(choices) = choices {
            return choices;
        }
        let (yes, no, null) = self.words();
        let mut values = Vec::new();
        if kinds.has(Kinds::STRING) {
            values.push(self.text.clone());
        }
        if kinds.has(Kinds::NUMBER) {
            values.push(NUMBER.to_owned());
        } else if kinds.has(Kinds::INTEGER) {
            values.push(INTEGER.to_owned());
        }
        if kinds.has(Kinds::BOOLEAN) {
            values.push(format!("\"{yes}\" | \"{no}\""));
        }
        if kinds.has(Kinds::NULL) {
            values.push(format!("\"{null}\""));
        }
        if kinds.has(Kinds::ARRAY) {
            values.push("list_literal".into());
        }
        if kinds.has(Kinds::OBJECT) {
            values.push("object_literal".into());
        }
        format!("({})", values.join(" | "))
    }

    /// The values that a schema lists, if they are texts.
    fn choices(&self, values: &[&Value], writer: &Writer<'_>) -> Option<String> {
        let text = |value: &&Value| {
            let text = value.as_str()?;
            Some(match self.dialect {
                // Python reads the escapes of JSON.
                Dialect::Python => quote(&quote(text)),
                Dialect::Gemma(mark) if text.contains(mark) => return None,
                Dialect::Gemma(mark) => writer.literal(&format!("{mark}{text}{mark}")),
            })
        };
        let texts: Option<Vec<String>> = values.iter().map(text).collect();
        Some(format!("({})", texts?.join(" | ")))
    }
}
