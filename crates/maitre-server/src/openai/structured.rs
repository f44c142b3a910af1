//! What an answer has to be like: `response_format`, which is OpenAI's, and `structured_outputs`, which is vLLM's.

use maitre_engine::ConstraintHandle;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::json::IsGiven;
use crate::service::violations::Violations;

/// The fields that constrain an answer.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
pub(super) struct Structured {
    /// OpenAI's way.
    pub(super) response_format: Option<ResponseFormat>,
    /// vLLM's way.
    pub(super) structured_outputs: Option<StructuredOutputs>,
    /// Names of vLLM's before it had `structured_outputs`.
    #[serde(default)]
    #[schema(ignore)]
    guided_json: IsGiven,
    #[serde(default)]
    #[schema(ignore)]
    guided_regex: IsGiven,
    #[serde(default)]
    #[schema(ignore)]
    guided_choice: IsGiven,
    #[serde(default)]
    #[schema(ignore)]
    guided_grammar: IsGiven,
}

/// `{"type": "text" | "json_object" | "json_schema", …}`.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub(super) struct ResponseFormat {
    /// Which kind.
    r#type: String,
    /// The schema, for `json_schema`.
    json_schema: Option<SchemaFormat>,
    /// The rest, for `structural_tag`.
    #[serde(default)]
    structures: Option<Value>,
    #[serde(default)]
    format: Option<Value>,
}

/// A schema and its name.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub(super) struct SchemaFormat {
    /// What the client calls it; not used.
    #[serde(default)]
    #[expect(dead_code, reason = "part of the message")]
    name: Option<String>,
    /// The JSON schema.
    #[serde(default)]
    schema: Option<Map<String, Value>>,
}

/// One of these.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
pub(super) struct StructuredOutputs {
    /// A JSON schema, as an object or as text.
    json: Option<Value>,
    /// A regular expression.
    regex: Option<String>,
    /// One of these texts.
    choice: Option<Vec<String>>,
    /// A context-free grammar.
    grammar: Option<String>,
    /// Any JSON object.
    json_object: Option<bool>,
    /// Tags, and what is inside them.
    structural_tag: Option<Value>,
}

/// What an answer has to be like.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Form {
    /// Any JSON object.
    JsonObject,
    /// JSON of this schema.
    Schema(Value),
    /// A text that this regular expression matches.
    Regex(String),
    /// One of these texts.
    Choice(Vec<String>),
    /// A text of this grammar.
    Grammar(String),
    /// Tags, and what is inside them.
    StructuralTag(Value),
}

impl Structured {
    /// What the answer has to be like, and the field that says so.
    pub(super) fn form(&self, found: &mut Violations) -> Option<(&'static str, Form)> {
        for (field, given) in [
            ("guided_json", self.guided_json),
            ("guided_regex", self.guided_regex),
            ("guided_choice", self.guided_choice),
            ("guided_grammar", self.guided_grammar),
        ] {
            if given.0 {
                found.add(field, "is not supported here; use structured_outputs");
            }
        }
        let format = self.response_format.as_ref();
        let format = format.and_then(|format| of_format(format, found));
        let outputs = self.structured_outputs.as_ref();
        let outputs = outputs.and_then(|outputs| of_outputs(outputs, found));
        if format.is_some() && outputs.is_some() {
            found.add(
                "structured_outputs",
                "is given beside response_format; give one of them",
            );
        }
        format.or(outputs)
    }
}

fn of_format(format: &ResponseFormat, found: &mut Violations) -> Option<(&'static str, Form)> {
    let form = match format.r#type.as_str() {
        "text" => return None,
        "json_object" => Form::JsonObject,
        "json_schema" => {
            let schema = format.json_schema.as_ref().and_then(|it| it.schema.clone());
            let Some(schema) = schema else {
                found.add("response_format.json_schema.schema", "is missing");
                return None;
            };
            Form::Schema(Value::Object(schema))
        }
        "structural_tag" => Form::StructuralTag(
            format
                .structures
                .clone()
                .or_else(|| format.format.clone())
                .unwrap_or_default(),
        ),
        other => {
            found.add(
                "response_format.type",
                format!("is {other:?}; expected text, json_object, json_schema or structural_tag"),
            );
            return None;
        }
    };
    Some(("response_format", form))
}

fn of_outputs(given: &StructuredOutputs, found: &mut Violations) -> Option<(&'static str, Form)> {
    let json_object = given.json_object == Some(true);
    let forms = [
        given.json.clone().map(Form::Schema),
        given.regex.clone().map(Form::Regex),
        given.choice.clone().map(Form::Choice),
        given.grammar.clone().map(Form::Grammar),
        json_object.then_some(Form::JsonObject),
        given.structural_tag.clone().map(Form::StructuralTag),
    ];
    let mut forms = forms.into_iter().flatten();
    let form = forms.next();
    if form.is_none() || forms.next().is_some() {
        let description =
            "expected exactly one of json, regex, choice, grammar, json_object and structural_tag";
        found.add("structured_outputs", description);
    }
    form.map(|form| ("structured_outputs", form))
}

/// The constraint of a form. The engine has none for any yet: the field is refused.
pub(super) fn constraint(
    (field, form): (&'static str, Form),
    found: &mut Violations,
) -> Option<ConstraintHandle> {
    let what = match form {
        Form::JsonObject => "JSON",
        Form::Schema(_) => "JSON of a schema",
        Form::Regex(_) => "a text that a regular expression matches",
        Form::Choice(_) => "one of several texts",
        Form::Grammar(_) => "a text of a grammar",
        Form::StructuralTag(_) => "a text with structural tags",
    };
    found.add(
        field,
        format!("asks for {what}, which this server cannot hold an answer to yet; leave it out"),
    );
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openai::json;
    use serde_json::json;

    fn form(text: &str) -> Result<Option<(&'static str, Form)>, Vec<String>> {
        let mut found = Violations::default();
        let given: Structured = json::fields(text.as_bytes()).unwrap();
        let form = given.form(&mut found);
        if found.is_empty() {
            return Ok(form);
        }
        Err(found.fields().into_iter().map(str::to_owned).collect())
    }

    #[test]
    fn every_form_is_understood() {
        let schema = json!({"type": "object"});
        for (text, expected) in [
            (r#"{}"#, None),
            (r#"{"response_format": null}"#, None),
            (r#"{"response_format": {"type": "text"}}"#, None),
            (
                r#"{"response_format": {"type": "json_object"}}"#,
                Some(("response_format", Form::JsonObject)),
            ),
            (
                r#"{"response_format": {"type": "json_schema",
                    "json_schema": {"name": "x", "schema": {"type": "object"}, "strict": true}}}"#,
                Some(("response_format", Form::Schema(schema.clone()))),
            ),
            (
                r#"{"structured_outputs": {"json": {"type": "object"}}}"#,
                Some(("structured_outputs", Form::Schema(schema))),
            ),
            (
                r#"{"structured_outputs": {"regex": "a+"}}"#,
                Some(("structured_outputs", Form::Regex("a+".into()))),
            ),
            (
                r#"{"structured_outputs": {"choice": ["a", "b"]}}"#,
                Some((
                    "structured_outputs",
                    Form::Choice(vec!["a".into(), "b".into()]),
                )),
            ),
            (
                r#"{"structured_outputs": {"grammar": "root ::= \"a\""}}"#,
                Some(("structured_outputs", Form::Grammar("root ::= \"a\"".into()))),
            ),
            (
                r#"{"structured_outputs": {"json_object": true}}"#,
                Some(("structured_outputs", Form::JsonObject)),
            ),
        ] {
            assert_eq!(form(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_says_nothing_or_two_things_is_refused() {
        for (text, field) in [
            (
                r#"{"response_format": {"type": "xml"}}"#,
                "response_format.type",
            ),
            (
                r#"{"response_format": {"type": "json_schema"}}"#,
                "response_format.json_schema.schema",
            ),
            (r#"{"structured_outputs": {}}"#, "structured_outputs"),
            (
                r#"{"structured_outputs": {"regex": "a", "grammar": "b"}}"#,
                "structured_outputs",
            ),
            (
                r#"{"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}}"#,
                "structured_outputs",
            ),
            (r#"{"guided_regex": "a"}"#, "guided_regex"),
        ] {
            assert_eq!(form(text), Err(vec![field.to_owned()]), "{text}");
        }
    }
}
