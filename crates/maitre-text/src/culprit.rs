//! Which message or tool a chat template fails at.
//!
//! A template is a program that says at most which of its own lines failed. So it is run again on parts
//! of the conversation: the first message with which it fails in the same words, and without which it
//! does not, is the one at fault; tools alike. Halving needs few runs, each with the template's limits.

use serde_json::{Value, json};

use crate::{ChatMessage, ChatRequest, Role, TextError, Tokenizer};

/// The largest conversation that is rendered again: its failure should cost no more than an answer.
const MAX_BYTES: usize = 1 << 16;

impl Tokenizer {
    /// The field of a chat that [`encode_chat`](Self::encode_chat) fails at with `error`: `messages[3]` or
    /// `tools[0]`; `None` where it cannot be told.
    #[must_use]
    pub fn field_at_fault(&self, chat: &ChatRequest, error: &TextError) -> Option<String> {
        let is_of_content = matches!(
            error,
            TextError::TemplateFailed { .. } | TextError::TemplateRefused { .. }
        );
        if !is_of_content || chat.size_in_bytes() > MAX_BYTES {
            return None;
        }
        let message = error.to_string();
        let fails = |messages: &[ChatMessage], tools: &[Value]| {
            let part = ChatRequest {
                messages: messages.to_vec(),
                tools: tools.to_vec(),
                // The last message of a part may be another's.
                continue_final_message: false,
                ..chat.clone()
            };
            let rendered = self.encode_chat(&part);
            rendered.is_err_and(|error| error.to_string() == message)
        };
        let (messages, tools) = (&chat.messages[..], &chat.tools[..]);
        let is_of_tools = !tools.is_empty() && !fails(messages, &[]);
        let (list, index) = if is_of_tools {
            let is_of_any = || fails(messages, &[plain_tool()]);
            let fails = |count| fails(messages, &tools[..count]);
            ("tools", first_at_fault(tools.len(), fails, is_of_any)?)
        } else {
            let is_of_any = || fails(&[ChatMessage::new(Role::User, "Hello")], &[]);
            let fails = |count| fails(&messages[..count], tools);
            (
                "messages",
                first_at_fault(messages.len(), fails, is_of_any)?,
            )
        };
        Some(format!("{list}[{index}]"))
    }
}

/// The element without which the elements before it do not fail; `None` where any first element would.
fn first_at_fault(
    len: usize,
    fails: impl Fn(usize) -> bool,
    is_of_any: impl FnOnce() -> bool,
) -> Option<usize> {
    // The first `good` elements do not fail, the first `bad` do.
    let (mut good, mut bad) = (0, len);
    while bad - good > 1 {
        let middle = good.midpoint(bad);
        if fails(middle) {
            bad = middle;
        } else {
            good = middle;
        }
    }
    (good > 0 || !is_of_any()).then_some(good)
}

/// A tool without anything unusual.
fn plain_tool() -> Value {
    json!({
        "type": "function",
        "function": {
            "name": "now",
            "description": "The time.",
            "parameters": {"type": "object", "properties": {}, "required": []},
        },
    })
}
