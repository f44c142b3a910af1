//! How much there is to a message, counted before anything is made of it.
//!
//! Two bytes of a message may be a tool call, of which a template gets an object of a kilobyte. What can't be part of a
//! request is therefore refused while it is still a message: a conversation far larger than the context, and lists far
//! longer than allowed. Closer to their bounds the engine is exact.

use maitre_engine::limits::{
    MAX_LOGIT_BIAS, MAX_PROMPT_BYTES_PER_TOKEN, MAX_STOP_STRINGS, MAX_STOP_TOKEN_IDS,
};
use maitre_proto::v1;

use super::Violations;

/// Charged for a message, tool or tool call, as the engine does.
const ITEM_BYTES: usize = 64;
/// Bytes of JSON that may stand for one byte of text: an escape like `\u0041`.
const JSON_BYTES_PER_BYTE: usize = 6;
/// Lists this many times as long as allowed are not made at all.
const FAR_TOO_LONG: usize = 16;

/// A request of the API.
pub(crate) trait RequestSize {
    /// Bytes of its conversation, no more than the engine will count; 0 without one.
    fn conversation_bytes(&self) -> usize;
    /// Its stopping conditions.
    fn stopping(&self) -> Option<&v1::StoppingParams>;
    /// Its sampling parameters.
    fn sampling(&self) -> Option<&v1::SamplingParams>;

    /// What is wrong with a request that is not worth converting for a context of so many tokens; empty if it is.
    fn oversize(&self, context: usize) -> Violations {
        let mut found = Violations::default();
        let bytes = self.conversation_bytes();
        if bytes > context.saturating_mul(MAX_PROMPT_BYTES_PER_TOKEN) {
            let more =
                format!("has {bytes} bytes, far more than a context of {context} tokens holds");
            found.add("messages", more);
        }
        let mut check = |field: &str, what: &str, length: usize, most: usize| {
            if length > most * FAR_TOO_LONG {
                found.add(
                    field,
                    format!("has {length} {what}; at most {most} are allowed"),
                );
            }
        };
        if let Some(stopping) = self.stopping() {
            check(
                "stopping.stop",
                "strings",
                stopping.stop.len(),
                MAX_STOP_STRINGS,
            );
            let ids = stopping.stop_token_ids.len();
            check("stopping.stop_token_ids", "ids", ids, MAX_STOP_TOKEN_IDS);
        }
        if let Some(sampling) = self.sampling() {
            let entries = sampling.logit_bias.len();
            check("sampling.logit_bias", "entries", entries, MAX_LOGIT_BIAS);
        }
        found
    }
}

fn text(text: Option<&String>) -> usize {
    text.map_or(0, String::len)
}

/// At least what the values of a JSON text take.
fn json(text: &str) -> usize {
    let written = text.bytes().filter(|byte| !byte.is_ascii_whitespace());
    written.count() / JSON_BYTES_PER_BYTE
}

fn conversation(messages: &[v1::ChatMessage], tools: &[v1::Tool], kwargs: &str) -> usize {
    let call = |call: &v1::ToolCall| {
        ITEM_BYTES + call.id.len() + call.name.len() + json(&call.arguments_json)
    };
    let message = |message: &v1::ChatMessage| {
        let texts = [
            &message.reasoning_content,
            &message.name,
            &message.tool_call_id,
        ];
        let texts: usize = texts.into_iter().map(|it| text(it.as_ref())).sum();
        ITEM_BYTES
            + message.content.len()
            + texts
            + message.tool_calls.iter().map(call).sum::<usize>()
    };
    let tool = |tool: &v1::Tool| {
        ITEM_BYTES + tool.name.len() + tool.description.len() + json(&tool.parameters_json)
    };
    messages.iter().map(message).sum::<usize>()
        + tools.iter().map(tool).sum::<usize>()
        + json(kwargs)
}

macro_rules! sized {
    ($request:ty, $bytes:expr) => {
        impl RequestSize for $request {
            fn conversation_bytes(&self) -> usize {
                let bytes: fn(&$request) -> usize = $bytes;
                bytes(self)
            }

            fn stopping(&self) -> Option<&v1::StoppingParams> {
                self.stopping.as_ref()
            }

            fn sampling(&self) -> Option<&v1::SamplingParams> {
                self.sampling.as_ref()
            }
        }
    };
}

sized!(v1::GenerateRequest, |_| 0);
sized!(v1::StreamGenerateRequest, |_| 0);
sized!(v1::ChatRequest, |it| {
    conversation(&it.messages, &it.tools, &it.template_kwargs_json)
});
sized!(v1::StreamChatRequest, |it| {
    conversation(&it.messages, &it.tools, &it.template_kwargs_json)
});

#[cfg(test)]
mod tests {
    use maitre_engine::Input;

    use super::*;
    use crate::convert::request::chat;

    /// A message of two bytes is not nothing, nor is a tool call.
    #[test]
    fn small_parts_in_great_numbers_are_refused_before_they_are_made() {
        let message = |message: v1::ChatMessage, tools: usize, kwargs: &str| v1::ChatRequest {
            messages: vec![message],
            tools: vec![v1::Tool::default(); tools],
            template_kwargs_json: kwargs.to_owned(),
            ..Default::default()
        };
        let calls = v1::ChatMessage {
            tool_calls: vec![v1::ToolCall::default(); 10_000],
            ..Default::default()
        };
        let lists = format!("{{\"x\": [{}[]]}}", "[], ".repeat(1_000_000));
        for request in [
            message(calls, 0, ""),
            message(v1::ChatMessage::default(), 10_000, ""),
            message(v1::ChatMessage::default(), 0, &lists),
            v1::ChatRequest {
                messages: vec![v1::ChatMessage::default(); 10_000],
                ..Default::default()
            },
        ] {
            assert_eq!(request.oversize(2048).fields(), ["messages"]);
            assert!(request.oversize(1 << 20).is_empty());
        }
    }

    #[test]
    fn lists_far_too_long_are_refused_before_they_are_made() {
        let request = v1::GenerateRequest {
            stopping: Some(v1::StoppingParams {
                stop: vec![String::new(); 2000],
                stop_token_ids: vec![1; 5000],
                ..Default::default()
            }),
            sampling: Some(v1::SamplingParams {
                logit_bias: (0..20_000).map(|id| (id, 0.0)).collect(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let found = request.oversize(2048);
        let lists = [
            "stopping.stop",
            "stopping.stop_token_ids",
            "sampling.logit_bias",
        ];
        assert_eq!(found.fields(), lists);
    }

    /// What the engine would take is never refused here.
    #[test]
    fn the_count_is_never_above_the_engines() {
        let escaped = "\\u0041".repeat(50);
        for arguments in [
            "",
            "{}",
            r#"{"a": [1, 2, [], {"b": "c d"}]}"#,
            &format!("{{\"k\":\"{escaped}\"}}"),
        ] {
            let request = v1::ChatRequest {
                messages: vec![v1::ChatMessage {
                    role: "user".into(),
                    content: "text".into(),
                    tool_calls: vec![v1::ToolCall {
                        id: "1".into(),
                        name: "f".into(),
                        arguments_json: arguments.into(),
                    }],
                    ..Default::default()
                }],
                tools: vec![v1::Tool {
                    name: "f".into(),
                    description: "d".into(),
                    parameters_json: arguments.into(),
                }],
                template_kwargs_json: arguments.into(),
                ..Default::default()
            };
            let counted = request.conversation_bytes();
            let Input::Chat(converted) = chat(request, None).request.input else {
                panic!("not a conversation");
            };
            assert!(counted <= converted.size_in_bytes(), "{arguments}");
        }
    }
}
