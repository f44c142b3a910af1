//! Mistral (Jiang et al. 2023, arXiv 2310.06825): Llama whose tokens may attend to the last
//! `sliding_window` positions only, their own included.
//!
//! Version 0.1 has a window of 4096; from 0.2 on it is null: the whole context. A configuration that does
//! not mention it has the first version's, as transformers has it. No projection has a bias. Layers that attend
//! differently (`layer_types`, as in Ministral) are another architecture.

use crate::config::{Settings, Sizes};
use crate::error::ModelError;
use crate::kv_layout::Reads;
use crate::names::Names;
use crate::registry::{Defaults, Family};
use crate::rope::RopeConfig;
use crate::spec::{AttentionSpec, LayerSpec, MlpSpec, ModelSpec};

pub(crate) const FAMILY: Family = Family {
    class_name: "MistralForCausalLM",
    model_type: "mistral",
    names: Names::LLAMA,
    defaults: Defaults::LLAMA,
    implements: &[],
    spec,
};

/// The window of a configuration that does not say.
const DEFAULT_WINDOW: usize = 4096;

fn spec(settings: &Settings<'_>, sizes: &Sizes) -> Result<ModelSpec, ModelError> {
    settings.require_full_attention()?;
    settings.require_silu()?;
    for key in ["attention_bias", "mlp_bias"] {
        settings.refuse_unless_false(key)?;
    }
    let window = settings.window_or(DEFAULT_WINDOW)?;
    if let (Some(_), Some(types)) = (window, settings.get("layer_types")) {
        return Err(settings.unsupported("layer_types", types, "absent beside a sliding_window"));
    }
    let layer = LayerSpec {
        attention: AttentionSpec {
            reads: window.map_or(Reads::Full, Reads::Window),
            ..AttentionSpec::plain(sizes.head_dim)
        },
        mlp: MlpSpec::PLAIN,
    };
    let rope = RopeConfig::read(settings, &sizes.for_rope())?;
    Ok(ModelSpec::uniform(sizes.num_layers, layer, rope))
}
