//! What an answer has to be like: `response_format`, which is OpenAI's, and `structured_outputs`, which is vLLM's.

use maitre_engine::{GrammarOptions, GrammarSpec, JsonWhitespace};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::json::IsGiven;
use super::plain_words::error_of_syntax;
use super::schemas;
use super::structural_tag::{StructuralTagText, Structure};
use crate::service::violations::Violations;

/// The fields that constrain an answer.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
pub(super) struct Structured {
    /// OpenAI's way.
    pub(super) response_format: Option<ResponseFormat>,
    /// vLLM's way.
    pub(super) structured_outputs: Option<StructuredOutputs>,
    /// As `structured_outputs.json`: vLLM's name before it had `structured_outputs`; so are the next three.
    #[schema(schema_with = schemas::json_schema)]
    guided_json: Option<Value>,
    /// As `structured_outputs.regex`.
    guided_regex: Option<String>,
    /// As `structured_outputs.choice`.
    guided_choice: Option<Vec<String>>,
    /// As `structured_outputs.grammar`.
    guided_grammar: Option<String>,
    #[serde(default)]
    #[schema(ignore)]
    guided_whitespace_pattern: IsGiven,
}

/// `{"type": "text" | "json_object" | "json_schema", …}`.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub(super) struct ResponseFormat {
    /// Which kind.
    r#type: String,
    /// The schema, for `json_schema`.
    json_schema: Option<SchemaFormat>,
    /// For `structural_tag`: what stands between which marks.
    #[serde(default)]
    structures: Option<Vec<Structure>>,
    /// For `structural_tag`: the texts that begin such parts.
    #[serde(default)]
    triggers: Option<Vec<String>>,
    /// For `structural_tag`, in place of both: `triggered_tags` as xgrammar has them.
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
    #[schema(schema_with = schemas::json_schema)]
    json: Option<Value>,
    /// A regular expression.
    regex: Option<String>,
    /// One of these texts.
    choice: Option<Vec<String>>,
    /// A context-free grammar.
    grammar: Option<String>,
    /// Any JSON object.
    json_object: Option<bool>,
    /// Tags, and what is inside them, as an object or as text.
    #[schema(schema_with = schemas::object_or_text)]
    structural_tag: Option<Value>,
    /// Whether JSON has no whitespace between its parts.
    disable_any_whitespace: Option<bool>,
    #[serde(default)]
    #[schema(ignore)]
    whitespace_pattern: IsGiven,
}

/// What an answer has to be like, and the field that says so.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Form {
    pub(super) field: &'static str,
    pub(super) spec: GrammarSpec,
}

impl Form {
    /// The same for the engine.
    pub(super) fn options(self) -> GrammarOptions {
        GrammarOptions {
            spec: self.spec,
            reasoning_end: None,
        }
    }
}

impl Structured {
    /// What the answer has to be like.
    pub(super) fn form(&self, found: &mut Violations) -> Option<Form> {
        let older: Vec<Form> = self.of_older_names(found);
        let format = self.response_format.as_ref();
        let format = format.and_then(|format| of_format(format, found));
        let outputs = self.structured_outputs.as_ref();
        let outputs = outputs.and_then(|outputs| of_outputs(outputs, found));
        if self.guided_whitespace_pattern.0 {
            found.add("guided_whitespace_pattern", NO_PATTERN);
        }
        let mut forms = format.into_iter().chain(outputs).chain(older);
        let form = forms.next()?;
        for another in forms {
            let field = match another.field.starts_with("structured_outputs") {
                true => "structured_outputs",
                false => another.field,
            };
            let first = form.field.split('.').next().unwrap_or_default();
            found.add(field, format!("is given beside {first}; give one of them"));
        }
        Some(form)
    }

    /// What the names say that vLLM had before `structured_outputs`.
    fn of_older_names(&self, found: &mut Violations) -> Vec<Form> {
        let schema = self.guided_json.as_ref();
        let of_schema =
            |schema| schema_or_text("guided_json", schema, JsonWhitespace::Flexible, found);
        let forms = [
            ("guided_json", schema.and_then(of_schema)),
            (
                "guided_regex",
                self.guided_regex.clone().map(GrammarSpec::Regex),
            ),
            (
                "guided_choice",
                self.guided_choice.clone().map(GrammarSpec::Choice),
            ),
            (
                "guided_grammar",
                self.guided_grammar.clone().map(GrammarSpec::Grammar),
            ),
        ];
        forms
            .into_iter()
            .filter_map(|(field, spec)| Some(Form { field, spec: spec? }))
            .collect()
    }
}

/// What is said of white space in a notation of its own.
const NO_PATTERN: &str =
    "is not supported here; leave it out, or use structured_outputs with disable_any_whitespace";

/// A JSON schema as an object, or as text, which vLLM takes too.
fn schema_or_text(
    field: &str,
    schema: &Value,
    whitespace: JsonWhitespace,
    found: &mut Violations,
) -> Option<GrammarSpec> {
    let schema = match schema {
        Value::String(text) => {
            if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
                let said = error_of_syntax(&error);
                found.add(field, format!("is a text that is no JSON schema: {said}"));
                return None;
            }
            text.clone()
        }
        schema => schema.to_string(),
    };
    Some(GrammarSpec::JsonSchema { schema, whitespace })
}

fn of_format(format: &ResponseFormat, found: &mut Violations) -> Option<Form> {
    let (field, spec) = match format.r#type.as_str() {
        "text" => return None,
        "json_object" => ("response_format", json_object()),
        "json_schema" => {
            const FIELD: &str = "response_format.json_schema.schema";
            let schema = format.json_schema.as_ref().and_then(|it| it.schema.clone());
            let Some(schema) = schema else {
                found.add(FIELD, "is missing; give a JSON schema, an object");
                return None;
            };
            (FIELD, json_schema(&Value::Object(schema)))
        }
        "structural_tag" => {
            let tag = StructuralTagText::new(
                format.structures.clone(),
                format.triggers.clone(),
                format.format.clone(),
            );
            let field = "response_format";
            (field, GrammarSpec::StructuralTag(tag.read(field, found)?))
        }
        other => {
            found.add(
                "response_format.type",
                format!("is {other:?}; expected text, json_object, json_schema or structural_tag"),
            );
            return None;
        }
    };
    Some(Form { field, spec })
}

fn of_outputs(given: &StructuredOutputs, found: &mut Violations) -> Option<Form> {
    if given.whitespace_pattern.0 {
        found.add("structured_outputs.whitespace_pattern", NO_PATTERN);
    }
    let schema = given.json.as_ref();
    let of_schema =
        |schema| schema_or_text("structured_outputs.json", schema, whitespace(given), found);
    let is_given = given.json.is_some();
    let schema = schema.and_then(of_schema);
    if is_given && schema.is_none() {
        return None;
    }
    let object = (given.json_object == Some(true)).then(|| GrammarSpec::JsonObject {
        whitespace: whitespace(given),
    });
    let tag = given.structural_tag.as_ref();
    let forms = [
        ("structured_outputs.json", schema),
        (
            "structured_outputs.regex",
            given.regex.clone().map(GrammarSpec::Regex),
        ),
        (
            "structured_outputs.choice",
            given.choice.clone().map(GrammarSpec::Choice),
        ),
        (
            "structured_outputs.grammar",
            given.grammar.clone().map(GrammarSpec::Grammar),
        ),
        ("structured_outputs.json_object", object),
    ];
    let mut forms = forms
        .into_iter()
        .filter_map(|(field, spec)| Some(Form { field, spec: spec? }));
    let form = forms.next();
    let several = forms.next().is_some() || (form.is_some() && tag.is_some());
    if several || (form.is_none() && tag.is_none()) {
        let description =
            "expected exactly one of json, regex, choice, grammar, json_object and structural_tag";
        found.add("structured_outputs", description);
        return None;
    }
    form.or_else(|| {
        let field = "structured_outputs.structural_tag";
        let tag = StructuralTagText::of(tag?, field, found)?.read(field, found)?;
        let spec = GrammarSpec::StructuralTag(tag);
        Some(Form { field, spec })
    })
}

fn whitespace(given: &StructuredOutputs) -> JsonWhitespace {
    match given.disable_any_whitespace {
        Some(true) => JsonWhitespace::Compact,
        _ => JsonWhitespace::Flexible,
    }
}

fn json_object() -> GrammarSpec {
    GrammarSpec::JsonObject {
        whitespace: JsonWhitespace::Flexible,
    }
}

fn json_schema(schema: &Value) -> GrammarSpec {
    GrammarSpec::JsonSchema {
        schema: schema.to_string(),
        whitespace: JsonWhitespace::Flexible,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openai::json;
    use maitre_engine::{StructuralTag, Tag};
    use serde_json::json;

    fn form(text: &str) -> Result<Option<Form>, Vec<String>> {
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
        let of = |field, spec| Some(Form { field, spec });
        let schema = || json_schema(&json!({"type": "object"}));
        let tag = || {
            GrammarSpec::StructuralTag(StructuralTag {
                tags: vec![Tag {
                    begin: "<a>".into(),
                    schema: r#"{"type":"string"}"#.into(),
                    end: "</a>".into(),
                }],
                triggers: vec!["<a".into()],
            })
        };
        let structures = r#""structures": [{"begin": "<a>", "schema": {"type": "string"}, "end": "</a>"}],
            "triggers": ["<a"]"#;
        let triggered = r#""format": {"type": "triggered_tags", "triggers": ["<a"], "tags": [{"begin": "<a>",
            "content": {"type": "json_schema", "json_schema": {"type": "string"}}, "end": "</a>"}]}"#;
        let as_text = Value::String(format!("{{{structures}}}"));
        for (text, expected) in [
            (r#"{}"#.to_owned(), None),
            (r#"{"response_format": null}"#.into(), None),
            (r#"{"response_format": {"type": "text"}}"#.into(), None),
            (
                r#"{"response_format": {"type": "json_object"}}"#.into(),
                of("response_format", json_object()),
            ),
            (
                r#"{"response_format": {"type": "json_schema",
                    "json_schema": {"name": "x", "schema": {"type": "object"}, "strict": true}}}"#
                    .into(),
                of("response_format.json_schema.schema", schema()),
            ),
            (
                format!(r#"{{"response_format": {{"type": "structural_tag", {structures}}}}}"#),
                of("response_format", tag()),
            ),
            (
                format!(r#"{{"response_format": {{"type": "structural_tag", {triggered}}}}}"#),
                of("response_format", tag()),
            ),
            (
                format!(r#"{{"structured_outputs": {{"structural_tag": {as_text}}}}}"#),
                of("structured_outputs.structural_tag", tag()),
            ),
            (
                r#"{"structured_outputs": {"json": {"type": "object"}}}"#.into(),
                of("structured_outputs.json", schema()),
            ),
            (
                r#"{"structured_outputs": {"json": "{\"type\":\"object\"}"}}"#.into(),
                of("structured_outputs.json", schema()),
            ),
            (
                r#"{"structured_outputs": {"regex": "a+"}}"#.into(),
                of("structured_outputs.regex", GrammarSpec::Regex("a+".into())),
            ),
            (
                r#"{"structured_outputs": {"choice": ["a", "b"]}}"#.into(),
                of(
                    "structured_outputs.choice",
                    GrammarSpec::Choice(vec!["a".into(), "b".into()]),
                ),
            ),
            (
                r#"{"structured_outputs": {"grammar": "root ::= \"a\""}}"#.into(),
                of(
                    "structured_outputs.grammar",
                    GrammarSpec::Grammar("root ::= \"a\"".into()),
                ),
            ),
            (
                r#"{"guided_json": {}}"#.into(),
                of("guided_json", json_schema(&json!({}))),
            ),
            (
                r#"{"guided_json": "{}", "guided_decoding_backend": "xgrammar"}"#.into(),
                of("guided_json", json_schema(&json!({}))),
            ),
            (
                r#"{"guided_regex": "a+"}"#.into(),
                of("guided_regex", GrammarSpec::Regex("a+".into())),
            ),
            (
                r#"{"guided_choice": ["a"]}"#.into(),
                of("guided_choice", GrammarSpec::Choice(vec!["a".into()])),
            ),
            (
                r#"{"guided_grammar": "root ::= \"a\"", "guided_json": null}"#.into(),
                of(
                    "guided_grammar",
                    GrammarSpec::Grammar("root ::= \"a\"".into()),
                ),
            ),
            (
                r#"{"structured_outputs": {"json_object": true, "disable_any_whitespace": true}}"#
                    .into(),
                of(
                    "structured_outputs.json_object",
                    GrammarSpec::JsonObject {
                        whitespace: JsonWhitespace::Compact,
                    },
                ),
            ),
        ] {
            assert_eq!(form(&text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_says_nothing_or_two_things_is_refused() {
        let tag = "structured_outputs.structural_tag";
        for (text, field) in [
            (
                r#"{"response_format": {"type": "xml"}}"#,
                "response_format.type",
            ),
            (
                r#"{"response_format": {"type": "json_schema"}}"#,
                "response_format.json_schema.schema",
            ),
            (
                r#"{"response_format": {"type": "structural_tag", "structures": []}}"#,
                "response_format",
            ),
            (r#"{"structured_outputs": {}}"#, "structured_outputs"),
            (
                r#"{"structured_outputs": {"regex": "a", "grammar": "b"}}"#,
                "structured_outputs",
            ),
            (
                r#"{"structured_outputs": {"regex": "a", "structural_tag": {}}}"#,
                "structured_outputs",
            ),
            (
                r#"{"structured_outputs": {"structural_tag": "no JSON"}}"#,
                tag,
            ),
            (
                r#"{"structured_outputs": {"structural_tag": {"format": {"type": "sequence"}}}}"#,
                tag,
            ),
            (
                r#"{"structured_outputs": {"structural_tag": {"format": {"type": "triggered_tags",
                    "tags": [{"begin": "a", "content": {"type": "regex"}, "end": "b"}]}}}}"#,
                tag,
            ),
            (
                r#"{"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}}"#,
                "structured_outputs",
            ),
            (
                r#"{"guided_regex": "a", "guided_json": {}}"#,
                "guided_regex",
            ),
            (
                r#"{"guided_choice": ["a"], "response_format": {"type": "json_object"}}"#,
                "guided_choice",
            ),
            (
                r#"{"guided_whitespace_pattern": " ?"}"#,
                "guided_whitespace_pattern",
            ),
            (
                r#"{"structured_outputs": {"json": {}, "whitespace_pattern": " ?"}}"#,
                "structured_outputs.whitespace_pattern",
            ),
        ] {
            assert_eq!(form(text), Err(vec![field.to_owned()]), "{text}");
        }
    }
}
