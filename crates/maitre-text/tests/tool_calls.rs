//! Calls of tools out of a model's text: every format, any way to cut the text, and texts that are no calls.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod formats;

use std::sync::Arc;

use formats::{Answer, format, parse, sample, sample_calls, tools};
use maitre_text::{AnswerFormat, Part, PartParser, ToolFormat, Tools};
use serde_json::{Value, json};

fn named(name: &str) -> &'static ToolFormat {
    ToolFormat::named(name).unwrap_or_else(|| panic!("no format {name}"))
}

#[test]
fn every_format_reads_two_calls() {
    for tool_format in ToolFormat::all() {
        for whole in [false, true] {
            let answer = parse(format(tool_format, whole), [sample(tool_format.name)]);
            assert_eq!(
                answer.read_calls(),
                sample_calls(),
                "{} {answer:?}",
                tool_format.name
            );
            assert_eq!(answer.text, "", "{}", tool_format.name);
        }
    }
}

#[test]
fn marks_that_may_stand_before_a_bare_call() {
    for (name, text) in [
        (
            "llama3_json",
            "Sure. <|python_tag|>{\"name\": \"now\", \"parameters\": {}}",
        ),
        ("pythonic", "Sure. <|python_start|>[now()]<|python_end|>"),
        (
            "llama3_json",
            "Sure. <|python_tag|>{\"type\": \"function\", \"name\": \"now\", \"parameters\": {}}",
        ),
    ] {
        let answer = parse(format(named(name), false), [text]);
        assert_eq!(answer.text, "Sure.", "{name}");
        assert_eq!(
            answer.read_calls(),
            [("now".to_owned(), json!({}))],
            "{name}"
        );
    }
}

#[test]
fn arguments_get_the_types_of_the_schema() {
    let expected = json!({
        "city": "5", "days": 5, "wind": 1.5, "metric": true, "hours": [1, 2], "place": {"lat": 1}, "note": null,
        "unit": "celsius"
    });
    let values = [
        ("city", "5"),
        ("days", "5"),
        ("wind", "1.5"),
        ("metric", "True"),
        ("hours", "[1, 2]"),
        ("place", "{'lat': 1}"),
        ("note", "null"),
        ("unit", "celsius"),
    ];
    let qwen: String = values
        .iter()
        .map(|(key, value)| format!("<parameter={key}>\n{value}\n</parameter>\n"))
        .collect();
    let qwen = format!("<tool_call>\n<function=get_weather>\n{qwen}</function>\n</tool_call>");
    let glm: String = values
        .iter()
        .map(|(key, value)| format!("<arg_key>{key}</arg_key><arg_value>{value}</arg_value>"))
        .collect();
    let glm = format!("<tool_call>get_weather{glm}</tool_call>");
    let python = "[get_weather(city='5', days=5, wind=1.5, metric=True, hours=[1, 2], place={'lat': 1}, note=None, unit=\"celsius\")]";
    let quoted = "[get_weather(city=\"5\", days=\"5\", wind=\"1.5\", metric=\"True\", hours=\"[1, 2]\", place=\"{'lat': 1}\", note=None, unit=\"celsius\")]";
    let gemma = "<|tool_call>call:get_weather{city:<|\"|>5<|\"|>,days:5,wind:1.5,metric:true,hours:[1,2],place:{lat:1},note:null,unit:<|\"|>celsius<|\"|>}<tool_call|>";
    for (name, text) in [
        ("qwen3_coder", qwen.as_str()),
        ("glm", &glm),
        ("pythonic", python),
        ("pythonic", quoted),
        ("gemma4", gemma),
    ] {
        let answer = parse(format(named(name), false), [text]);
        assert_eq!(
            answer.read_calls(),
            [("get_weather".to_owned(), expected.clone())],
            "{name}"
        );
    }
}

#[test]
fn values_are_kept_to_the_character() {
    let value = "\n  fn main() {\n\t\"<b>é\\n</b>\"\n}\n\n";
    let text = format!(
        "<tool_call>\n<function=get_weather>\n<parameter=city>\n{value}\n</parameter>\n</function>\n</tool_call>"
    );
    for whole in [false, true] {
        let answer = parse(format(named("qwen3_coder"), whole), [text.as_str()]);
        assert_eq!(
            answer.read_calls(),
            [("get_weather".to_owned(), json!({"city": value}))]
        );
    }
}

#[test]
fn arguments_stream_while_they_come() {
    for (name, before, after) in [
        (
            "hermes",
            "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"",
            "{\"city\": \"",
        ),
        (
            "qwen3_coder",
            "<tool_call>\n<function=get_weather>\n<parameter=city>\n",
            "{\"city\": \"",
        ),
        (
            "harmony",
            "<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{\"city\": \"",
            "{\"city\": \"",
        ),
    ] {
        let mut parser = PartParser::new(format(named(name), false));
        let mut parts = Vec::new();
        parser.push(before, &mut parts);
        assert!(
            matches!(&parts[..], [Part::ToolCall { name: Some(name), .. }] if name == "get_weather"),
            "{name}: the name comes first, {parts:?}"
        );
        for _ in 0..100 {
            parser.push("rain ", &mut parts);
        }
        let arguments = &Answer::of(&parts).calls[0].1;
        assert!(arguments.starts_with(after), "{name}: {arguments}");
        assert!(arguments.len() > 400, "{name}: {arguments}");
    }
}

#[test]
fn text_is_released_at_once_but_for_what_may_be_a_mark() {
    let mut parser = PartParser::new(format(named("hermes"), false));
    let mut pushed = |piece: &str| {
        let mut parts = Vec::new();
        parser.push(piece, &mut parts);
        Answer::of(&parts).text
    };
    assert_eq!(pushed("Hello"), "Hello");
    assert_eq!(pushed(" "), "");
    assert_eq!(pushed("world <tool_c"), " world");
    assert_eq!(pushed("ase> and"), " <tool_case> and");
}

/// What is no call comes back as it was written.
#[test]
fn malformed_calls_come_back_as_text() {
    for (name, text) in [
        ("hermes", "Hi <tool_call>\nnothing\n</tool_call> bye"),
        ("hermes", "<tool_call>\n{\"name\": \"now\"}\n</tool_call>"),
        (
            "hermes",
            "<tool_call>\n{\"name\": 1, \"arguments\": {}}\n</tool_call>",
        ),
        ("hermes", "<tool_call>\n{\"arguments\": {}}\n</tool_call>"),
        (
            "hermes",
            "<tool_call>\n{\"name\": \"now\", \"arguments\": \"x\"}\n</tool_call>",
        ),
        (
            "hermes",
            "<tool_call>\n{\"name\": \"now\", \"arguments\": {\"a\": }}\n</tool_call>",
        ),
        (
            "hermes",
            "<tool_call>\n{\"name\": \"now\", \"arguments\": {\"a\": 1",
        ),
        ("hermes", "<tool_call>"),
        ("hermes", "</tool_call>"),
        ("hermes", "a < b <tool"),
        ("mistral", "[TOOL_CALLS] none"),
        ("mistral", "[TOOL_CALLS][]"),
        (
            "mistral",
            "[TOOL_CALLS][{\"name\": \"now\", \"arguments\": {\"a\"}}]",
        ),
        ("mistral_v11", "[TOOL_CALLS]now{oops}"),
        ("deepseek_v3", "<｜tool▁calls▁begin｜><｜tool▁calls▁end｜>"),
        (
            "deepseek_v31",
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>now<｜tool▁sep｜>[1]<｜tool▁call▁end｜>",
        ),
        (
            "kimi_k2",
            "<|tool_calls_section_begin|><|tool_call_begin|>now",
        ),
        ("glm", "<tool_call>now\n<arg_key>a</arg_value>"),
        ("glm", "<tool_call>now\n<arg_key>a</arg_key>\n<arg_value>x"),
        (
            "qwen3_coder",
            "<tool_call>\n<function=now>\n<parameter=a>\nx\n</function>\n</tool_call>",
        ),
        ("qwen3_coder", "<tool_call>\n<func=now>"),
        ("minimax_m2", "<minimax:tool_call>\n<invoke name='now'>"),
        ("pythonic", "[1, 2, 3]"),
        ("pythonic", "[other(a=1)]"),
        ("pythonic", "[now(1)]"),
        ("pythonic", "[now(a=b)]"),
        ("pythonic", "Yes [now()]"),
        ("llama3_json", "{\"name\": \"Ann\", \"parameters\": {}}"),
        ("llama3_json", "{\"a\": 1}"),
        ("gemma4", "<|tool_call>call:now{a}<tool_call|>"),
        ("gemma4", "<|tool_call>call:now{a:<|\"|>x}<tool_call|>"),
        ("harmony", "plain {\"a\": 1}"),
        ("phi4", "<|tool_call|>{\"name\": \"now\"}<|/tool_call|>"),
    ] {
        let answer = parse(format(named(name), true), [text]);
        let expected = Answer {
            text: text.into(),
            ..Answer::default()
        };
        assert_eq!(answer, expected, "{name}");
        // Streamed, a call may have begun; then the rest is text.
        let streamed = parse(format(named(name), false), [text]);
        let arguments: String = streamed.calls.iter().map(|call| call.1.as_str()).collect();
        assert!(
            streamed.text == text || !arguments.is_empty() || !streamed.calls.is_empty(),
            "{name}: {streamed:?}"
        );
    }
}

#[test]
fn a_call_is_found_after_one_that_is_none() {
    let call = "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>";
    for (before, text) in [
        ("<tool_call>oops</tool_call>", "<tool_call>oops</tool_call>"),
        ("<tool_call>", "<tool_call>"),
        (
            "<tool_call><tool_call><tool_c",
            "<tool_call><tool_call><tool_c",
        ),
        ("<tool_call>\n{\"name\": ", "<tool_call>\n{\"name\":"),
    ] {
        let answer = parse(format(named("hermes"), true), [before, call]);
        assert_eq!(answer.text, text);
        assert_eq!(
            answer.read_calls(),
            [("now".to_owned(), json!({}))],
            "{before}"
        );
    }
    let coder = "<tool_call>\n<function=<tool_call>\n<function=now>\n</function>\n</tool_call>";
    let answer = parse(format(named("qwen3_coder"), false), [coder]);
    assert_eq!(answer.text, "<tool_call>\n<function=");
    assert_eq!(answer.calls.len(), 1);
    // The beginning of the mark that does not match is the beginning of the next call.
    let coder = "<tool_call>\n<tool_call>\n<function=now>\n</function>\n</tool_call>";
    let answer = parse(format(named("qwen3_coder"), false), [coder]);
    assert_eq!(answer.text, "<tool_call>");
    assert_eq!(answer.calls.len(), 1);
}

#[test]
fn a_call_without_its_last_mark_is_one() {
    for (name, text) in [
        (
            "hermes",
            "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}",
        ),
        (
            "hermes",
            "<tool_call>{\"name\": \"now\", \"arguments\": {}}\n",
        ),
        (
            "mistral",
            "[TOOL_CALLS][{\"name\": \"now\", \"arguments\": {}}",
        ),
        (
            "deepseek_v31",
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>now<｜tool▁sep｜>{}",
        ),
        ("qwen3_coder", "<tool_call>\n<function=now>\n</function>\n"),
        ("gemma4", "<|tool_call>call:now{}"),
    ] {
        for whole in [false, true] {
            let answer = parse(format(named(name), whole), [text]);
            assert_eq!(
                answer.read_calls(),
                [("now".to_owned(), json!({}))],
                "{name}"
            );
            assert_eq!(answer.text, "", "{name}");
        }
    }
}

#[test]
fn marks_that_models_leave_out() {
    let one = [("now".to_owned(), json!({}))];
    for (name, text, rest) in [
        (
            "qwen3_coder",
            "<function=now>\n</function>\n</tool_call>",
            "",
        ),
        ("qwen3_coder", "Well.\n<function=now>\n</function>", "Well."),
        ("qwen3_coder", "<function=now>\n</function>\nDone.", "Done."),
        (
            "qwen3_coder",
            "<tool_call>\n<function=now>\n</function>\n</tool_box>",
            "</tool_box>",
        ),
        (
            "kimi_k2",
            "<|tool_calls_section_begin|><|tool_call_begin|>now:0<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_calls_section_end|>",
            "",
        ),
        (
            "kimi_k2",
            "<|tool_calls_section_begin|><|tool_call_begin|>functions.now<|tool_call_argument_begin|>{}<|tool_call_end|>",
            "",
        ),
        ("mistral_v11", "[TOOL_CALLS]now{}", ""),
        (
            "hermes",
            "<tool_call>{\"name\": \"now\", \"arguments\": {}} Done.",
            "Done.",
        ),
    ] {
        for whole in [false, true] {
            let answer = parse(format(named(name), whole), [text]);
            assert_eq!(answer.read_calls(), one, "{text}");
            assert_eq!(answer.text, rest, "{text}");
        }
    }
    let two = "<function=now>\n</function>\n<function=now>\n</function>";
    assert_eq!(
        parse(format(named("qwen3_coder"), true), [two]).calls.len(),
        2
    );
}

#[test]
fn without_tools_marks_are_text() {
    for tool_format in ToolFormat::all().filter(|format| format.name != "harmony") {
        let format = AnswerFormat {
            tools: Arc::new(Tools::default()),
            ..format(tool_format, false)
        };
        let text = sample(tool_format.name);
        assert_eq!(parse(format, [text]).text, text);
    }
}

#[test]
fn tools_are_checked() {
    let error = |tools: Value| {
        Tools::from_json(tools.as_array().unwrap())
            .unwrap_err()
            .to_string()
    };
    for (tools, expected) in [
        (json!([{"name": ""}]), "no name"),
        (json!([{}]), "no name"),
        (json!([{"name": "a b"}]), "' '"),
        (json!([{"name": "<tool>"}]), "'<'"),
        (json!([{"name": "é"}]), "'é'"),
        (json!([{"name": "a".repeat(129)}]), "128 bytes"),
        (json!([{"name": "a"}, {"name": "a"}]), "two tools"),
        (json!([{"name": "a", "parameters": []}]), "schema object"),
        (
            json!([{"name": "a", "parameters": {"type": "array"}}]),
            "\"object\"",
        ),
        (
            json!([{"name": "a", "parameters": {"properties": []}}]),
            "properties",
        ),
        (json!([{"name": "a", "strict": "yes"}]), "strict"),
        (json!([{"name": "a", "description": 1}]), "description"),
    ] {
        assert!(
            error(tools.clone()).contains(expected),
            "{tools}: {}",
            error(tools.clone())
        );
    }
    assert_eq!(tools().iter().count(), 2);
}

#[test]
fn the_choice_of_a_tool_is_checked() {
    use maitre_text::ToolChoice;
    let none = Tools::default();
    assert!(ToolChoice::Auto.check(&none).is_ok());
    assert!(ToolChoice::Required.check(&none).is_err());
    assert!(ToolChoice::Named("other".into()).check(&tools()).is_err());
    assert!(ToolChoice::Named("now".into()).check(&tools()).is_ok());
}
