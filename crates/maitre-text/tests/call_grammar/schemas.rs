//! The schemas of the tools within the grammar: what strict tools are held to, what is refused for them, and names
//! that could be read as parts of the grammar.

use maitre_text::{TextError, Tool, ToolChoice, ToolFormat, Tools};
use serde_json::{Value, json};

use crate::formats::{sample, sample_calls};
use crate::vocabulary::Vocabulary;
use crate::{Want, reasoning};

#[test]
fn strict_tools_are_constrained_where_text_is_free() {
    let strict = json!([
        {"name": "get_weather", "strict": true, "parameters": {
            "type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city", "days"], "additionalProperties": false}},
        {"name": "now", "parameters": {"type": "object"}}
    ]);
    let strict = Tools::from_json(strict.as_array().unwrap()).unwrap();
    for tool_format in ToolFormat::all() {
        for special in [false, true] {
            let vocabulary = Vocabulary::of(tool_format, reasoning(tool_format), special);
            let want = Want {
                tools: &strict,
                choice: ToolChoice::Auto,
                ..Want::default()
            };
            let name = tool_format.name;
            let Some(grammar) = want.grammar(tool_format, &vocabulary) else {
                assert!(matches!(name, "pythonic" | "llama3_json"), "{name}");
                continue;
            };
            let calls = sample(name)
                .replace("\n\n</｜DSML", "\n</｜DSML")
                .replace("[CALL_ID]aB3dE6gH9", "");
            let says = match name {
                "harmony" => "<|channel|>commentary<|message|>Well.<|end|><|start|>assistant",
                _ => "Well. ",
            };
            let answers = if name == "harmony" {
                "<|channel|>final<|message|>Well."
            } else {
                "Well."
            };
            assert!(
                vocabulary.accepts(&grammar, answers),
                "{name} {special}\n{grammar}"
            );
            assert!(
                vocabulary.accepts(&grammar, &calls),
                "{name} {special}\n{grammar}"
            );
            assert!(
                vocabulary.accepts(&grammar, &format!("{says}{calls}")),
                "{name} {special}\n{grammar}"
            );
            let wrong = calls.replace("days", "tags");
            assert!(
                !vocabulary.accepts(&grammar, &wrong),
                "{name} {special}\n{wrong}\n{grammar}"
            );
        }
    }
}

#[test]
fn schemas_with_references_and_free_schemas() {
    let tools = json!([
        {"name": "a", "parameters": {
            "type": "object",
            "properties": {"x": {"$ref": "#/$defs/point"}, "y": {"anyOf": [{"type": "integer"}, {"type": "null"}]}},
            "required": ["x"], "additionalProperties": false,
            "$defs": {"point": {"type": "object", "properties": {"p": {"type": "integer"}}, "required": ["p"], "additionalProperties": false}}}},
        {"name": "b", "parameters": {"type": "object"}},
        {"name": "c"}
    ]);
    let tools = Tools::from_json(tools.as_array().unwrap()).unwrap();
    let coder = ToolFormat::named("qwen3_coder").unwrap();
    let vocabulary = Vocabulary::new(&[]);
    let want = Want {
        tools: &tools,
        ..Want::default()
    };
    let grammar = want.grammar(coder, &vocabulary).unwrap();
    let call = |body: &str| format!("<tool_call>\n<function={body}</function>\n</tool_call>");
    for (body, expected) in [
        ("a>\n<parameter=x>\n{\"p\": 1}\n</parameter>\n", true),
        (
            "a>\n<parameter=x>\n{\"p\": 1}\n</parameter>\n<parameter=y>\nnull\n</parameter>\n",
            true,
        ),
        ("a>\n<parameter=x>\n{\"p\": \"1\"}\n</parameter>\n", false),
        ("a>\n", false),
        ("b>\n", true),
        ("b>\n<parameter=any>\nthing\n</parameter>\n", true),
        ("c>\n", true),
        ("c>\n<parameter=any>\nthing\n</parameter>\n", false),
    ] {
        assert_eq!(
            vocabulary.accepts(&grammar, &call(body)),
            expected,
            "{body}\n{grammar}"
        );
    }
    let hermes = ToolFormat::named("hermes").unwrap();
    let loose = Want {
        tools: &tools,
        follow_schemas: false,
        ..Want::default()
    };
    let grammar = loose.grammar(hermes, &vocabulary).unwrap();
    let text = "<tool_call>\n{\"name\": \"a\", \"arguments\": {\"z\": [1]}}\n</tool_call>";
    assert!(vocabulary.accepts(&grammar, text), "{grammar}");
}

#[test]
fn names_cannot_break_out_of_the_grammar() {
    let tools = json!([{"name": "a", "parameters": {"type": "object", "properties": {
        "\"x\n%import <[1]> /": {"type": "string"}, "y\\": {"enum": ["\"", "\n", "</parameter>"]}
    }}}]);
    let tools = Tools::from_json(tools.as_array().unwrap()).unwrap();
    for tool_format in ToolFormat::all() {
        let vocabulary = Vocabulary::of(tool_format, reasoning(tool_format), true);
        let want = Want {
            tools: &tools,
            ..Want::default()
        };
        let grammar = want.grammar(tool_format, &vocabulary).unwrap();
        // It compiles.
        vocabulary.matcher(&grammar);
    }
    let tool = Tool {
        name: "a\"".into(),
        description: None,
        parameters: serde_json::Map::new(),
        strict: false,
    };
    assert!(Tools::new(vec![tool]).is_err());
    assert_eq!(sample_calls().len(), 2);
}

/// What the grammar of a format does not make arguments follow is refused for a strict tool, rather than passed over.
#[test]
fn strict_tools_are_refused_what_their_format_does_not_follow() {
    let json_formats = ["hermes", "llama3_json", "harmony"];
    let followed = [
        json!({"type": "string", "description": "A city."}),
        json!({"enum": ["Oslo", "Bergen"]}),
        json!({"type": ["integer", "null"]}),
        json!({"const": "Oslo", "default": "Oslo"}),
    ];
    let texts = [
        (
            json!({"type": "string", "pattern": "^[A-Z]{3}$"}),
            "pattern",
        ),
        (
            json!({"type": ["string", "null"], "maxLength": 3}),
            "maxLength",
        ),
        (json!({"type": "string", "format": "date"}), "format"),
    ];
    let literals = [
        (json!({"type": "integer", "maximum": 7}), "maximum"),
        (
            json!({"type": "array", "items": {"type": "integer"}}),
            "items",
        ),
        (json!({"enum": [1, 2]}), "enum"),
    ];
    for tool_format in ToolFormat::all() {
        let name = tool_format.name;
        let vocabulary = Vocabulary::of(tool_format, reasoning(tool_format), false);
        let refusal = |schema: &Value| {
            let tools = json!([{"name": "f", "strict": true, "parameters": {
                "type": "object", "properties": {"it": schema}, "required": ["it"]}}]);
            let tools = Tools::from_json(tools.as_array().unwrap()).unwrap();
            let want = Want {
                tools: &tools,
                choice: ToolChoice::Required,
                ..Want::default()
            };
            let error = want.try_grammar(tool_format, &vocabulary).err();
            error.map(|error: TextError| error.to_string())
        };
        for schema in &followed {
            assert_eq!(refusal(schema), None, "{name} {schema}");
        }
        let is_refused = |schema: &Value, keyword: &str| {
            let said = refusal(schema)?;
            assert!(
                said.contains(&format!("{keyword:?} of the argument \"it\"")),
                "{said}"
            );
            Some(())
        };
        let refused = |cases: &[(Value, &str)]| {
            let refused = cases
                .iter()
                .filter_map(|(schema, keyword)| is_refused(schema, keyword));
            refused.count()
        };
        match (refused(&texts), refused(&literals)) {
            // JSON follows all of it.
            (0, 0) => assert!(!matches!(name, "pythonic" | "qwen3_coder"), "{name}"),
            (3, 0) => assert!(!json_formats.contains(&name), "{name}"),
            (3, 3) => assert!(
                !json_formats.contains(&name) && name != "qwen3_coder",
                "{name}"
            ),
            other => panic!("{name}: {other:?}"),
        }
    }
}
