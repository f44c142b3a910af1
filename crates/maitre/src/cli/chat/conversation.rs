//! What was said so far: a system prompt, and messages with their answers.
//!
//! Only whole exchanges are kept. A message that was refused, failed or stopped before its first word leaves the
//! conversation as it was, so that a template that wants user and assistant to alternate never sees two users in a row.

use std::time::SystemTime;

use maitre::{ChatMessage, ChatRequest, Role};
use serde_json::{Value, json};

/// A conversation. Each turn sends all of it again; the prefix cache knows it from the turn before.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    pub(super) system: Option<String>,
    exchanges: Vec<Exchange>,
}

/// A message and its answer.
#[derive(Debug)]
struct Exchange {
    message: String,
    answer: String,
}

impl Conversation {
    pub(super) fn new(system: Option<String>) -> Self {
        Self {
            system,
            exchanges: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.exchanges.is_empty()
    }

    /// Exchanges so far.
    pub(super) fn len(&self) -> usize {
        self.exchanges.len()
    }

    /// Keeps the first `before` exchanges, and this one after them.
    pub(super) fn answered(&mut self, before: usize, message: String, answer: String) {
        self.exchanges.truncate(before);
        self.exchanges.push(Exchange { message, answer });
    }

    /// Forgets the exchanges; the system prompt stays.
    pub(super) fn clear(&mut self) {
        self.exchanges.clear();
    }

    /// Takes back the last exchange; its message, if there was one.
    pub(super) fn undo(&mut self) -> Option<String> {
        self.exchanges.pop().map(|exchange| exchange.message)
    }

    /// The message of the last exchange.
    pub(super) fn last_message(&self) -> Option<&str> {
        let last = self.exchanges.last();
        last.map(|exchange| exchange.message.as_str())
    }

    /// The first `before` exchanges with `message` after them, to be answered.
    pub(super) fn asking(&self, before: usize, message: &str) -> ChatRequest {
        let mut messages = self.messages(before);
        messages.push(ChatMessage::new(Role::User, message));
        request(messages)
    }

    /// All of it, as it would stand before the next message; `None` while nothing was said.
    pub(super) fn so_far(&self) -> Option<ChatRequest> {
        let messages = self.messages(self.len());
        (!messages.is_empty()).then(|| ChatRequest {
            add_generation_prompt: false,
            ..request(messages)
        })
    }

    fn messages(&self, exchanges: usize) -> Vec<ChatMessage> {
        let system = self.system.as_ref();
        let system = system.map(|text| ChatMessage::new(Role::System, text));
        let exchanges = self.exchanges.iter().take(exchanges);
        let said = exchanges.flat_map(|exchange| {
            [
                ChatMessage::new(Role::User, &exchange.message),
                ChatMessage::new(Role::Assistant, &exchange.answer),
            ]
        });
        system.into_iter().chain(said).collect()
    }

    /// The messages as OpenAI's API takes them.
    pub(super) fn as_json(&self) -> Value {
        json!({ "messages": self.messages(self.len()) })
    }
}

/// For templates that tell the date, it is today's.
fn request(messages: Vec<ChatMessage>) -> ChatRequest {
    ChatRequest {
        now: SystemTime::now(),
        ..ChatRequest::new(messages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(request: &ChatRequest) -> Vec<(Role, &str)> {
        let messages = request.messages.iter();
        messages
            .map(|message| (message.role, message.content.as_deref().unwrap_or_default()))
            .collect()
    }

    #[test]
    fn a_question_comes_after_what_was_said_before_it() {
        let mut conversation = Conversation::new(Some("Be brief.".into()));
        conversation.answered(0, "a".into(), "A".into());
        conversation.answered(1, "b".into(), "B".into());
        let system = (Role::System, "Be brief.");
        let first = [(Role::User, "a"), (Role::Assistant, "A")];
        let asked = conversation.asking(1, "c");
        assert_eq!(
            texts(&asked),
            [system, first[0], first[1], (Role::User, "c")]
        );
        // Answered in the place of the second exchange.
        conversation.answered(1, "c".into(), "C".into());
        assert_eq!(conversation.last_message(), Some("c"));
        assert_eq!(conversation.undo().as_deref(), Some("c"));
        let so_far = conversation.so_far().unwrap();
        assert_eq!(texts(&so_far), [system, first[0], first[1]]);
        assert!(!so_far.add_generation_prompt);
        conversation.clear();
        assert_eq!(texts(&conversation.so_far().unwrap()), [system]);
        conversation.system = None;
        assert!(conversation.so_far().is_none());
    }
}
