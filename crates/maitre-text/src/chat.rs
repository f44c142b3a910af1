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

impl ChatRequest {
    /// Bytes of everything a caller brings into the template: what bounds the work of rendering it.
    pub fn size_in_bytes(&self) -> usize {
        let message = |message: &ChatMessage| {
            let texts = [
                &message.content,
                &message.reasoning_content,
                &message.name,
                &message.tool_call_id,
            ];
            texts.into_iter().flatten().map(String::len).sum::<usize>()
                + message.tool_calls.iter().map(json_bytes).sum::<usize>()
        };
        self.messages.iter().map(message).sum::<usize>()
            + self.tools.iter().map(json_bytes).sum::<usize>()
            + self.template_kwargs.values().map(json_bytes).sum::<usize>()
    }
}

/// Bytes of the strings in a JSON value; numbers and the like count as a few.
fn json_bytes(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(json_bytes).sum(),
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| key.len() + json_bytes(value))
            .sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => size_of::<f64>(),
    }
}

impl Default for ChatRequest {
    fn default() -> Self {
        Self {
            messages: Vec::new(),
            tools: Vec::new(),
            add_generation_prompt: true,
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
        assert_eq!(chat.size_in_bytes(), 4);
        chat.messages[0].name = Some("12".into());
        chat.messages[0].reasoning_content = Some("123".into());
        chat.messages[0].tool_calls = vec![serde_json::json!({"id": ["1", "2"]})];
        chat.tools = vec![serde_json::json!("1234567")];
        chat.template_kwargs
            .insert("k".into(), serde_json::json!(true));
        assert_eq!(chat.size_in_bytes(), 4 + 2 + 3 + 4 + 7 + 8);
    }
}
