//! A conversation and its tools, in the shape that chat templates expect: JSON as OpenAI's API
//! has it, with arguments and schemas as objects and their keys in the order the caller gave.

use maitre_engine::{ChatMessage, Role};
use maitre_proto::v1;
use serde_json::{Map, Value, json};

use crate::service::violations::Violations;

/// One message; `index` is its place in the conversation.
pub(super) fn chat_message(
    index: usize,
    given: v1::ChatMessage,
    found: &mut Violations,
) -> ChatMessage {
    let role = given.role.parse::<Role>().unwrap_or_else(|unknown| {
        found.add(format!("messages[{index}].role"), unknown.to_string());
        Role::User
    });
    let tool_calls = given
        .tool_calls
        .into_iter()
        .enumerate()
        .map(|(call, given)| {
            tool_call(
                &format!("messages[{index}].tool_calls[{call}]"),
                given,
                found,
            )
        })
        .collect();
    ChatMessage {
        reasoning_content: given.reasoning_content,
        name: given.name,
        tool_calls,
        tool_call_id: given.tool_call_id,
        ..ChatMessage::new(role, given.content)
    }
}

fn tool_call(path: &str, given: v1::ToolCall, found: &mut Violations) -> Value {
    require_name(&given.name, path, found);
    let arguments = object(
        &given.arguments_json,
        || format!("{path}.arguments_json"),
        found,
    );
    json!({
        "id": given.id,
        "type": "function",
        "function": { "name": given.name, "arguments": arguments },
    })
}

pub(super) fn require_name(name: &str, path: &str, found: &mut Violations) {
    if name.is_empty() {
        found.add(format!("{path}.name"), "is empty; a tool needs a name");
    }
}

/// A JSON object; empty text stands for an empty one.
pub(super) fn object(
    text: &str,
    field: impl FnOnce() -> String,
    found: &mut Violations,
) -> Map<String, Value> {
    if text.is_empty() {
        return Map::new();
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => object,
        Ok(_) => {
            found.add(
                field(),
                "is not a JSON object; expected {\"key\": value, ...}",
            );
            Map::new()
        }
        Err(error) => {
            found.add(field(), format!("is not JSON: {error}"));
            Map::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::convert::request::{chat, stream_chat};
    use maitre_engine::Input;

    #[test]
    fn a_conversation_is_checked_part_by_part() {
        let message = v1::ChatRequest {
            messages: vec![
                v1::ChatMessage {
                    role: "user".into(),
                    ..Default::default()
                },
                v1::ChatMessage {
                    role: "robot".into(),
                    tool_calls: vec![v1::ToolCall {
                        arguments_json: "[]".into(),
                        ..Default::default()
                    }],
                    ..Default::default()
                },
            ],
            tools: vec![v1::Tool {
                parameters_json: "{".into(),
                ..Default::default()
            }],
            template_kwargs_json: "7".into(),
            ..Default::default()
        };
        assert_eq!(
            chat(message).violations.fields(),
            [
                "messages[1].role",
                "messages[1].tool_calls[0].name",
                "messages[1].tool_calls[0].arguments_json",
                "tools[0].name",
                "tools[0].parameters_json",
                "template_kwargs_json",
            ]
        );
    }

    #[test]
    fn tools_reach_the_template_in_the_shape_it_expects_and_in_order() {
        let message = v1::StreamChatRequest {
            messages: vec![v1::ChatMessage {
                role: "assistant".into(),
                tool_calls: vec![v1::ToolCall {
                    id: "1".into(),
                    name: "add".into(),
                    arguments_json: r#"{"b":1,"a":2}"#.into(),
                }],
                ..Default::default()
            }],
            tools: vec![v1::Tool {
                name: "add".into(),
                description: "adds".into(),
                parameters_json: r#"{"type":"object","properties":{"b":{},"a":{}}}"#.into(),
                strict: false,
            }],
            template_kwargs_json: r#"{"enable_thinking":false}"#.into(),
            add_generation_prompt: Some(false),
            ..Default::default()
        };
        let Input::Chat(chat) = stream_chat(message).request.input else {
            panic!("not a conversation");
        };
        assert!(!chat.add_generation_prompt);
        assert_eq!(
            chat.messages[0].tool_calls[0].to_string(),
            r#"{"id":"1","type":"function","function":{"name":"add","arguments":{"b":1,"a":2}}}"#
        );
        assert_eq!(
            chat.tools[0].to_string(),
            r#"{"type":"function","function":{"name":"add","description":"adds","parameters":{"type":"object","properties":{"b":{},"a":{}}}}}"#
        );
        assert_eq!(chat.template_kwargs["enable_thinking"], Value::Bool(false));
    }
}
