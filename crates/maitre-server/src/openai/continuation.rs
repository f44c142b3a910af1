//! `continue_final_message`: the answer goes on with the last message of the conversation, as with vLLM.

use maitre_engine::{ChatMessage, ChatRequest, Role};

use crate::service::violations::Violations;

/// How the prompt of a conversation ends, as it was asked for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PromptEnd {
    pub(super) add_generation_prompt: Option<bool>,
    pub(super) continue_final_message: Option<bool>,
}

impl PromptEnd {
    /// Has the prompt of `chat` end so.
    pub(super) fn apply(self, chat: &mut ChatRequest, found: &mut Violations) {
        chat.continue_final_message = self.continue_final_message == Some(true);
        // With vLLM it has to be set to false; left out, it says nothing.
        chat.add_generation_prompt = match self.add_generation_prompt {
            None => !chat.continue_final_message,
            Some(add) => add,
        };
        if !chat.continue_final_message {
            return;
        }
        let wrong = match chat.messages.last() {
            _ if chat.add_generation_prompt => {
                "and add_generation_prompt are both true; set one of them"
            }
            // That there is none is said elsewhere.
            None => return,
            Some(last) => match what_is_in_the_way(last) {
                Some(reason) => reason,
                None => return,
            },
        };
        found.add("continue_final_message", wrong);
    }
}

fn what_is_in_the_way(last: &ChatMessage) -> Option<&'static str> {
    match last {
        ChatMessage { role, .. } if *role != Role::Assistant => Some(
            "is true, and the last message is not the assistant's; end with the beginning of the answer",
        ),
        ChatMessage { tool_calls, .. } if !tool_calls.is_empty() => {
            Some("is true, and the last message calls tools; expected text to go on with")
        }
        ChatMessage { content: None, .. } => {
            Some("is true, and the last message has no content; give the beginning of the answer")
        }
        _ => None,
    }
}

/// What `echo` puts in front of an answer: the last message, if it is the assistant's.
pub(super) fn echoed(chat: &ChatRequest) -> Option<String> {
    let last = chat.messages.last();
    last.filter(|last| last.role == Role::Assistant)?
        .content
        .clone()
}
