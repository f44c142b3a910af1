//! The model families, one file each: what sets a family apart from the shared decoder.
//!
//! Llama, Mistral, Qwen3 and their kin are one computation with a few switches: where a bias is
//! added, whether heads are normalised before rotation, how far back a token attends, what a missing
//! key defaults to. A family's file states those switches; [`crate::decoder`] runs them.

mod llama;
mod mistral;
mod qwen3;

use std::fmt;

use serde_json::Value;

use crate::config::Settings;
use crate::error::ModelError;

/// A family of models with one forward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Architecture {
    /// Llama 1 to 3.x and every model that publishes itself as `LlamaForCausalLM`.
    Llama,
    /// Mistral 7B and its kin: Llama, in its first version with a sliding window.
    Mistral,
    /// Qwen3's dense models: queries and keys are normalised per head.
    Qwen3,
}

/// What a family reads from its configuration beyond what all share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Traits {
    pub(crate) mlp_bias: bool,
    /// Positions that a token attends to at most.
    pub(crate) sliding_window: Option<usize>,
    head_dim: DefaultHeadDim,
}

/// What an absent `head_dim` means.
#[derive(Debug, Clone, Copy)]
enum DefaultHeadDim {
    HiddenOverHeads,
    Fixed(usize),
}

impl Architecture {
    const ALL: [Self; 3] = [Self::Llama, Self::Mistral, Self::Qwen3];

    /// The name in `architectures`.
    #[must_use]
    pub const fn class_name(self) -> &'static str {
        match self {
            Self::Llama => llama::CLASS_NAME,
            Self::Mistral => mistral::CLASS_NAME,
            Self::Qwen3 => qwen3::CLASS_NAME,
        }
    }

    /// The name in `model_type`.
    const fn model_type(self) -> &'static str {
        match self {
            Self::Llama => llama::MODEL_TYPE,
            Self::Mistral => mistral::MODEL_TYPE,
            Self::Qwen3 => qwen3::MODEL_TYPE,
        }
    }

    /// Whether queries and keys pass an RMSNorm per head before they are rotated.
    pub(crate) const fn normalises_heads(self) -> bool {
        match self {
            Self::Llama => llama::NORMALISES_HEADS,
            Self::Mistral => mistral::NORMALISES_HEADS,
            Self::Qwen3 => qwen3::NORMALISES_HEADS,
        }
    }

    /// Reads the family's own settings and refuses those it does not implement.
    pub(crate) fn read_traits(self, settings: &Settings<'_>) -> Result<Traits, ModelError> {
        match self {
            Self::Llama => llama::read_traits(settings),
            Self::Mistral => mistral::read_traits(settings),
            Self::Qwen3 => qwen3::read_traits(settings),
        }
    }

    /// The family a configuration belongs to. `architectures` and `model_type` must agree where
    /// both are given: a derived model often keeps one of them and changes the mathematics.
    pub(crate) fn named_by(settings: &Settings<'_>) -> Result<Self, ModelError> {
        let class = match settings.get("architectures") {
            None => None,
            Some(Value::Array(classes)) => classes.first(),
            Some(other) => {
                return Err(settings.invalid("architectures", other, "a list of class names"));
            }
        };
        let by_class = class
            .map(|class| Self::find("architectures", class, Self::class_name))
            .transpose()?;
        let by_type = settings
            .get("model_type")
            .map(|kind| Self::find("model_type", kind, Self::model_type))
            .transpose()?;
        match (by_class, by_type) {
            (Some(class), Some(kind)) if class != kind => Err(settings.contradicts(
                "model_type",
                kind.model_type().to_owned(),
                format!("{}, to agree with `architectures`", class.model_type()),
            )),
            (one, other) => one.or(other).ok_or_else(|| {
                let expected = "a list with the name of the model's class";
                settings.missing("architectures", expected)
            }),
        }
    }

    fn find(
        key: &'static str,
        found: &Value,
        name: fn(Self) -> &'static str,
    ) -> Result<Self, ModelError> {
        Self::ALL
            .into_iter()
            .find(|architecture| found.as_str() == Some(name(*architecture)))
            .ok_or_else(|| unknown(key, found))
    }
}

fn unknown(key: &'static str, found: &Value) -> ModelError {
    ModelError::UnknownArchitecture {
        key,
        found: found.to_string(),
        supported: Architecture::ALL.map(Architecture::class_name).join(", "),
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.class_name())
    }
}

impl Traits {
    /// The width of a head where the configuration does not give it.
    pub(crate) fn default_head_dim(
        self,
        hidden_size: usize,
        num_heads: usize,
    ) -> Result<usize, ModelError> {
        match self.head_dim {
            DefaultHeadDim::Fixed(head_dim) => Ok(head_dim),
            DefaultHeadDim::HiddenOverHeads if hidden_size.is_multiple_of(num_heads) => {
                Ok(hidden_size / num_heads)
            }
            DefaultHeadDim::HiddenOverHeads => Err(ModelError::InvalidSetting {
                file: "config.json".to_owned(),
                key: "num_attention_heads".to_owned(),
                found: num_heads.to_string(),
                expected: format!("a divisor of hidden_size = {hidden_size}, or a head_dim"),
            }),
        }
    }
}
