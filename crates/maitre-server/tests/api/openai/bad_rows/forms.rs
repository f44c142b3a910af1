//! Forms of an answer that cannot be had: formats, schemas, patterns and grammars.

use serde_json::{Value, json};

use super::{Row, row};

pub(super) fn of_forms() -> Vec<Row> {
    let format = |format: Value| json!({"response_format": format});
    let schema = |schema: Value| json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}});
    let outputs = |outputs: Value| json!({"structured_outputs": outputs});
    vec![
        row("a wrong type", format(json!("json_object"))),
        row("no type", format(json!({}))),
        row("an unknown type", format(json!({"type": "xml"}))),
        row("no schema", format(json!({"type": "json_schema"}))),
        row("a schema of a wrong type", schema(json!("object"))),
        row(
            "no schema that can be met",
            schema(json!({"type": "nothing"})),
        ),
        row(
            "a bad pattern",
            schema(json!({"type": "string", "pattern": "("})),
        ),
        row(
            "a keyword that is not supported",
            schema(json!({"type": "array", "uniqueItems": true})),
        ),
        row(
            "a pattern that nothing meets",
            schema(json!({"type": "string", "pattern": "[^\\s\\S]"})),
        ),
        row(
            "a pattern that nothing meets",
            outputs(json!({"grammar": "start: /[^\\s\\S]/"})),
        ),
        row("no structures", format(json!({"type": "structural_tag"}))),
        row("a bad regex", outputs(json!({"regex": "("}))),
        row("a regex of nothing", outputs(json!({"regex": ""}))),
        row(
            "a regex that nothing meets",
            outputs(json!({"regex": "[^\\s\\S]"})),
        ),
        row("nothing to choose from", outputs(json!({"choice": []}))),
        row("a bad grammar", outputs(json!({"grammar": "root ::= ("}))),
        row("a schema that is no JSON", outputs(json!({"json": "{"}))),
        row("no tags", outputs(json!({"structural_tag": "no JSON"}))),
        row("no form", outputs(json!({}))),
        row("two forms", outputs(json!({"regex": "a", "choice": ["a"]}))),
        row(
            "not supported",
            outputs(json!({"json": {}, "whitespace_pattern": " ?"})),
        ),
        row(
            "two forms",
            json!({"guided_regex": "a", "guided_choice": ["a"]}),
        ),
        row(
            "two forms",
            json!({"guided_json": {}, "response_format": {"type": "json_object"}}),
        ),
        row("a bad regex", json!({"guided_regex": "("})),
        row("a wrong type", json!({"guided_choice": "a"})),
        row("not supported", json!({"guided_whitespace_pattern": " ?"})),
    ]
}
