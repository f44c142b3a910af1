//! GLM-4 9B of 2024 (GLM team, arXiv 2406.12793) and GLM-4 of 2025.
//!
//! Half of each head is turned, in pairs of neighbours; queries, keys and values have biases, and gate and up are one
//! tensor. The later models norm on both sides of attention and MLP.

use crate::config::{Settings, Sizes};
use crate::error::ModelError;
use crate::names::{Names, Norms, Stacked};
use crate::registry::{Defaults, Family};
use crate::rope::{RopeConfig, RopePairs};
use crate::spec::{AttentionSpec, LayerSpec, MlpSpec, ModelSpec};

pub(crate) const GLM: Family = Family {
    class_name: "GlmForCausalLM",
    model_type: "glm",
    names: Names {
        gate_up: Stacked::Fused("mlp.gate_up_proj"),
        ..Names::LLAMA
    },
    defaults: Defaults {
        head_dim: Some(128),
        rms_norm_eps: 1.5625e-7,
        ..Defaults::LLAMA
    },
    implements: &["partial_rotary_factor"],
    spec,
};

pub(crate) const GLM4: Family = Family {
    class_name: "Glm4ForCausalLM",
    model_type: "glm4",
    names: Names {
        norms: Norms::BothSides {
            before_attention: "input_layernorm",
            after_attention: "post_self_attn_layernorm",
            before_mlp: "post_attention_layernorm",
            after_mlp: "post_mlp_layernorm",
        },
        ..GLM.names
    },
    ..GLM
};

/// The share of a head that is turned where no setting says it.
const DEFAULT_TURNED_PART: f64 = 0.5;

fn spec(settings: &Settings<'_>, sizes: &Sizes) -> Result<ModelSpec, ModelError> {
    settings.refuse_window()?;
    settings.require_full_attention()?;
    settings.require_silu()?;
    settings.refuse_unless_false("mlp_bias")?;
    let layer = LayerSpec {
        attention: AttentionSpec {
            qkv_bias: settings.optional_flag("attention_bias")?.unwrap_or(true),
            ..AttentionSpec::plain(sizes.head_dim)
        },
        mlp: MlpSpec::PLAIN,
    };
    let mut context = sizes.for_rope();
    context.turned_part = Some(DEFAULT_TURNED_PART);
    context.pairs = RopePairs::Neighbours;
    let rope = RopeConfig::read(settings, &context)?;
    Ok(ModelSpec::uniform(sizes.num_layers, layer, rope))
}
