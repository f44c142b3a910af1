//! Recorded conversations with their texts, one JSON object a line, as ShareGPT's files have them.
//!
//! A line has `conversations` with `from` and `value`, or `messages` with `role` and `content`.

use std::io::BufRead;

use serde::Deserialize;

use crate::trace::lines;
use crate::{BadLine, BadLines, TraceError};

/// A message of a person and the answer that was given to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatTurn {
    /// The message.
    pub message: String,
    /// The answer.
    pub answer: String,
}

/// A conversation. It has at least one turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chat {
    /// In order.
    pub turns: Vec<ChatTurn>,
}

/// Recorded conversations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chats {
    /// In the order of the file.
    pub chats: Vec<Chat>,
    /// Lines that were left out.
    pub skipped: Vec<BadLine>,
}

#[derive(Deserialize)]
struct Line {
    #[serde(alias = "messages")]
    conversations: Vec<Message>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(alias = "role")]
    from: String,
    #[serde(alias = "content")]
    value: String,
}

impl Chats {
    /// Whether a file that begins with this line has conversations.
    #[must_use]
    pub fn begin_with(line: &str) -> bool {
        line.trim_start().starts_with('{')
            && (line.contains("\"conversations\"") || line.contains("\"messages\""))
    }

    /// Reads them.
    ///
    /// # Errors
    ///
    /// [`TraceError`], with the numbers of the lines.
    pub fn read(text: impl BufRead, bad_lines: BadLines) -> Result<Self, TraceError> {
        let (mut chats, mut bad) = (Vec::new(), Vec::new());
        for (number, line) in lines(text) {
            let line = match line? {
                Ok(line) => line,
                Err(no_text) => {
                    bad.push(no_text);
                    continue;
                }
            };
            if line.trim().is_empty() {
                continue;
            }
            match chat(&line) {
                Ok(chat) => chats.push(chat),
                Err(reason) => bad.push(BadLine {
                    line: number,
                    reason,
                }),
            }
        }
        if bad_lines == BadLines::Refuse && !bad.is_empty() {
            return Err(TraceError::BadLines { bad });
        }
        match chats.is_empty() {
            true => Err(TraceError::Empty),
            false => Ok(Self {
                chats,
                skipped: bad,
            }),
        }
    }
}

/// Messages up to an answer belong together, and so does a system message at the beginning. Answers before the first
/// message, and a last message without an answer, are left out.
fn chat(text: &str) -> Result<Chat, String> {
    let line: Line = serde_json::from_str(text).map_err(|error| {
        let error = error.to_string().replace(" at line 1 column", " at column");
        format!("{error}; expected an object with conversations of from and value, or messages of role and content")
    })?;
    let mut turns: Vec<ChatTurn> = Vec::new();
    let mut said: Vec<&str> = Vec::new();
    for Message { from, value } in &line.conversations {
        match from.as_str() {
            "human" | "user" | "system" => said.push(value),
            "gpt" | "assistant" | "chatgpt" | "model" if said.is_empty() => {}
            "gpt" | "assistant" | "chatgpt" | "model" if !value.is_empty() => {
                let message = std::mem::take(&mut said).join("\n");
                turns.push(ChatTurn {
                    message,
                    answer: value.clone(),
                });
            }
            "gpt" | "assistant" | "chatgpt" | "model" => {
                return Err("an answer is empty".to_owned());
            }
            other => {
                return Err(format!(
                    "a message is from `{other}`; expected human, gpt, user, assistant or system"
                ));
            }
        }
    }
    match turns.is_empty() {
        true => Err("no message has an answer".to_owned()),
        false => Ok(Chat { turns }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let text = concat!(
            r#"{"id": "a", "conversations": [{"from": "gpt", "value": "x"}, {"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}, {"from": "human", "value": "?"}]}"#,
            "\n\n",
            r#"{"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}, {"role": "assistant", "content": "A"}]}"#,
        );
        assert!(Chats::begin_with(text));
        let read = Chats::read(text.as_bytes(), BadLines::Refuse).unwrap();
        let turn = |message: &str, answer: &str| Chat {
            turns: vec![ChatTurn {
                message: message.into(),
                answer: answer.into(),
            }],
        };
        assert_eq!(read.chats, [turn("Hi", "Ho"), turn("S\nU", "A")]);
    }

    #[test]
    fn bad_lines_have_numbers() {
        let good = r#"{"messages": [{"role": "user", "content": "U"}, {"role": "assistant", "content": "A"}]}"#;
        for (bad, reason) in [
            ("{}", "missing field"),
            ("x", "expected value at column 1"),
            (r#"{"messages": []}"#, "no message has an answer"),
            (
                r#"{"messages": [{"role": "tool", "content": "U"}]}"#,
                "from `tool`",
            ),
            (
                r#"{"messages": [{"role": "user", "content": "U"}, {"role": "assistant", "content": ""}]}"#,
                "an answer is empty",
            ),
        ] {
            let text = format!("{good}\n{bad}\n");
            let said = Chats::read(text.as_bytes(), BadLines::Refuse)
                .unwrap_err()
                .to_string();
            assert!(
                said.starts_with("line 2: ") && said.contains(reason),
                "{said}"
            );
            let read = Chats::read(text.as_bytes(), BadLines::Skip).unwrap();
            assert_eq!((read.chats.len(), read.skipped[0].line), (1, 2));
        }
        assert!(matches!(
            Chats::read(&b"\n"[..], BadLines::Skip),
            Err(TraceError::Empty)
        ));
    }
}
