//! How much there is to a message of the API.

use maitre_proto::v1;

use crate::service::size::{ITEM_BYTES, RequestSize, json_bytes as json};

/// A request of the API.
pub(crate) trait Measured {
    /// How much there is to it.
    fn size(&self) -> RequestSize;
}

fn text(text: Option<&String>) -> usize {
    text.map_or(0, String::len)
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

fn choices(constraint: Option<&v1::ConstraintOptions>) -> usize {
    use v1::constraint_options::Form;
    match constraint.and_then(|it| it.form.as_ref()) {
        Some(Form::Choice(choice)) => choice.texts.len(),
        Some(Form::StructuralTag(tag)) => tag.tags.len() + tag.triggers.len(),
        _ => 0,
    }
}

macro_rules! sized {
    ($request:ty, $conversation_bytes:expr) => {
        impl Measured for $request {
            fn size(&self) -> RequestSize {
                let conversation_bytes: fn(&$request) -> usize = $conversation_bytes;
                let (stopping, sampling) = (self.stopping.as_ref(), self.sampling.as_ref());
                RequestSize {
                    conversation_bytes: conversation_bytes(self),
                    stop_strings: stopping.map_or(0, |it| it.stop.len()),
                    stop_token_ids: stopping.map_or(0, |it| it.stop_token_ids.len()),
                    logit_biases: sampling.map_or(0, |it| it.logit_bias.len()),
                    choices: choices(self.constraint.as_ref()),
                }
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
    use crate::grpc::convert::request::chat;

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
            assert_eq!(request.size().oversize(2048).fields(), ["messages"]);
            assert!(request.size().oversize(1 << 20).is_empty());
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
        let found = request.size().oversize(2048);
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
                    strict: false,
                }],
                template_kwargs_json: arguments.into(),
                ..Default::default()
            };
            let counted = request.size().conversation_bytes;
            let Input::Chat(converted) = chat(request).request.input else {
                panic!("not a conversation");
            };
            assert!(counted <= converted.size_in_bytes(), "{arguments}");
        }
    }
}
