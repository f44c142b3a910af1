//! Llama (Touvron et al. 2023, arXiv 2302.13971; grouped queries: arXiv 2307.09288; Llama 3:
//! arXiv 2407.21783).
//!
//! Optional biases on all attention projections and on all MLP projections. Llama attends to the
//! whole context: a `sliding_window` in such a configuration belongs to another model.

use super::{DefaultHeadDim, Traits};
use crate::config::Settings;
use crate::error::ModelError;

pub(super) const CLASS_NAME: &str = "LlamaForCausalLM";
pub(super) const MODEL_TYPE: &str = "llama";
pub(super) const NORMALISES_HEADS: bool = false;

pub(super) fn read_traits(settings: &Settings<'_>) -> Result<Traits, ModelError> {
    if let Some(window) = settings.get("sliding_window") {
        return Err(settings.unsupported("sliding_window", window, "absent or null"));
    }
    Ok(Traits {
        mlp_bias: settings.flag("mlp_bias")?,
        head_dim: DefaultHeadDim::HiddenOverHeads,
        sliding_window: None,
    })
}
