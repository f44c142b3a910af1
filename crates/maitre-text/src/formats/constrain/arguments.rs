//! The grammar of a call's arguments, from the schema of its tool.

use serde_json::{Map, Value, json};

use super::super::description::Parameters;
use super::super::literal::{self, Dialect};
use super::super::schema::Kinds;
use super::super::tools::Tool;
use super::super::values::can_be_key;
use super::literals;
use super::writer::{Writer, quote};

/// Names of arguments that no schema names.
const ANY_KEY: &str = "/[a-zA-Z_][a-zA-Z0-9_]{0,63}/";
/// Keywords of a schema that subschemas refer to.
const DEFINITIONS: [&str; 2] = ["$defs", "definitions"];

/// The schema of a tool's arguments.
pub(super) struct Schema {
    root: Map<String, Value>,
    /// Whether arguments have to follow it.
    follow: bool,
}

/// One argument of a schema.
pub(super) struct Property<'a> {
    pub(super) name: &'a str,
    pub(super) schema: &'a Value,
    pub(super) kinds: Kinds,
    pub(super) required: bool,
}

impl Property<'_> {
    /// The values, if the schema lists them.
    pub(super) fn choices(&self) -> Option<Vec<&Value>> {
        if let Some(value) = self.schema.get("const") {
            return Some(vec![value]);
        }
        let values = self.schema.get("enum")?.as_array()?;
        (!values.is_empty()).then(|| values.iter().collect())
    }
}

impl Schema {
    pub(super) fn new(tool: &Tool, follow: bool) -> Self {
        let root = match tool.schema() {
            Value::Object(root) => root,
            _ => Map::new(),
        };
        Self { root, follow }
    }

    pub(super) fn root(&self) -> &Map<String, Value> {
        &self.root
    }

    /// A JSON object.
    pub(super) fn as_json(&self) -> String {
        match self.follow {
            true => json_rule(&Value::Object(self.root.clone())),
            false => json_rule(&json!({"type": "object"})),
        }
    }

    /// The arguments that the schema names; nothing if it names none and allows any.
    pub(super) fn properties(&self) -> Option<Vec<Property<'_>>> {
        let named = self.root.get("properties").and_then(Value::as_object);
        let open = self.root.get("additionalProperties") != Some(&Value::Bool(false));
        let properties = match named {
            None if open => return None,
            None => return Some(Vec::new()),
            Some(properties) => properties,
        };
        let required = self.root.get("required").and_then(Value::as_array);
        let is_required = |name: &str| {
            required.is_some_and(|names| names.iter().any(|required| required == name))
        };
        Some(
            properties
                .iter()
                .map(|(name, schema)| Property {
                    name,
                    schema,
                    kinds: Kinds::of_schema(&self.root, schema),
                    required: self.follow && is_required(name),
                })
                .collect(),
        )
    }

    /// A part of the schema, with the definitions that it may refer to.
    fn with_definitions(&self, schema: &Value) -> Value {
        let Value::Object(fields) = schema else {
            return schema.clone();
        };
        let mut fields = fields.clone();
        for key in DEFINITIONS {
            if let Some(definitions) = self.root.get(key) {
                fields.entry(key).or_insert_with(|| definitions.clone());
            }
        }
        Value::Object(fields)
    }

    /// One element for each argument, in the order of the schema.
    pub(super) fn as_elements(
        &self,
        parameters: &Parameters,
        index: usize,
        writer: &mut Writer<'_>,
    ) -> String {
        let Some(properties) = self.properties() else {
            let open = writer.literal(parameters.open);
            let text = self.text_element(parameters, writer);
            let name = format!("any_{index}");
            writer.rule(&name, &format!("{open} {ANY_KEY} {text}"));
            return format!("{name}*");
        };
        let mut elements = Vec::new();
        let can_be_read = |name: &str| can_be_key(name, parameters);
        let known = properties
            .iter()
            .filter(|property| can_be_read(property.name));
        for (at, property) in known.enumerate() {
            let name = format!("argument_{index}_{at}");
            let open = writer.literal(&format!("{}{}", parameters.open, property.name));
            let value = self.element(property, parameters, writer);
            writer.rule(&name, &format!("{open} {value}"));
            elements.push(match property.required {
                true => name,
                false => format!("{name}?"),
            });
        }
        elements.join(" ")
    }

    /// The value of an element, with the marks around it.
    fn element(
        &self,
        property: &Property<'_>,
        parameters: &Parameters,
        writer: &mut Writer<'_>,
    ) -> String {
        let kinds = property.kinds;
        let choices = property.choices().filter(|_| self.follow);
        let texts = choices.and_then(|values| {
            let close = parameters.value_close.trim();
            let text = |value: &&Value| value.as_str().map(str::to_owned);
            let values = values
                .iter()
                .filter(|value| value.as_str().is_none_or(|text| !text.contains(close)));
            values.map(text).collect::<Option<Vec<String>>>()
        });
        if let Some(texts) = texts {
            let text = |text: &String| {
                let (before, after) = around(parameters, parameters.key_close);
                writer.literal(&format!("{before}{text}{after}"))
            };
            let texts: Vec<String> = texts.iter().map(text).collect();
            return format!("({})", texts.join(" | "));
        }
        let text = kinds.is_unknown() || kinds.has(Kinds::STRING) || !self.follow;
        if text && parameters.json_key_close.is_none() {
            return self.text_element(parameters, writer);
        }
        let json = self.json_element(property.schema, parameters, writer);
        match text {
            false => json,
            true if kinds == Kinds::STRING => self.text_element(parameters, writer),
            // The format tells which of the two it is.
            true => format!("({} | {json})", self.text_element(parameters, writer)),
        }
    }

    fn json_element(&self, schema: &Value, parameters: &Parameters, writer: &Writer<'_>) -> String {
        let key_close = parameters.json_key_close.unwrap_or(parameters.key_close);
        let (before, after) = around(parameters, key_close);
        let (before, after) = (writer.literal(&before), writer.literal(&after));
        let schema = match self.follow {
            true => self.with_definitions(schema),
            false => json!({}),
        };
        format!("{before} {} {after}", json_rule(&schema))
    }

    fn text_element(&self, parameters: &Parameters, writer: &mut Writer<'_>) -> String {
        let (before, _) = around(parameters, parameters.key_close);
        let before = writer.literal(&before);
        let close = parameters.value_close.trim_end();
        let text = writer.text_until(close);
        let after = parameters.value_close.get(close.len()..).unwrap_or("");
        format!("{before} {text} {}", writer.literal(after))
    }

    /// Arguments as literals, those that are required first.
    pub(super) fn as_literals(
        &self,
        dialect: Dialect,
        index: usize,
        writer: &mut Writer<'_>,
    ) -> String {
        let literals = literals::Literals::new(dialect, writer);
        let comma = quote(literals.comma());
        let assign = dialect.assign();
        let Some(mut properties) = self.properties() else {
            let value = literals.any();
            let argument = format!("{ANY_KEY} \"{assign}\" {value}");
            return format!("({argument} ({comma} {argument})*)?");
        };
        properties.retain(|property| literal::is_argument_name(property.name));
        properties.sort_by_key(|property| !property.required);
        let num_required = properties
            .iter()
            .filter(|property| property.required)
            .count();
        let num = properties.len();
        for (at, property) in properties.iter().enumerate().rev() {
            let before = quote(&format!("{}{assign}", property.name));
            let value = literals.value(property, self.follow, writer);
            writer.rule(
                &format!("argument_{index}_{at}"),
                &format!("{before} {value}"),
            );
            // What may follow once this one is passed over or written.
            let rest = match at + 1 < num {
                true => format!("rest_{index}_{}", at + 1),
                false => String::new(),
            };
            let this = format!("{comma} argument_{index}_{at}");
            let body = match property.required {
                true => format!("{this} {rest}"),
                false => format!("({this})? {rest}"),
            };
            writer.rule(&format!("rest_{index}_{at}"), &body);
        }
        let first = |at: usize| match at + 1 < num {
            true => format!("argument_{index}_{at} rest_{index}_{}", at + 1),
            false => format!("argument_{index}_{at}"),
        };
        match (num, num_required) {
            (0, _) => String::new(),
            (_, 0) => {
                let firsts: Vec<String> = (0..num).map(first).collect();
                format!("({})?", firsts.join(" | "))
            }
            _ => first(0),
        }
    }
}

/// JSON of a schema, with the white space that templates write (`tojson`): where white space is free, a model may
/// write it without end. `oneOf` is read as `anyOf`, which no grammar can tell apart in general.
fn json_rule(schema: &Value) -> String {
    let Value::Object(fields) = schema else {
        return format!("%json {schema}");
    };
    let mut fields = fields.clone();
    let style = json!({
        "item_separator": ", ",
        "key_separator": ": ",
        "whitespace_flexible": false,
        "coerce_one_of": true,
    });
    fields.insert("x-guidance".into(), style);
    format!("%json {}", Value::Object(fields))
}

/// What stands before and after a value.
fn around(parameters: &Parameters, key_close: &str) -> (String, String) {
    let line = if parameters.own_lines { "\n" } else { "" };
    (
        format!("{key_close}{line}"),
        format!("{line}{}", parameters.value_close),
    )
}
