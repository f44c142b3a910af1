//! Renderings equal those of Python's Jinja, recorded by `fixtures/render_with_jinja2.py`: small
//! templates that touch one feature each, and the templates of public models (read from
//! `MAITRE_TEST_DATA`).

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::time::{Duration, SystemTime};

use maitre_text::{ChatMessage, ChatRequest, ChatTemplate, SpecialTokens, TextError};
use serde_json::Value;

/// The moment that the recording's `strftime_now` stood at.
const NOW_UNIX_S: u64 = 1_721_995_199;

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn message(fields: &Value) -> ChatMessage {
    let text = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
    ChatMessage {
        reasoning_content: text("reasoning_content"),
        tool_calls: list(&fields["tool_calls"]),
        tool_call_id: text("tool_call_id"),
        ..ChatMessage::new(
            text("role").unwrap().parse().unwrap(),
            text("content").unwrap(),
        )
    }
}

fn request(case: &Value) -> ChatRequest {
    ChatRequest {
        messages: case["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(message)
            .collect(),
        tools: list(&case["tools"]),
        add_generation_prompt: case["add_generation_prompt"].as_bool().unwrap_or(true),
        template_kwargs: case["template_kwargs"]
            .as_object()
            .cloned()
            .unwrap_or_default(),
        now: SystemTime::UNIX_EPOCH + Duration::from_secs(NOW_UNIX_S),
    }
}

/// Equal text, or an error on both sides; what `raise_exception` was told must arrive word for word.
fn check(case: &Value, rendered: Result<String, TextError>) -> Result<(), String> {
    match (case["expected"].as_str(), rendered) {
        (Some(expected), Ok(text)) if text == expected => Ok(()),
        (Some(expected), Ok(text)) => Err(format!("expected {expected:?}\n     got {text:?}")),
        (Some(expected), Err(error)) => {
            Err(format!("expected {expected:?}\n     got error {error}"))
        }
        (None, Ok(text)) => Err(format!(
            "expected {} ({})\n     got {text:?}",
            case["error"], case["message"]
        )),
        (None, Err(TextError::TemplateRefused { message }))
            if message != case["message"].as_str().unwrap() =>
        {
            Err(format!(
                "expected refusal {}\n     got {message:?}",
                case["message"]
            ))
        }
        (None, Err(_)) => Ok(()),
    }
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
fn every_feature_renders_as_python_renders_it() {
    let cases: Vec<Value> =
        serde_json::from_str(include_str!("fixtures/environment.json")).unwrap();
    let mut failures = Vec::new();
    for case in &cases {
        let source = case["template"].as_str().unwrap();
        let request = ChatRequest {
            messages: vec![ChatMessage::new(maitre_text::Role::User, "")],
            template_kwargs: [("v".to_owned(), case["v"].clone())].into_iter().collect(),
            now: SystemTime::UNIX_EPOCH + Duration::from_secs(NOW_UNIX_S),
            ..ChatRequest::default()
        };
        let rendered = ChatTemplate::new(source)
            .and_then(|template| template.render(&request, &SpecialTokens::new()));
        failures.extend(
            check(case, rendered)
                .err()
                .map(|difference| format!("{source:?}\n{difference}")),
        );
    }
    report(&failures);
}

#[test]
fn public_templates_render_as_python_renders_them() {
    let Some(folder) = std::env::var_os("MAITRE_TEST_DATA") else {
        println!(
            "skipped: set MAITRE_TEST_DATA to the folder with chat-templates/ to run this test"
        );
        return;
    };
    let folder = std::path::Path::new(&folder).join("chat-templates");
    let cases: Vec<Value> = serde_json::from_str(include_str!("fixtures/templates.json")).unwrap();
    let mut failures = Vec::new();
    for case in &cases {
        let name = case["template"].as_str().unwrap();
        let source = std::fs::read_to_string(folder.join(name)).unwrap();
        let specials: SpecialTokens =
            serde_json::from_value(case["special_tokens"].clone()).unwrap();
        let rendered = ChatTemplate::new(&source)
            .and_then(|template| template.render(&request(case), &specials));
        failures.extend(
            check(case, rendered)
                .err()
                .map(|difference| format!("{name} {}\n{difference}", case["case"])),
        );
    }
    report(&failures);
}
