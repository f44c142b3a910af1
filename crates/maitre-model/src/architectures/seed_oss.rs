//! Seed-OSS (ByteDance Seed team 2025): Llama with biases on queries, keys and values, and a switch of its own for that of
//! attention's result.

use crate::config::{Settings, Sizes};
use crate::error::ModelError;
use crate::names::Names;
use crate::registry::{Defaults, Family};
use crate::rope::RopeConfig;
use crate::spec::{AttentionSpec, LayerSpec, MlpSpec, ModelSpec};

pub(crate) const FAMILY: Family = Family {
    class_name: "SeedOssForCausalLM",
    model_type: "seed_oss",
    names: Names::LLAMA,
    defaults: Defaults {
        head_dim: Some(128),
        ..Defaults::LLAMA
    },
    implements: &["attention_out_bias"],
    spec,
};

fn spec(settings: &Settings<'_>, sizes: &Sizes) -> Result<ModelSpec, ModelError> {
    settings.refuse_window()?;
    settings.require_full_attention()?;
    settings.require_silu()?;
    let layer = LayerSpec {
        attention: AttentionSpec {
            qkv_bias: settings.optional_flag("attention_bias")?.unwrap_or(true),
            output_bias: settings.flag("attention_out_bias")?,
            ..AttentionSpec::plain(sizes.head_dim)
        },
        mlp: MlpSpec {
            bias: settings.flag("mlp_bias")?,
            ..MlpSpec::PLAIN
        },
    };
    let rope = RopeConfig::read(settings, &sizes.for_rope())?;
    Ok(ModelSpec::uniform(sizes.num_layers, layer, rope))
}
