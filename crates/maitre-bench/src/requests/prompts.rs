//! Prompts from a file instead of random tokens: where it matters what is asked, as for speculation.
//!
//! The file has one JSON value a line, a text or an object with the text under `prompt`; further fields are for others.
//! The target's own tokenizer turns the texts into tokens before anything is measured.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::{BenchError, Target};

/// Texts to ask, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptFile {
    name: String,
    texts: Vec<String>,
}

/// The same as tokens: asked in order, and from the beginning again after the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompts {
    tokens: Vec<Vec<u32>>,
    first: usize,
}

impl PromptFile {
    /// Reads a file.
    ///
    /// # Errors
    /// If it can't be read, has no prompt, or a line that is none.
    pub fn read(path: &Path) -> Result<Self, BenchError> {
        let name = path.display().to_string();
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&name, &text),
            Err(error) => Err(BenchError::Prompts {
                file: name,
                reason: error.to_string(),
            }),
        }
    }

    fn parse(name: &str, text: &str) -> Result<Self, BenchError> {
        let lines = text.lines().enumerate();
        let texts = lines
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(index, line)| {
                prompt_of(line).map_err(|reason| BenchError::Prompts {
                    file: name.to_owned(),
                    reason: format!("line {}: {reason}", index + 1),
                })
            })
            .collect::<Result<Vec<String>, BenchError>>()?;
        if texts.is_empty() {
            return Err(BenchError::Prompts {
                file: name.to_owned(),
                reason: "it is empty".into(),
            });
        }
        let name = name.to_owned();
        Ok(Self { name, texts })
    }

    /// Turns the texts into the target's tokens.
    ///
    /// # Errors
    /// A text that the target can't turn into tokens, or not into any.
    pub async fn tokens(&self, target: &dyn Target) -> Result<Prompts, BenchError> {
        let mut tokens = Vec::with_capacity(self.texts.len());
        for (index, text) in self.texts.iter().enumerate() {
            let failed = |reason: String| BenchError::Prompts {
                file: self.name.clone(),
                reason: format!("prompt {}: {reason}", index + 1),
            };
            let prompt = target.tokenize(text).await;
            let prompt = prompt.map_err(|error| failed(error.message))?;
            if prompt.is_empty() {
                return Err(failed("it has no tokens".into()));
            }
            tokens.push(prompt);
        }
        Ok(Prompts { tokens, first: 0 })
    }
}

/// The prompt on a line, or what is wrong with it.
fn prompt_of(line: &str) -> Result<String, String> {
    let value: Value = serde_json::from_str(line).map_err(|error| format!("no JSON ({error})"))?;
    let prompt = match &value {
        Value::Object(fields) => fields.get("prompt"),
        other => Some(other),
    };
    match prompt {
        Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
        Some(Value::String(_)) => Err("the prompt is empty".into()),
        Some(_) => Err("the prompt is no text".into()),
        None => Err("the object has no `prompt`".into()),
    }
}

impl Prompts {
    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.tokens.len()
    }

    /// Tokens of the longest.
    pub(crate) fn longest(&self) -> usize {
        self.tokens.iter().map(Vec::len).max().unwrap_or_default()
    }

    /// The `index`th from here on.
    pub(crate) fn prompt(&self, index: usize) -> Vec<u32> {
        let at = (self.first + index) % self.tokens.len().max(1);
        self.tokens.get(at).cloned().unwrap_or_default()
    }

    /// Leaves so many behind: they have been asked.
    pub fn advance(&mut self, count: usize) {
        self.first = (self.first + count) % self.tokens.len().max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_objects_are_prompts() {
        let text = "\"one\"\n{\"prompt\": \"two\\nlines\", \"kind\": 3}\n\n\"three\"";
        let file = PromptFile::parse("f", text).unwrap();
        assert_eq!(file.texts, ["one", "two\nlines", "three"]);
    }

    #[test]
    fn what_is_no_prompt_is_refused_with_its_line() {
        for (text, expected) in [
            ("", "prompts in f: it is empty"),
            ("\n\n", "it is empty"),
            ("\"a\"\n\nhello", "line 3: no JSON"),
            (
                "\"a\"\n{\"text\": \"b\"}",
                "line 2: the object has no `prompt`",
            ),
            ("{\"prompt\": 7}", "line 1: the prompt is no text"),
            ("[\"a\"]", "line 1: the prompt is no text"),
            ("\"\"", "line 1: the prompt is empty"),
        ] {
            let message = PromptFile::parse("f", text).unwrap_err().to_string();
            assert!(message.contains(expected), "{text:?}: {message}");
        }
    }

    #[test]
    fn after_the_last_comes_the_first() {
        let mut prompts = Prompts {
            tokens: vec![vec![1], vec![2, 2], vec![3]],
            first: 0,
        };
        let asked = |prompts: &Prompts| -> Vec<u32> {
            (0..4).map(|index| prompts.prompt(index)[0]).collect()
        };
        assert_eq!(asked(&prompts), [1, 2, 3, 1]);
        prompts.advance(5);
        assert_eq!(asked(&prompts), [3, 1, 2, 3]);
        assert_eq!((prompts.count(), prompts.longest()), (3, 2));
    }
}
