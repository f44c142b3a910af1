//! Qwen3, dense (Qwen team 2025, arXiv 2505.09388).
//!
//! Queries and keys pass an RMSNorm over each head before rotation, in place of Qwen2's biases.
//! `sliding_window` is only in force with `use_sliding_window`, which is refused for all families.

use super::{DefaultHeadDim, Traits};
use crate::config::Settings;
use crate::error::ModelError;

pub(super) const CLASS_NAME: &str = "Qwen3ForCausalLM";
pub(super) const MODEL_TYPE: &str = "qwen3";
pub(super) const NORMALISES_HEADS: bool = true;

/// What the published configuration class uses where `head_dim` is absent.
const HEAD_DIM: usize = 128;

pub(super) fn read_traits(settings: &Settings<'_>) -> Result<Traits, ModelError> {
    settings.refuse_unless_false("mlp_bias")?;
    Ok(Traits {
        mlp_bias: false,
        head_dim: DefaultHeadDim::Fixed(HEAD_DIM),
        sliding_window: None,
    })
}
