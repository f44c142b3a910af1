//! A model in a GGUF file: its settings in the words of `config.json`.
//!
//! A file of the format has everything: weights, settings, vocabulary. What it says of the mathematics is translated
//! into the configuration that the same model has on the Hub, so that one reader understands (or refuses) both. The
//! tensors are translated by [`checkpoint::gguf`](crate::checkpoint).

use std::path::Path;

use maitre_gguf::{GgufError, GgufIndex};
use maitre_tensor::MappedFile;
use serde_json::{Map, Value, json};

use crate::error::ModelError;

/// A GGUF file, mapped, with its index.
#[derive(Debug)]
pub struct GgufFile {
    file: MappedFile,
    index: GgufIndex,
}

/// A family in the words of both formats.
struct Family {
    /// `general.architecture`.
    name: &'static str,
    class_name: &'static str,
    model_type: &'static str,
    /// Whether the converter writes rows of queries and keys in pairs of neighbours.
    interleaves_heads: bool,
}

const FAMILIES: [Family; 3] = [
    Family {
        name: "llama",
        class_name: "LlamaForCausalLM",
        model_type: "llama",
        interleaves_heads: true,
    },
    Family {
        name: "qwen2",
        class_name: "Qwen2ForCausalLM",
        model_type: "qwen2",
        interleaves_heads: false,
    },
    Family {
        name: "qwen3",
        class_name: "Qwen3ForCausalLM",
        model_type: "qwen3",
        interleaves_heads: false,
    },
];

const ARCHITECTURE: &str = "general.architecture";
const TOKENS: &str = "tokenizer.ggml.tokens";
/// Factors of Llama 3.1's frequencies.
const ROPE_FACTORS: &str = "rope_freqs.weight";
const OUTPUT: &str = "output.weight";

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

impl GgufFile {
    /// Maps a file and reads its index.
    ///
    /// # Errors
    /// A file that can't be read, or is no whole GGUF file.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let file = MappedFile::map(path)?;
        let index = GgufIndex::read(file.bytes()).map_err(|error| broken(path, &error))?;
        Ok(Self { file, index })
    }

    /// What it says before its data.
    #[must_use]
    pub fn index(&self) -> &GgufIndex {
        &self.index
    }

    /// All of it.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.file.bytes()
    }

    pub(crate) fn file(&self) -> &MappedFile {
        &self.file
    }

    /// Whether rows of queries and keys lie in pairs of neighbours.
    pub(crate) fn interleaves_heads(&self) -> Result<bool, ModelError> {
        Ok(self.family()?.interleaves_heads)
    }

    fn family(&self) -> Result<&'static Family, ModelError> {
        let found = self.said(self.index.text(ARCHITECTURE))?;
        let family = FAMILIES.iter().find(|family| Some(family.name) == found);
        family.ok_or_else(|| ModelError::UnknownArchitecture {
            key: ARCHITECTURE,
            found: found.map_or_else(|| "absent".to_owned(), |name| format!("{name:?}")),
            supported: FAMILIES.map(|family| family.name).join(", "),
        })
    }

    /// What takes the place of `config.json`.
    pub(crate) fn config_json(&self) -> Result<Value, ModelError> {
        let family = self.family()?;
        let mut config = Map::new();
        config.insert("architectures".into(), json!([family.class_name]));
        config.insert("model_type".into(), json!(family.model_type));
        let prefix = family.name;
        let size = |name: &str| self.said(self.index.unsigned(&format!("{prefix}.{name}")));
        let number = |name: &str| self.said(self.index.float(&format!("{prefix}.{name}")));
        for (setting, name) in [
            ("hidden_size", "embedding_length"),
            ("intermediate_size", "feed_forward_length"),
            ("num_hidden_layers", "block_count"),
            ("num_attention_heads", "attention.head_count"),
            ("num_key_value_heads", "attention.head_count_kv"),
            ("max_position_embeddings", "context_length"),
        ] {
            if let Some(value) = size(name)? {
                config.insert(setting.into(), json!(value));
            }
        }
        let head_dim = match size("attention.key_length")? {
            Some(length) => Some(length),
            None => size("rope.dimension_count")?,
        };
        if let Some(head_dim) = head_dim {
            config.insert("head_dim".into(), json!(head_dim));
        }
        let rope_dim = size("rope.dimension_count")?;
        if let (Some(turned), Some(head_dim)) = (rope_dim, head_dim)
            && turned != head_dim
        {
            let factor = turned as f64 / head_dim as f64;
            config.insert("partial_rotary_factor".into(), json!(factor));
        }
        // Ignoring a window would give other answers beyond it.
        if let Some(window) = size("attention.sliding_window")? {
            let what = format!("{prefix}.attention.sliding_window = {window}");
            return Err(self.unsupported(&what));
        }
        let eps = number("attention.layer_norm_rms_epsilon")?;
        config.insert(
            "rms_norm_eps".into(),
            eps.map_or(Value::Null, |eps| json!(eps)),
        );
        let theta = number("rope.freq_base")?.unwrap_or(10_000.0);
        config.insert("rope_theta".into(), json!(theta));
        if let Some(scaling) = self.rope_scaling(prefix)? {
            config.insert("rope_scaling".into(), scaling);
        }
        let vocabulary = self
            .said(self.index.list(TOKENS))?
            .map(|list| list.len as u64);
        let vocabulary = self.rows_of("token_embd.weight").or(vocabulary);
        config.insert("vocab_size".into(), json!(vocabulary));
        config.insert("tie_word_embeddings".into(), json!(!self.has(OUTPUT)));
        if family.name == "llama" && self.has("blk.0.attn_q.bias") {
            config.insert("attention_bias".into(), json!(true));
        }
        Ok(Value::Object(config))
    }

    fn rope_scaling(&self, prefix: &str) -> Result<Option<Value>, ModelError> {
        let key = |name: &str| format!("{prefix}.rope.scaling.{name}");
        if self.has(ROPE_FACTORS) {
            let what = format!("{ROPE_FACTORS}, factors of the frequencies (as of Llama 3.1)");
            return Err(self.unsupported(&what));
        }
        let kind = match self.said(self.index.text(&key("type")))? {
            None | Some("none") => return Ok(None),
            Some(kind @ ("linear" | "yarn")) => kind,
            Some(other) => {
                return Err(self.unsupported(&format!("{} = {other:?}", key("type"))));
            }
        };
        let mut scaling = Map::new();
        scaling.insert("rope_type".into(), json!(kind));
        if let Some(factor) = self.said(self.index.float(&key("factor")))? {
            scaling.insert("factor".into(), json!(factor));
        }
        let original = self.said(self.index.unsigned(&key("original_context_length")))?;
        if let Some(original) = original {
            scaling.insert("original_max_position_embeddings".into(), json!(original));
        }
        Ok(Some(Value::Object(scaling)))
    }

    /// What takes the place of `generation_config.json`: the tokens that end an answer.
    pub(crate) fn generation_json(&self) -> Result<Value, ModelError> {
        let mut ends = Vec::new();
        for name in ["eos", "eot", "eom"] {
            let key = format!("tokenizer.ggml.{name}_token_id");
            ends.extend(self.said(self.index.unsigned(&key))?);
        }
        if let Some(tokens) = self.said(self.index.list(TOKENS))? {
            let texts = tokens.texts(self.bytes()).enumerate();
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

    /// The error for what is well-formed and not supported.
    pub(crate) fn unsupported(&self, what: &str) -> ModelError {
        ModelError::UnusableFile {
            file: self.file.path().display().to_string(),
            problem: format!("has {what}, which is not supported"),
        }
    }

    fn has(&self, tensor: &str) -> bool {
        self.index.tensors().iter().any(|it| it.name == tensor)
    }

    fn rows_of(&self, tensor: &str) -> Option<u64> {
        let tensor = self.index.tensors().iter().find(|it| it.name == tensor)?;
        tensor.shape.first().map(|rows| *rows as u64)
    }

    fn said<T>(&self, read: Result<T, GgufError>) -> Result<T, ModelError> {
        read.map_err(|error| broken(self.file.path(), &error))
    }
}

fn broken(path: &Path, error: &GgufError) -> ModelError {
    ModelError::UnusableFile {
        file: path.display().to_string(),
        problem: format!("is no GGUF file that can be read: {error}"),
    }
}
