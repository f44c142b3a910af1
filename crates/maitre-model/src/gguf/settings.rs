//! What the settings of all families have in common.

use maitre_gguf::Value as Setting;
use serde_json::{Map, Value, json};

use super::families::Family;
use super::rope;
use super::{GgufFile, OUTPUT, TOKENS};
use crate::error::ModelError;
use crate::registry::{Architecture, Keys};

/// A configuration in the making.
pub(super) type Config = Map<String, Value>;

/// The settings of a file that begin with its architecture.
pub(super) struct Words<'a> {
    pub(super) file: &'a GgufFile,
    pub(super) prefix: &'static str,
}

impl Words<'_> {
    pub(super) fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    pub(super) fn size(&self, name: &str) -> Result<Option<u64>, ModelError> {
        let index = self.file.index();
        self.file.said(index.unsigned(&self.key(name)))
    }

    /// A finite number: JSON has no others.
    pub(super) fn number(&self, name: &str) -> Result<Option<f64>, ModelError> {
        let index = self.file.index();
        let number = self.file.said(index.float(&self.key(name)))?;
        match number.filter(|number| !number.is_finite()) {
            None => Ok(number),
            Some(other) => Err(self.unsupported(name, other)),
        }
    }

    /// A list of yes and no; `None` if the setting is absent or no list.
    pub(super) fn flags(&self, name: &str) -> Result<Option<Vec<bool>>, ModelError> {
        let Some(Setting::List(list)) = self.file.index().get(&self.key(name)) else {
            return Ok(None);
        };
        let flags = list.iter(self.file.bytes()).map(|value| match value {
            Setting::Bool(flag) => Some(flag),
            Setting::Unsigned(number @ (0 | 1)) => Some(number == 1),
            _ => None,
        });
        let flags: Option<Vec<bool>> = flags.collect();
        flags.map(Some).ok_or_else(|| {
            let what = format!("a list of {} that are not all true or false", list.len);
            self.unsupported(name, what)
        })
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, ModelError> {
        self.file.said(self.file.index().text(&self.key(name)))
    }

    /// The error for a setting that is not supported.
    pub(super) fn unsupported(&self, name: &str, value: impl std::fmt::Display) -> ModelError {
        let key = self.key(name);
        self.file.unsupported(&format!("{key} = {value}"))
    }

    /// How many tokens a layer with a window sees; 0 in a file is no window.
    pub(super) fn window(&self) -> Result<Option<u64>, ModelError> {
        let window = self.size("attention.sliding_window")?;
        Ok(window.filter(|window| *window > 0))
    }

    /// Refuses a window: ignoring it would give other answers beyond it.
    pub(super) fn refuse_window(&self) -> Result<(), ModelError> {
        match self.window()? {
            None => Ok(()),
            Some(window) => Err(self.unsupported("attention.sliding_window", window)),
        }
    }

    /// Whether the first layer has this tensor.
    pub(super) fn layers_have(&self, tensor: &str) -> bool {
        self.file.has(&format!("blk.0.{tensor}"))
    }
}

/// The settings that mean the same in all families.
pub(super) fn common(words: &Words<'_>, family: &Family) -> Result<Config, ModelError> {
    let file = words.file;
    let mut config = Map::new();
    config.insert("architectures".into(), json!([family.class_name]));
    config.insert("model_type".into(), json!(family.model_type));
    let mut known = Architecture::all();
    let known = known.find(|it| it.class_name() == family.class_name);
    let keys = known.map_or(Keys::LLAMA, |it| it.family().defaults.keys);
    for (setting, name) in [
        (keys.hidden_size, "embedding_length"),
        (keys.intermediate_size, "feed_forward_length"),
        (keys.num_layers, "block_count"),
        (keys.num_heads, "attention.head_count"),
        ("num_key_value_heads", "attention.head_count_kv"),
        (keys.max_position_embeddings, "context_length"),
    ] {
        if let Some(value) = words.size(name)? {
            config.insert(setting.into(), json!(value));
        }
    }
    if let Some(head_dim) = head_dim(words)? {
        config.insert("head_dim".into(), json!(head_dim));
        let turned = words.size("rope.dimension_count")?;
        if let Some(turned) = turned.filter(|turned| *turned != head_dim) {
            // Half a number more: the product of the two is rounded down, and must not fall below.
            let factor = (turned as f64 + 0.5) / head_dim as f64;
            config.insert("partial_rotary_factor".into(), json!(factor));
        }
    }
    let eps = match words.number("attention.layer_norm_rms_epsilon")? {
        None => words.number("attention.layer_norm_epsilon")?,
        eps => eps,
    };
    config.insert(keys.norm_eps.into(), json!(eps));
    config.insert("rope_parameters".into(), rope::of_all_layers(words)?.into());
    let rows = file.tensor("token_embd.weight");
    let rows = rows.and_then(|(_, tensor)| tensor.shape.first().copied());
    let tokens = file.said(file.index().list(TOKENS))?;
    let vocabulary = rows.or_else(|| tokens.map(|list| list.len));
    config.insert("vocab_size".into(), json!(vocabulary));
    config.insert("tie_word_embeddings".into(), json!(!file.has(OUTPUT)));
    Ok(config)
}

/// The width of a head, which is the same of queries, keys and values.
fn head_dim(words: &Words<'_>) -> Result<Option<u64>, ModelError> {
    let mut head_dim = words.size("attention.key_length")?;
    if head_dim.is_none() {
        let width = words.size("embedding_length")?.unwrap_or(0);
        let heads = words.size("attention.head_count")?.unwrap_or(0);
        head_dim = width.checked_div(heads).filter(|it| it * heads == width);
    }
    for name in [
        "attention.value_length",
        "attention.key_length_swa",
        "attention.value_length_swa",
    ] {
        if let (Some(head_dim), Some(other)) = (head_dim, words.size(name)?)
            && other != head_dim
        {
            let what = format!("{other} beside keys of {head_dim}");
            return Err(words.unsupported(name, what));
        }
    }
    Ok(head_dim)
}
