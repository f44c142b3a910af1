//! Bad tools, and choices among them that cannot be made.

use serde_json::{Value, json};

use super::{Row, row};

pub(super) fn of_tools() -> Vec<Row> {
    let function = |function: Value| json!({"type": "function", "function": function});
    let f = || function(json!({"name": "f"}));
    let tools = |tools: Value| json!({"tools": tools});
    let chosen = |choice: Value| json!({"tools": [f()], "tool_choice": choice});
    let allowed =
        |allowed: Value| chosen(json!({"type": "allowed_tools", "allowed_tools": allowed}));
    vec![
        row("a wrong type", tools(json!({}))),
        row("no type", tools(json!([{}]))),
        row("another type", tools(json!([{"type": "web_search"}]))),
        row("no name", tools(json!([function(json!({}))]))),
        row(
            "a bad name",
            tools(json!([function(json!({"name": "f g"}))])),
        ),
        row("one name twice", tools(json!([f(), f()]))),
        row(
            "no schema",
            tools(json!([function(json!({"name": "f", "parameters": 1}))])),
        ),
        row(
            "a schema of something else",
            tools(json!([function(
                json!({"name": "f", "parameters": {"type": "array"}})
            )])),
        ),
        row(
            "a wrong type",
            tools(json!([function(json!({"name": "f", "description": 1}))])),
        ),
        row(
            "strict, with a keyword that is not supported",
            json!({"tools": [function(json!({"name": "f", "strict": true, "parameters":
                {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": true}}}}))], "tool_choice": "required"}),
        ),
        row("an unknown word", chosen(json!("often"))),
        row("a wrong type", chosen(json!(7))),
        row("no tools", json!({"tool_choice": "required"})),
        row("no such tool", chosen(function(json!({"name": "g"})))),
        row("no name", chosen(json!({"type": "function"}))),
        row(
            "an unknown type",
            chosen(json!({"type": "custom", "custom": {"name": "f"}})),
        ),
        row(
            "an unknown mode",
            allowed(json!({"mode": "none", "tools": [f()]})),
        ),
        row(
            "no tools that are allowed",
            allowed(json!({"mode": "auto", "tools": []})),
        ),
        row(
            "a tool that there is not",
            allowed(json!({"mode": "auto", "tools": [function(json!({"name": "g"}))]})),
        ),
        row(
            "a form and a call",
            json!({"tools": [f()], "tool_choice": "required", "response_format": {"type": "json_object"}}),
        ),
        row(
            "a wrong type",
            json!({"tools": [f()], "parallel_tool_calls": "no"}),
        ),
        row("the older way", json!({"functions": [{"name": "f"}]})),
        row("the older way", json!({"function_call": "auto"})),
    ]
}
