//! Which texts the grammar accepts: the calls that a request asks for, behind the thoughts that are still open.

use expect_test::expect;
use maitre_text::{CallGrammar, ReasoningFormat, Thought, ToolChoice, ToolFormat, Tools};
use serde_json::json;

use crate::formats::{sample, tools};
use crate::vocabulary::Vocabulary;
use crate::{Want, reasoning};

#[test]
fn what_templates_render_is_accepted() {
    for tool_format in ToolFormat::all() {
        for special in [false, true] {
            let vocabulary = Vocabulary::of(tool_format, reasoning(tool_format), special);
            let grammar = Want::default().grammar(tool_format, &vocabulary).unwrap();
            let text = sample(tool_format.name).replace("\n\n</｜DSML", "\n</｜DSML");
            // A mark is optional only where it is a token.
            let text = match (tool_format.name, special) {
                ("mistral_v11", false) => text.replace("[CALL_ID]aB3dE6gH9", ""),
                _ => text,
            };
            assert!(
                vocabulary.accepts(&grammar, &text),
                "{} {special}\n{text}\n{grammar}",
                tool_format.name
            );
            let one = Want {
                parallel: false,
                ..Want::default()
            };
            let grammar = one.grammar(tool_format, &vocabulary).unwrap();
            assert!(
                !vocabulary.accepts(&grammar, &text),
                "{} calls twice",
                tool_format.name
            );
            assert!(!vocabulary.accepts(&grammar, ""), "{}", tool_format.name);
            assert!(
                !vocabulary.accepts(&grammar, "Hello"),
                "{}",
                tool_format.name
            );
        }
    }
}

/// What such a grammar looks like: for a tokenizer without special tokens, and for one whose marks are some.
#[test]
fn a_grammar_to_look_at() {
    let tools = json!([
        {"name": "now"},
        {"name": "look", "parameters": {"type": "object", "properties": {
            "at": {"type": "string"}, "times": {"type": "integer"}}, "required": ["at"]}}
    ]);
    let tools = Tools::from_json(tools.as_array().unwrap()).unwrap();
    let think = ReasoningFormat::named("think").unwrap();
    let want = Want {
        tools: &tools,
        reasoning: Some((think, Thought::Open)),
        ..Want::default()
    };
    let hermes = ToolFormat::named("hermes").unwrap();
    expect![[r#"
        call_0: "{\"name\": \"now\", \"arguments\": " %json {"type":"object","properties":{},"additionalProperties":false,"x-guidance":{"item_separator":", ","key_separator":": ","whitespace_flexible":false,"coerce_one_of":true}}  "}" "\n</tool_call>"
        call_1: "{\"name\": \"look\", \"arguments\": " %json {"type":"object","properties":{"at":{"type":"string"},"times":{"type":"integer"}},"required":["at"],"x-guidance":{"item_separator":", ","key_separator":": ","whitespace_flexible":false,"coerce_one_of":true}}  "}" "\n</tool_call>"
        call: call_0 | call_1
        until_1[suffix="</think>"]: /(?s:.*)/
        start: until_1 (/[ \n]{1,4}/)? "<tool_call>\n" call ("\n<tool_call>\n" call)*
    "#]].assert_eq(&want.grammar(hermes, &Vocabulary::new(&[])).unwrap());
    let glm = ToolFormat::named("glm").unwrap();
    let vocabulary = Vocabulary::of(glm, think, true);
    expect![[r#"
        call_0: "now\n"  <[257]>
        argument_1_0: <[258]> "at" <[259]> "\n" <[260]> /(?s:.*)/ <[261]> "\n"
        argument_1_1: <[258]> "times" <[259]> "\n" <[260]> %json {"type":"integer","x-guidance":{"item_separator":", ","key_separator":": ","whitespace_flexible":false,"coerce_one_of":true}} <[261]> "\n"
        call_1: "look\n" argument_1_0 argument_1_1? <[257]>
        call: call_0 | call_1
        start: /(?s:.*)/ <[263]> (/[ \n]{1,4}/)? <[256]> call ("\n" <[256]> call)*
    "#]]
    .assert_eq(&want.grammar(glm, &vocabulary).unwrap());
}

#[test]
fn a_named_tool_is_the_one_that_is_called() {
    for tool_format in ToolFormat::all() {
        let vocabulary = Vocabulary::of(tool_format, reasoning(tool_format), true);
        let calls = |name: &str, text: &str| {
            let want = Want {
                choice: ToolChoice::Named(name.into()),
                ..Want::default()
            };
            vocabulary.accepts(&want.grammar(tool_format, &vocabulary).unwrap(), text)
        };
        // The first call of the sample, with what closes the section.
        let text = sample(tool_format.name);
        let now = text.find("now").unwrap();
        assert!(!calls("now", text), "{}", tool_format.name);
        assert!(!calls("get_weather", &text[..now]), "{}", tool_format.name);
    }
}

#[test]
fn an_unknown_tool_or_choice_is_refused() {
    let hermes = ToolFormat::named("hermes").unwrap();
    let none = |_: &str| None;
    let tools = tools();
    let other = ToolChoice::Named("other".into());
    let request = |choice| CallGrammar {
        tools: &tools,
        choice,
        parallel: true,
        follow_schemas: true,
        reasoning: None,
        special_token: &none,
    };
    assert!(hermes.grammar(&request(&other)).is_err());
    assert_eq!(hermes.grammar(&request(&ToolChoice::None)).unwrap(), None);
    assert_eq!(hermes.grammar(&request(&ToolChoice::Auto)).unwrap(), None);
}

#[test]
fn thoughts_come_before_a_required_call() {
    for tool_format in ToolFormat::all() {
        let reasoning = reasoning(tool_format);
        let next = if tool_format.name == "harmony" {
            "<|start|>assistant"
        } else {
            "\n\n"
        };
        for special in [false, true] {
            let vocabulary = Vocabulary::of(tool_format, reasoning, special);
            let accepts = |thought, text: &str| {
                let want = Want {
                    reasoning: Some((reasoning, thought)),
                    ..Want::default()
                };
                let grammar = want.grammar(tool_format, &vocabulary).unwrap();
                vocabulary.accepts(&grammar, text)
            };
            let calls = sample(tool_format.name)
                .replace("\n\n</｜DSML", "\n</｜DSML")
                .replace("[CALL_ID]aB3dE6gH9", "");
            let closed = format!("Hm.{}{next}{calls}", reasoning.close);
            let opened = format!("{}{closed}", reasoning.open);
            let name = tool_format.name;
            assert!(accepts(Thought::Open, &closed), "{name} {special}");
            assert!(accepts(Thought::Unopened, &opened), "{name} {special}");
            assert!(accepts(Thought::Unopened, &calls), "{name} {special}");
            assert!(!accepts(Thought::Open, &calls), "{name} {special}");
        }
    }
}
