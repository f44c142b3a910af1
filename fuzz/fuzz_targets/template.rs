//! Chat templates, which come with models, and conversations, which come with requests: rendered within bounds or refused, and
//! the same twice.
#![no_main]

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use maitre_fuzz::{Input, TOKENIZER};
use maitre_text::{ChatMessage, ChatRequest, ChatTemplate, Role, TemplateLimits};
use serde_json::{Map, Value, json};

const LIMITS: TemplateLimits = TemplateLimits {
    instructions: 200_000,
    output_bytes: 1 << 20,
};
const LONGEST: Duration = Duration::from_secs(20);

/// A value that a text is, or the text.
fn value(text: String) -> Value {
    serde_json::from_str(&text).unwrap_or(Value::String(text))
}

fn request(input: &mut Input<'_>) -> ChatRequest {
    let switches = input.byte();
    let mut messages = Vec::new();
    while messages.len() < 4 {
        let kind = input.byte();
        let role = [Role::System, Role::User, Role::Assistant, Role::Tool][usize::from(kind & 3)];
        let mut message = ChatMessage::new(role, input.text());
        match kind >> 2 & 7 {
            1 => message.content = None,
            2 => message.reasoning_content = Some(input.text()),
            3 => {
                let arguments = value(input.text());
                message.tool_calls = vec![
                    json!({"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}),
                ];
            }
            4 => message.tool_calls = vec![value(input.text())],
            5 => message.name = Some(input.text()),
            _ => {}
        }
        messages.push(message);
        if input.0.is_empty() {
            break;
        }
    }
    let mut request = ChatRequest::new(messages);
    request.add_generation_prompt = switches & 1 == 0;
    if switches & 2 != 0 {
        request.tools = vec![value(input.text())];
    }
    if switches & 4 != 0 {
        let arguments = [("enable_thinking".to_owned(), value(input.text()))];
        request.template_kwargs = Map::from_iter(arguments);
    }
    request
}

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let source = input.text();
    let request = request(&mut input);
    let begun = Instant::now();
    let Ok(template) = ChatTemplate::new(&source) else {
        assert!(
            begun.elapsed() < LONGEST,
            "parsing took {:?}",
            begun.elapsed()
        );
        return;
    };
    let template = template.with_limits(LIMITS);
    let _ = (template.tool_format(), template.reasoning_format());
    let rendered = template.render(&request, TOKENIZER.special_tokens());
    assert!(
        begun.elapsed() < LONGEST,
        "rendering took {:?}",
        begun.elapsed()
    );
    if let Ok(text) = &rendered {
        assert!(text.len() <= LIMITS.output_bytes, "{} bytes", text.len());
        let again = template.render(&request, TOKENIZER.special_tokens());
        assert_eq!(
            again.as_ref().ok(),
            Some(text),
            "another text the second time"
        );
    }
});
