//! The vocabulary of a GGUF file.

use std::collections::HashMap;

use maitre_gguf::{GgufIndex, Value as Setting};
use serde_json::{Map, Value, json};

use super::{invalid, setting};
use crate::TextError;

const TOKENS: &str = "tokenizer.ggml.tokens";
const SCORES: &str = "tokenizer.ggml.scores";
const KINDS: &str = "tokenizer.ggml.token_type";

/// What a token is (`llama_token_type` of llama.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text.
    Normal,
    /// Stands for what has no token.
    Unknown,
    /// Steers the model; text that looks like it is not it.
    Control,
    /// Text that is one token wherever it stands.
    UserDefined,
    /// Never comes.
    Unused,
    /// One byte, written `<0x41>`.
    Byte,
}

impl Kind {
    fn of_number(number: i64) -> Self {
        match number {
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => Self::Normal,
        }
    }
}

/// Tokens by id.
#[derive(Debug)]
pub(super) struct Words<'f> {
    texts: Vec<&'f str>,
    kinds: Vec<Kind>,
    scores: Option<Vec<f64>>,
    ids: HashMap<&'f str, usize>,
}

impl<'f> Words<'f> {
    pub(super) fn read(index: &GgufIndex, file: &'f [u8]) -> Result<Self, TextError> {
        let list = setting(index.list(TOKENS))?;
        let texts: Vec<&str> = list.map_or_else(Vec::new, |list| list.texts(file).collect());
        if texts.is_empty() {
            return Err(invalid(format!("{TOKENS} is missing or no list of texts")));
        }
        let mut ids = HashMap::with_capacity(texts.len());
        for (id, text) in texts.iter().enumerate() {
            if let Some(first) = ids.insert(*text, id) {
                let reason = format!("{TOKENS}[{id}] is {text:?}, as is {TOKENS}[{first}]");
                return Err(invalid(reason));
            }
        }
        let numbers = |key: &str| -> Result<Option<Vec<f64>>, TextError> {
            let Some(list) = setting(index.list(key))? else {
                return Ok(None);
            };
            let number = |value| match value {
                Setting::Unsigned(number) => Some(number as f64),
                Setting::Signed(number) => Some(number as f64),
                Setting::Float(number) if number.is_finite() => Some(number),
                _ => None,
            };
            let numbers: Option<Vec<f64>> = list.iter(file).map(number).collect();
            match numbers {
                Some(numbers) if numbers.len() >= texts.len() => Ok(Some(numbers)),
                _ => Err(invalid(format!(
                    "{key} has {} entries, expected a number for each of {} tokens",
                    list.len,
                    texts.len()
                ))),
            }
        };
        let scores = numbers(SCORES)?;
        let kinds = match numbers(KINDS)? {
            Some(numbers) => numbers
                .iter()
                .map(|it| Kind::of_number(*it as i64))
                .collect(),
            None => vec![Kind::Normal; texts.len()],
        };
        Ok(Self {
            texts,
            kinds,
            scores,
            ids,
        })
    }

    pub(super) fn text(&self, id: usize) -> Option<&'f str> {
        self.texts.get(id).copied()
    }

    pub(super) fn id_of(&self, text: &str) -> Option<usize> {
        self.ids.get(text).copied()
    }

    pub(super) fn holds(&self, text: &str) -> bool {
        self.ids.contains_key(text)
    }

    /// The first token of a kind.
    pub(super) fn text_of_kind(&self, kind: Kind) -> Option<&'f str> {
        self.text(self.kinds.iter().position(|it| *it == kind)?)
    }

    /// Whether there are tokens for single bytes.
    pub(super) fn has_bytes(&self) -> bool {
        self.kinds.contains(&Kind::Byte)
    }

    /// All tokens with their ids.
    pub(super) fn vocabulary(&self) -> Value {
        let words = self.texts.iter().enumerate();
        Value::Object(
            words
                .map(|(id, text)| ((*text).to_owned(), json!(id)))
                .collect(),
        )
    }

    /// Tokens that are found in a text before anything is merged.
    pub(super) fn added_tokens(&self) -> Value {
        let words = self.texts.iter().zip(&self.kinds).enumerate();
        let added = words.filter_map(|(id, (text, kind))| {
            let special = match kind {
                Kind::Control | Kind::Unknown => true,
                Kind::UserDefined => false,
                Kind::Normal | Kind::Unused | Kind::Byte => return None,
            };
            let mut token = Map::new();
            token.insert("id".into(), json!(id));
            token.insert("content".into(), json!(text));
            for flag in ["single_word", "lstrip", "rstrip", "normalized"] {
                token.insert(flag.into(), json!(false));
            }
            token.insert("special".into(), json!(special));
            Some(Value::Object(token))
        });
        added.collect()
    }

    /// For each token, each pair of tokens that it can be made of; the highest score first, as SentencePiece merges.
    pub(super) fn merges_by_score(&self) -> Result<Value, TextError> {
        let scores = self.scores.as_ref().ok_or_else(|| {
            invalid(format!(
                "{SCORES} is missing, which the tokenizer merges by"
            ))
        })?;
        let mut merges = Vec::new();
        for (id, text) in self.texts.iter().enumerate() {
            if self.kinds.get(id) != Some(&Kind::Normal) {
                continue;
            }
            for (cut, _) in text.char_indices().skip(1) {
                let (left, right) = text.split_at(cut);
                if let (Some(left_id), Some(right_id)) = (self.id_of(left), self.id_of(right)) {
                    let score = scores.get(id).copied().unwrap_or(0.0);
                    merges.push((score, left_id, right_id, left, right));
                }
            }
        }
        merges.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        let pairs = merges.iter().map(|(.., left, right)| json!([left, right]));
        Ok(pairs.collect())
    }
}
