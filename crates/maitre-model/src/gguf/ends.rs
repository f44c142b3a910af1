//! Which tokens end an answer.

use serde_json::{Value, json};

use super::{GgufFile, TOKENS};
use crate::error::ModelError;

/// Texts of tokens that end an answer where a model has them, whatever its settings say: many files name but one of
/// several (as llama.cpp looks for them).
const ENDS: [&str; 11] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eom_id|>",
    "<EOT>",
    "[EOT]",
    "<｜end▁of▁sentence｜>",
    "<end_of_utterance>",
];

/// What takes the place of `generation_config.json`.
pub(super) fn generation_json(file: &GgufFile) -> Result<Value, ModelError> {
    let index = file.index();
    let mut ends = Vec::new();
    for name in ["eos", "eot", "eom"] {
        let key = format!("tokenizer.ggml.{name}_token_id");
        ends.extend(file.said(index.unsigned(&key))?);
    }
    if let Some(tokens) = file.said(index.list(TOKENS))? {
        let texts = tokens.texts(file.bytes()).enumerate();
        ends.extend(
            texts
                .filter(|(_, text)| ENDS.contains(text))
                .map(|(id, _)| id as u64),
        );
    }
    ends.sort_unstable();
    ends.dedup();
    Ok(json!({"eos_token_id": ends}))
}
