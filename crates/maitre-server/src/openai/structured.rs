//! What an answer has to be like: `response_format`, which is OpenAI's, and `structured_outputs`, which is vLLM's.

use maitre_engine::{GrammarOptions, GrammarSpec, JsonWhitespace, StructuralTag, Tag};
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
    structural_tag: Option<Value>,
    /// Whether JSON has no whitespace between its parts.
    disable_any_whitespace: Option<bool>,
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

fn of_format(format: &ResponseFormat, found: &mut Violations) -> Option<Form> {
    let (field, spec) = match format.r#type.as_str() {
        "text" => return None,
        "json_object" => ("response_format", json_object()),
        "json_schema" => {
            const FIELD: &str = "response_format.json_schema.schema";
            let schema = format.json_schema.as_ref().and_then(|it| it.schema.clone());
            let Some(schema) = schema else {
                found.add(FIELD, "is missing");
                return None;
            };
            (FIELD, json_schema(&Value::Object(schema)))
        }
        "structural_tag" => {
            let tag = StructuralTagText {
                structures: format.structures.clone(),
                triggers: format.triggers.clone(),
                format: format.format.clone(),
            };
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
    let schema = given.json.as_ref().map(|schema| match schema {
        // The schema as text, which vLLM takes too.
        Value::String(text) => GrammarSpec::JsonSchema {
            schema: text.clone(),
            whitespace: whitespace(given),
        },
        schema => GrammarSpec::JsonSchema {
            schema: schema.to_string(),
            whitespace: whitespace(given),
        },
    });
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

/// Tags as they are written: `{"structures": [{"begin", "schema", "end"}], "triggers": […]}`, or in xgrammar's newer way
/// `{"format": {"type": "triggered_tags", "triggers": […], "tags": [{"begin", "content", "end"}]}}`.
#[derive(Debug, Clone, Default, Deserialize)]
struct StructuralTagText {
    #[serde(default)]
    structures: Option<Vec<Structure>>,
    #[serde(default)]
    triggers: Option<Vec<String>>,
    #[serde(default)]
    format: Option<Value>,
}

/// What stands between two marks.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub(super) struct Structure {
    begin: String,
    #[serde(default)]
    schema: Option<Map<String, Value>>,
    end: String,
}

#[derive(Debug, Deserialize)]
struct TriggeredTags {
    r#type: String,
    #[serde(default)]
    triggers: Vec<String>,
    #[serde(default)]
    tags: Vec<ContentTag>,
}

#[derive(Debug, Deserialize)]
struct ContentTag {
    begin: String,
    content: Content,
    end: String,
}

#[derive(Debug, Deserialize)]
struct Content {
    r#type: String,
    #[serde(default)]
    json_schema: Option<Map<String, Value>>,
}

impl StructuralTagText {
    /// From an object, or the text of one.
    fn of(given: &Value, field: &str, found: &mut Violations) -> Option<Self> {
        let read = match given {
            Value::String(text) => serde_json::from_str(text),
            other => serde_json::from_value(other.clone()),
        };
        read.map_err(|error| found.add(field, format!("is no structural tag: {error}")))
            .ok()
    }

    fn read(self, field: &str, found: &mut Violations) -> Option<StructuralTag> {
        if let Some(format) = self.format {
            return of_triggered_tags(format, field, found);
        }
        let (Some(structures), Some(triggers)) = (self.structures, self.triggers) else {
            found.add(field, "has no structures and triggers; expected both");
            return None;
        };
        let tags = structures.into_iter().map(|structure| Tag {
            begin: structure.begin,
            schema: Value::Object(structure.schema.unwrap_or_default()).to_string(),
            end: structure.end,
        });
        Some(StructuralTag {
            tags: tags.collect(),
            triggers,
        })
    }
}

fn of_triggered_tags(format: Value, field: &str, found: &mut Violations) -> Option<StructuralTag> {
    let read = serde_json::from_value::<TriggeredTags>(format);
    let read = match read {
        Ok(read) if read.r#type == "triggered_tags" => read,
        Ok(TriggeredTags { r#type, .. }) => {
            let description =
                format!("has a format of type {type:?}; this server knows triggered_tags");
            found.add(field, description);
            return None;
        }
        Err(error) => {
            found.add(
                field,
                format!("has a format that is not understood: {error}"),
            );
            return None;
        }
    };
    let mut tags = Vec::with_capacity(read.tags.len());
    for tag in read.tags {
        let Some(schema) = tag.content.json_schema else {
            let kind = tag.content.r#type;
            let description =
                format!("has a tag with content of type {kind:?}; this server knows json_schema");
            found.add(field, description);
            return None;
        };
        tags.push(Tag {
            begin: tag.begin,
            schema: Value::Object(schema).to_string(),
            end: tag.end,
        });
    }
    Some(StructuralTag {
        tags,
        triggers: read.triggers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openai::json;
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
            (r#"{"guided_regex": "a"}"#, "guided_regex"),
        ] {
            assert_eq!(form(text), Err(vec![field.to_owned()]), "{text}");
        }
    }
}
