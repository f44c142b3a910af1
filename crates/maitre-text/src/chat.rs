//! A conversation as a caller gives it.

use std::str::FromStr;
use std::time::SystemTime;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::TextError;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions that frame the conversation.
    System,
    /// The person, or the program that speaks for them.
    User,
    /// The model.
    Assistant,
    /// The result of a tool call.
    Tool,
}

impl FromStr for Role {
    type Err = TextError;

    /// Accepts `system`, `user`, `assistant`, `tool`, and `developer`, the newer name that OpenAI's
    /// clients send for what open models were trained to know as `system`.
    fn from_str(role: &str) -> Result<Self, TextError> {
        match role {
            "system" | "developer" => Ok(Self::System),
            "user" => Ok(Self::User),
            "assistant" => Ok(Self::Assistant),
            "tool" => Ok(Self::Tool),
            other => Err(TextError::UnknownRole {
                role: other.to_owned(),
            }),
        }
    }
}

/// One message. Templates see the fields that are set, under these names.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChatMessage {
    /// Who speaks.
    pub role: Role,
    /// What they say. `None` is a null, which templates tell from an empty text: some APIs have it in
    /// a message that only calls tools.
    pub content: Option<String>,
    /// The model's thoughts before `content`, if they were kept apart from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// The speaker's or the tool's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The tools that an assistant's message calls, as `{id, type, function: {name, arguments}}`.
    /// Most templates expect `arguments` as an object, not as a string that contains JSON.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<Value>,
    /// Which call a tool's message answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

impl ChatMessage {
    /// A message of plain text.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: Some(content.into()),
            reasoning_content: None,
            name: None,
            tool_calls: Vec::new(),
            tool_call_id: None,
        }
    }
}

/// A conversation and how the model's template is to render it.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatRequest {
    /// The conversation, at least one message.
    pub messages: Vec<ChatMessage>,
    /// Tools that the model may call, as JSON schemas `{type: "function", function: {…}}`.
    pub tools: Vec<Value>,
    /// Ends the prompt with the opening of an assistant's message (default: yes).
    pub add_generation_prompt: bool,
    /// Leaves the last message open, which has to be the assistant's, so that the answer goes on with it; then
    /// `add_generation_prompt` does not count.
    pub continue_final_message: bool,
    /// Further variables for the template, such as `enable_thinking`.
    pub template_kwargs: Map<String, Value>,
    /// What the template's `strftime_now` calls now, in UTC. No clock is read below the engine, so
    /// that a prompt is a function of its request; the default is 1970.
    pub now: SystemTime,
}

impl ChatRequest {
    /// A conversation without tools, to be answered by the assistant.
    pub fn new(messages: Vec<ChatMessage>) -> Self {
        Self {
            messages,
            ..Self::default()
        }
    }
}

/// Charged for a message or a tool beside its text: what a template makes of one is never shorter than a
/// token or two, and looking at one costs as much as some dozens of bytes of text.
const ITEM_BYTES: usize = 64;
/// Charged for a JSON value beside its text. Even `[]` is a token in a prompt, and larger in memory than most.
const JSON_NODE_BYTES: usize = 16;

impl ChatRequest {
    /// Bytes of everything a caller brings into the template, with a charge for each message, tool and JSON
    /// value: what bounds the work of rendering it. A million empty messages are not nothing.
    pub fn size_in_bytes(&self) -> usize {
        let message = |message: &ChatMessage| {
            let texts = [
                &message.content,
                &message.reasoning_content,
                &message.name,
                &message.tool_call_id,
            ];
            ITEM_BYTES
                + texts.into_iter().flatten().map(String::len).sum::<usize>()
                + message.tool_calls.iter().map(item_bytes).sum::<usize>()
        };
        self.messages.iter().map(message).sum::<usize>()
            + self.tools.iter().map(item_bytes).sum::<usize>()
            + object_bytes(&self.template_kwargs)
    }
}

fn item_bytes(value: &Value) -> usize {
    ITEM_BYTES + json_bytes(value)
}

/// Bytes of the strings in a JSON value, and a charge for it and each value in it.
fn json_bytes(value: &Value) -> usize {
    JSON_NODE_BYTES
        + match value {
            Value::String(text) => text.len(),
            Value::Array(items) => items.iter().map(json_bytes).sum(),
            Value::Object(fields) => object_bytes(fields),
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        }
}

fn object_bytes(fields: &Map<String, Value>) -> usize {
    let field = |(key, value): (&String, &Value)| key.len() + json_bytes(value);
    fields.iter().map(field).sum()
}

impl Default for ChatRequest {
    fn default() -> Self {
        Self {
            messages: Vec::new(),
            tools: Vec::new(),
            add_generation_prompt: true,
            continue_final_message: false,
            template_kwargs: Map::new(),
            now: SystemTime::UNIX_EPOCH,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_string_of_a_conversation_counts() {
        let mut chat = ChatRequest::new(vec![ChatMessage::new(Role::User, "1234")]);
        assert_eq!(chat.size_in_bytes(), ITEM_BYTES + 4);
        chat.messages[0].name = Some("12".into());
        chat.messages[0].reasoning_content = Some("123".into());
        chat.messages[0].tool_call_id = Some("12345".into());
        assert_eq!(chat.size_in_bytes(), ITEM_BYTES + 4 + 2 + 3 + 5);
    }

    #[test]
    fn every_message_tool_and_json_value_is_charged_for() {
        let node = JSON_NODE_BYTES;
        let empty = vec![ChatMessage::new(Role::User, ""); 1000];
        assert_eq!(ChatRequest::new(empty).size_in_bytes(), 1000 * ITEM_BYTES);
        let mut chat = ChatRequest::new(vec![ChatMessage::new(Role::Assistant, "")]);
        chat.messages[0].tool_calls = vec![serde_json::json!({"id": ["1", "2"]})];
        let call = ITEM_BYTES + 4 * node + 4;
        assert_eq!(chat.size_in_bytes(), ITEM_BYTES + call);
        chat.tools = vec![serde_json::json!([[], {}, null, true, 7, 1.5])];
        let tool = ITEM_BYTES + 7 * node;
        assert_eq!(chat.size_in_bytes(), ITEM_BYTES + call + tool);
        chat.template_kwargs = serde_json::from_str(r#"{"key": {"a": ""}}"#).unwrap();
        let kwargs = 3 + node + 1 + node;
        assert_eq!(chat.size_in_bytes(), ITEM_BYTES + call + tool + kwargs);
    }
}
