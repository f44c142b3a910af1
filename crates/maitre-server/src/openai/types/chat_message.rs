//! A message of a conversation as clients send it.

use std::fmt;

use maitre_engine::{ChatMessage, Role};
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;

use crate::openai::json::IsGiven;
use crate::openai::schemas;
use crate::openai::tools::GivenCall;
use crate::service::violations::Violations;

/// One message.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
pub(in crate::openai) struct GivenMessage {
    /// `system`, `developer`, `user`, `assistant` or `tool`.
    role: Option<String>,
    /// Text, or a list of parts of text.
    #[schema(schema_with = schemas::content)]
    content: Option<Content>,
    /// The model's thoughts before `content`.
    #[serde(alias = "reasoning")]
    reasoning_content: Option<String>,
    /// The speaker's or the tool's name.
    name: Option<String>,
    /// The tools that an assistant's message calls.
    tool_calls: Option<Vec<GivenCall>>,
    /// Which call a tool's message answers.
    tool_call_id: Option<String>,
    /// What an assistant said instead of an answer.
    refusal: Option<String>,
    #[serde(default)]
    #[schema(ignore)]
    audio: IsGiven,
    #[serde(default)]
    #[schema(ignore)]
    function_call: IsGiven,
}

/// What a message says.
#[derive(Debug, Clone)]
enum Content {
    Text(String),
    Parts(Vec<ContentPart>),
}

/// A part of what it says.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct ContentPart {
    r#type: Option<String>,
    text: Option<String>,
    refusal: Option<String>,
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrParts;
        impl<'de> Visitor<'de> for TextOrParts {
            type Value = Content;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of parts")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Content, E> {
                Ok(Content::Text(text.to_owned()))
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<Content, E> {
                Ok(Content::Text(text))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Content, A::Error> {
                let mut all = Vec::new();
                while let Some(part) = parts.next_element()? {
                    all.push(part);
                }
                Ok(Content::Parts(all))
            }
        }
        deserializer.deserialize_any(TextOrParts)
    }
}

impl Content {
    fn text(self, path: &str, found: &mut Violations) -> String {
        let parts = match self {
            Self::Text(text) => return text,
            Self::Parts(parts) => parts,
        };
        let mut texts = Vec::with_capacity(parts.len());
        for (index, part) in parts.into_iter().enumerate() {
            let path = || format!("{path}.content[{index}]");
            match part.r#type.as_deref() {
                Some("text" | "input_text" | "output_text") => match part.text {
                    Some(text) => texts.push(text),
                    None => found.add(format!("{}.text", path()), "is missing"),
                },
                Some("refusal") => texts.push(part.refusal.unwrap_or_default()),
                Some(other) => found.add(
                    format!("{}.type", path()),
                    format!("is {other:?}, which is not supported here; messages are text: send parts of type text"),
                ),
                None => found.add(format!("{}.type", path()), "is missing; expected text"),
            }
        }
        texts.join("\n")
    }
}

impl GivenMessage {
    /// The message in the engine's terms; `index` is its place in the conversation.
    pub(in crate::openai) fn message(self, index: usize, found: &mut Violations) -> ChatMessage {
        let path = format!("messages[{index}]");
        for (field, given, instead) in [
            ("audio", self.audio, "messages are text"),
            ("function_call", self.function_call, "use tool_calls"),
        ] {
            if given.0 {
                let description = format!("is not supported here; {instead}");
                found.add(format!("{path}.{field}"), description);
            }
        }
        let role = match self.role.as_deref() {
            None => {
                found.add(format!("{path}.role"), "is missing");
                Role::User
            }
            Some(role) => role.parse::<Role>().unwrap_or_else(|unknown| {
                found.add(format!("{path}.role"), unknown.to_string());
                Role::User
            }),
        };
        let tool_calls: Vec<_> = self
            .tool_calls
            .into_iter()
            .flatten()
            .enumerate()
            .map(|(call, given)| {
                given.for_the_template(&format!("{path}.tool_calls[{call}]"), found)
            })
            .collect();
        let content = self.content.map(|content| content.text(&path, found));
        let content = content.or(self.refusal);
        if content.is_none() && role != Role::Assistant {
            found.add(format!("{path}.content"), "is missing");
        }
        ChatMessage {
            role,
            content,
            reasoning_content: self.reasoning_content,
            name: self.name,
            tool_calls,
            tool_call_id: self.tool_call_id,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openai::json;

    fn message(text: &str) -> (ChatMessage, Vec<String>) {
        let given: GivenMessage = json::fields(text.as_bytes()).unwrap();
        let mut found = Violations::default();
        let message = given.message(2, &mut found);
        let fields = found.fields().into_iter().map(str::to_owned).collect();
        (message, fields)
    }

    #[test]
    fn texts_of_parts_are_put_together() {
        let (given, found) = message(
            r#"{"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}"#,
        );
        assert_eq!(given, ChatMessage::new(Role::System, "a\nb"));
        assert!(found.is_empty());
    }

    #[test]
    fn a_message_that_only_calls_tools_needs_no_content() {
        let (given, found) = message(
            r#"{"role": "assistant", "content": null, "tool_calls": [{"id": "1", "type": "function",
                "function": {"name": "f", "arguments": "{}"}}]}"#,
        );
        assert_eq!((given.content, given.tool_calls.len()), (None, 1));
        assert!(found.is_empty());
    }

    #[test]
    fn what_is_not_text_is_refused_by_name() {
        for (text, field) in [
            (
                r#"{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}"#,
                "messages[2].content[0].type",
            ),
            (
                r#"{"role": "user", "content": [{"type": "text"}]}"#,
                "messages[2].content[0].text",
            ),
            (
                r#"{"role": "user", "content": [{}]}"#,
                "messages[2].content[0].type",
            ),
            (r#"{"role": "user"}"#, "messages[2].content"),
            (r#"{"content": "a"}"#, "messages[2].role"),
            (r#"{"role": "robot", "content": "a"}"#, "messages[2].role"),
            (
                r#"{"role": "assistant", "audio": {"id": "1"}}"#,
                "messages[2].audio",
            ),
            (
                r#"{"role": "assistant", "content": "a", "function_call": {"name": "f"}}"#,
                "messages[2].function_call",
            ),
        ] {
            assert_eq!(message(text).1, [field], "{text}");
        }
    }
}
