//! Mistral (Jiang et al. 2023, arXiv 2310.06825): Llama whose tokens may attend to the last
//! `sliding_window` positions only, their own included.
//!
//! Version 0.1 has a window of 4096; from 0.2 on it is null: the whole context. A configuration that does
//! not mention it has the first version's, as transformers has it. No projection has a bias. Layers that attend differently (`layer_types`, as in Ministral) are another architecture.

use super::{DefaultHeadDim, Traits};
use crate::config::Settings;
use crate::error::ModelError;

pub(super) const CLASS_NAME: &str = "MistralForCausalLM";
pub(super) const MODEL_TYPE: &str = "mistral";
pub(super) const NORMALISES_HEADS: bool = false;

/// The window of a configuration that does not say.
const DEFAULT_WINDOW: usize = 4096;

pub(super) fn read_traits(settings: &Settings<'_>) -> Result<Traits, ModelError> {
    for key in ["attention_bias", "mlp_bias"] {
        settings.refuse_unless_false(key)?;
    }
    let sliding_window = if settings.mentions("sliding_window") {
        settings.size("sliding_window")?
    } else {
        Some(DEFAULT_WINDOW)
    };
    if let (Some(_), Some(types)) = (sliding_window, settings.get("layer_types")) {
        return Err(settings.unsupported("layer_types", types, "absent beside a sliding_window"));
    }
    Ok(Traits {
        mlp_bias: false,
        head_dim: DefaultHeadDim::HiddenOverHeads,
        sliding_window,
    })
}
