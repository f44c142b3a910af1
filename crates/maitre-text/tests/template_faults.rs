//! A template's failure is told by the message or the tool that it fails at.
#![allow(missing_docs, clippy::unwrap_used)]

mod data;

use maitre_text::{ChatMessage, ChatRequest, Role, Tokenizer};
use serde_json::{Value, json};

/// A tool that no template minds.
fn plain() -> Value {
    json!({"type": "function", "function": {"name": "f", "description": "", "parameters": {"type": "object"}}})
}

/// The field at fault when `template` renders `messages` and `tools`.
fn culprit(template: &str, messages: &[(Role, &str)], tools: &[Value]) -> Option<String> {
    let tokenizer =
        Tokenizer::from_bytes(data::BUNDLED_TOKENIZER, None, Some(template.as_bytes())).unwrap();
    let messages = messages.iter();
    let chat = ChatRequest {
        tools: tools.to_vec(),
        ..ChatRequest::new(
            messages
                .map(|(role, text)| ChatMessage::new(*role, *text))
                .collect(),
        )
    };
    let error = tokenizer.encode_chat(&chat).unwrap_err();
    tokenizer.field_at_fault(&chat, &error)
}

const MESSAGES: &str = "{% for m in messages %}{% if m.role == 'system' and not loop.first %}\
    {{ raise_exception('a system message must be the first') }}{% endif %}{{ m.content }}{% endfor %}";
const TOOLS: &str = "{% for t in tools %}{% if t.function.parameters is not mapping %}\
    {{ raise_exception('no parameters') }}{% endif %}{% endfor %}{{ messages[0].content }}";

#[test]
fn the_message_at_fault_is_found() {
    use Role::{Assistant, System, User};
    for len in 2..9 {
        for at in 1..len {
            let mut messages = vec![(User, "a"); len];
            messages[at] = (System, "b");
            let found = culprit(MESSAGES, &messages, &[]);
            assert_eq!(found, Some(format!("messages[{at}]")), "{len}");
        }
    }
    let first = "{% if messages[0].role != 'user' %}{{ raise_exception('user first') }}{% endif %}";
    let found = culprit(first, &[(Assistant, "a"), (User, "b")], &[]);
    assert_eq!(found.as_deref(), Some("messages[0]"));
}

#[test]
fn the_tool_at_fault_is_found() {
    let odd = json!({"type": "function", "function": {"name": "x"}});
    let tools = [plain(), plain(), odd, plain()];
    let found = culprit(TOOLS, &[(Role::User, "a")], &tools);
    assert_eq!(found.as_deref(), Some("tools[2]"));
}

#[test]
fn what_always_fails_is_no_messages_fault() {
    let always = "{{ raise_exception('closed') }}";
    assert_eq!(
        culprit(always, &[(Role::User, "a"), (Role::User, "b")], &[]),
        None
    );
    let no_tools = "{% if tools %}{{ raise_exception('no tools') }}{% endif %}";
    assert_eq!(culprit(no_tools, &[(Role::User, "a")], &[plain()]), None);
}
