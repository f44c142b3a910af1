//! Ministral 3 (Liu et al. 2026, arXiv 2601.08584), and the text's part of it beside images: Llama whose queries grow with
//! their position ([`QueryGrowth`](crate::rope::QueryGrowth)), with YaRN.
//!
//! A `sliding_window`, if there is one, is that of all layers.

use crate::config::{Settings, Sizes};
use crate::error::ModelError;
use crate::kv_layout::Reads;
use crate::names::Names;
use crate::registry::{Defaults, Family};
use crate::rope::RopeConfig;
use crate::spec::{AttentionSpec, LayerSpec, MlpSpec, ModelSpec};

pub(crate) const FAMILY: Family = Family {
    class_name: "Ministral3ForCausalLM",
    model_type: "ministral3",
    names: Names::LLAMA,
    defaults: Defaults {
        head_dim: Some(128),
        rms_norm_eps: 1e-5,
        ..Defaults::LLAMA
    },
    implements: &[],
    spec,
};

fn spec(settings: &Settings<'_>, sizes: &Sizes) -> Result<ModelSpec, ModelError> {
    settings.require_silu()?;
    for key in ["attention_bias", "mlp_bias"] {
        settings.refuse_unless_false(key)?;
    }
    if let Some(types) = settings.get("layer_types") {
        return Err(settings.unsupported("layer_types", types, "absent"));
    }
    let window = settings.size("sliding_window")?;
    let layer = LayerSpec {
        attention: AttentionSpec {
            reads: window.map_or(Reads::Full, Reads::Window),
            ..AttentionSpec::plain(sizes.head_dim)
        },
        mlp: MlpSpec::PLAIN,
    };
    let mut context = sizes.for_rope();
    context.has_query_growth = true;
    let rope = RopeConfig::read(settings, &context)?;
    match rope.query_growth {
        Some(_) => Ok(ModelSpec::uniform(sizes.num_layers, layer, rope)),
        None => Err(settings.missing(
            "rope_parameters",
            "an object with rope_type, llama_4_scaling_beta and original_max_position_embeddings",
        )),
    }
}
