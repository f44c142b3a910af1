//! Qwen3, dense (Qwen team 2025, arXiv 2505.09388).
//!
//! Queries and keys pass an RMSNorm over each head before rotation, in place of Qwen2's biases.
//! `sliding_window` is only in force with `use_sliding_window`, which no published model sets and which is refused.

use crate::config::{Settings, Sizes};
use crate::error::ModelError;
use crate::names::Names;
use crate::registry::{Defaults, Family};
use crate::rope::RopeConfig;
use crate::spec::{AttentionSpec, HeadNorm, LayerSpec, MlpSpec, ModelSpec};

pub(crate) const FAMILY: Family = Family {
    class_name: "Qwen3ForCausalLM",
    model_type: "qwen3",
    names: Names::LLAMA,
    defaults: Defaults {
        head_dim: Some(128),
        ..Defaults::LLAMA
    },
    implements: &[],
    spec,
};

fn spec(settings: &Settings<'_>, sizes: &Sizes) -> Result<ModelSpec, ModelError> {
    settings.require_full_attention()?;
    settings.require_silu()?;
    settings.refuse_unless_false("mlp_bias")?;
    let bias = settings.flag("attention_bias")?;
    let layer = LayerSpec {
        attention: AttentionSpec {
            head_norm: HeadNorm::PerHead,
            qkv_bias: bias,
            output_bias: bias,
            ..AttentionSpec::plain(sizes.head_dim)
        },
        mlp: MlpSpec::PLAIN,
    };
    let rope = RopeConfig::read(settings, &sizes.for_rope())?;
    Ok(ModelSpec::uniform(sizes.num_layers, layer, rope))
}
