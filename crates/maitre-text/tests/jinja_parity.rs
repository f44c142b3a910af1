//! Renderings equal those of Jinja2 in transformers' environment, recorded by `cargo xtask golden`
//! (`xtask/golden/make_templates.py`): small templates that touch one feature each, and the chat
//! templates of public models (read from `MAITRE_TEST_DATA`) over a table of conversations.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::time::{Duration, SystemTime};

use maitre_text::{ChatMessage, ChatRequest, ChatTemplate, Role, SpecialTokens, TextError};
use serde_json::Value;

/// The moment that the recording's `strftime_now` stood at.
const NOW_UNIX_S: u64 = 1_721_995_199;

/// What an error says that stands for something that Jinja2 has and this crate has not.
const UNSUPPORTED: &str = "is not supported";

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn message(fields: &Value) -> ChatMessage {
    let text = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
    ChatMessage {
        content: text("content"),
        reasoning_content: text("reasoning_content"),
        name: text("name"),
        tool_calls: list(&fields["tool_calls"]),
        tool_call_id: text("tool_call_id"),
        ..ChatMessage::new(text("role").unwrap().parse().unwrap(), "")
    }
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW_UNIX_S)
}

fn request(conversation: &Value) -> ChatRequest {
    ChatRequest {
        continue_final_message: false,
        messages: list(&conversation["messages"])
            .iter()
            .map(message)
            .collect(),
        tools: list(&conversation["tools"]),
        add_generation_prompt: conversation["add_generation_prompt"]
            .as_bool()
            .unwrap_or(true),
        template_kwargs: conversation["template_kwargs"]
            .as_object()
            .cloned()
            .unwrap_or_default(),
        now: now(),
    }
}

fn difference(source: &str, expected: &str, got: &Result<String, TextError>) -> String {
    let got = match got {
        Ok(text) => format!("{text:?}"),
        Err(error) => format!("error: {error}"),
    };
    format!("{source}\n  expected {expected}\n       got {got}")
}

fn report(failures: &[String]) {
    assert!(
        failures.is_empty(),
        "{} cases differ:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

#[test]
fn every_feature_renders_as_jinja2_renders_it() {
    let recorded: Value = serde_json::from_str(include_str!("fixtures/expressions.json")).unwrap();
    let request = ChatRequest {
        messages: vec![ChatMessage::new(Role::User, "")],
        template_kwargs: [("v".to_owned(), recorded["v"].clone())]
            .into_iter()
            .collect(),
        now: now(),
        ..ChatRequest::default()
    };
    let mut failures = Vec::new();
    let render = |source: &str| {
        ChatTemplate::new(source)
            .and_then(|template| template.render(&request, &SpecialTokens::new()))
    };
    for case in list(&recorded["cases"]) {
        let source = case[0].as_str().unwrap();
        let rendered = render(source);
        let expected = match (case[1].as_str(), &rendered) {
            (None, Err(_)) => continue,
            (Some(expected), Ok(text)) if text == expected => continue,
            (Some(expected), _) => format!("{expected:?}"),
            (None, _) => "a failure".to_owned(),
        };
        failures.push(difference(source, &expected, &rendered));
    }
    for source in list(&recorded["unsupported"]) {
        let source = source.as_str().unwrap();
        match render(source) {
            Err(error) if error.to_string().contains(UNSUPPORTED) => {}
            rendered => failures.push(difference(source, UNSUPPORTED, &rendered)),
        }
    }
    report(&failures);
}

/// FNV-1a of 64 bits, and the length, as the recording has them.
fn fnv(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    format!("{hash:016x}:{}", text.len())
}

#[test]
fn public_templates_render_as_jinja2_renders_them() {
    let Some(folder) = std::env::var_os("MAITRE_TEST_DATA") else {
        println!(
            "skipped: set MAITRE_TEST_DATA to the folder with chat-templates/ to run this test"
        );
        return;
    };
    let folder = std::path::Path::new(&folder).join("chat-templates");
    let recorded: Value =
        serde_json::from_str(include_str!("fixtures/conversations.json")).unwrap();
    let special_tokens: SpecialTokens =
        serde_json::from_value(recorded["special_tokens"].clone()).unwrap();
    let mut failures = Vec::new();
    for template in list(&recorded["templates"]) {
        let name = template["template"].as_str().unwrap();
        let source = std::fs::read_to_string(folder.join(name)).unwrap();
        let parsed = match ChatTemplate::new(&source) {
            Ok(parsed) => parsed,
            Err(error) => {
                failures.push(format!("{name}: {error}"));
                continue;
            }
        };
        for (case, expected) in template["results"].as_object().unwrap() {
            let rendered =
                parsed.render(&request(&recorded["conversations"][case]), &special_tokens);
            let same = match (expected, &rendered) {
                (Value::String(expected), Ok(text)) => fnv(text) == *expected,
                (Value::Object(refused), Err(TextError::TemplateRefused { message })) => {
                    refused["refused"] == **message
                }
                (Value::Null, Err(TextError::TemplateFailed { .. })) => true,
                _ => false,
            };
            if !same {
                failures.push(format!(
                    "{name}, {case}: expected {expected}, got {rendered:?}"
                ));
            }
        }
    }
    report(&failures);
}
