//! Text that began as a call and was none is counted.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;

use maitre_text::{AnswerFormat, MalformedCalls, PartParser, ToolFormat, Tools};

/// How often `text` began as a call of the one tool `weather` and was none.
fn malformed(format: &str, text: &str, whole_calls: bool) -> (u32, u32) {
    let tools = [serde_json::json!({"name": "weather", "parameters": {"type": "object"}})];
    let mut parser = PartParser::new(AnswerFormat {
        tool_format: ToolFormat::named(format),
        tools: Arc::new(Tools::from_json(&tools).unwrap()),
        whole_calls,
        ..AnswerFormat::default()
    });
    let mut parts = Vec::new();
    for c in text.chars() {
        parser.push(c.encode_utf8(&mut [0; 4]), &mut parts);
    }
    parser.finish(&mut parts);
    let MalformedCalls { mistaken, cut_off } = parser.malformed_calls();
    (mistaken, cut_off)
}

#[test]
fn what_was_meant_as_a_call_counts_and_text_does_not() {
    let good = "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"a\": 1}}\n</tool_call>";
    let again = format!("{good}\n{good}");
    let bad = "<tool_call>\n{\"name\": \"weather\", \"arguments\": {a}}\n</tool_call>";
    let then = format!("{bad} and {good}");
    let channel = "<|channel|>commentary to=functions.weather <|constrain|>json<|message|>";
    for whole in [false, true] {
        for (format, text, expected) in [
            ("hermes", "Nothing here.", (0, 0)),
            ("hermes", good, (0, 0)),
            ("hermes", again.as_str(), (0, 0)),
            ("hermes", bad, (1, 0)),
            ("hermes", then.as_str(), (1, 0)),
            ("hermes", "<tool_call> is a mark", (1, 0)),
            ("hermes", &good[..40], (0, 1)),
            ("llama3_json", "{\"a\": 1}", (0, 0)),
            (
                "llama3_json",
                "{\"name\": \"other\", \"parameters\": {}}",
                (0, 0),
            ),
            (
                "llama3_json",
                "{\"name\": \"weather\", \"parameters\": {x}}",
                (1, 0),
            ),
            ("pythonic", "[1] and more", (0, 0)),
            ("pythonic", "[weather(city=", (0, 1)),
            ("harmony", &format!("{channel}{{\"a\": 1}}<|call|>"), (0, 0)),
            ("harmony", &format!("{channel}no JSON<|call|>"), (1, 0)),
            ("harmony", &format!("{channel}{{\"a\""), (0, 1)),
        ] {
            assert_eq!(
                malformed(format, text, whole),
                expected,
                "{format} {text} {whole}"
            );
        }
    }
}
