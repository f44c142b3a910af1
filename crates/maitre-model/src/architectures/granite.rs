//! Granite 3 and 4, dense (Granite team 2024, "Granite 3.0 Language Models").
//!
//! Llama with four constants (maximal update parametrisation, Yang et al. 2022, arXiv 2203.03466): embeddings and what
//! attention and MLP add are multiplied, scores are multiplied in place of the root of the head's width, logits are
//! divided. An absent one is 1, that of scores too.

use crate::config::{Settings, Sizes};
use crate::error::ModelError;
use crate::names::Names;
use crate::registry::{Defaults, Family};
use crate::rope::RopeConfig;
use crate::spec::{AttentionSpec, EmbeddingScale, LayerSpec, MlpSpec, ModelSpec, Multipliers};

pub(crate) const FAMILY: Family = Family {
    class_name: "GraniteForCausalLM",
    model_type: "granite",
    names: Names::LLAMA,
    defaults: Defaults::LLAMA,
    implements: &[
        "attention_multiplier",
        "embedding_multiplier",
        "logits_scaling",
        "residual_multiplier",
    ],
    spec,
};

fn spec(settings: &Settings<'_>, sizes: &Sizes) -> Result<ModelSpec, ModelError> {
    settings.refuse_window()?;
    settings.require_full_attention()?;
    settings.require_silu()?;
    let constant = |key| Ok::<_, ModelError>(settings.positive(key)?.unwrap_or(1.0));
    let bias = settings.flag("attention_bias")?;
    let layer = LayerSpec {
        attention: AttentionSpec {
            scale: constant("attention_multiplier")? as f32,
            qkv_bias: bias,
            output_bias: bias,
            ..AttentionSpec::plain(sizes.head_dim)
        },
        mlp: MlpSpec {
            bias: settings.flag("mlp_bias")?,
            ..MlpSpec::PLAIN
        },
    };
    let rope = RopeConfig::read(settings, &sizes.for_rope())?;
    Ok(ModelSpec {
        multipliers: Multipliers {
            embedding: EmbeddingScale::By(constant("embedding_multiplier")? as f32),
            residual: constant("residual_multiplier")? as f32,
            logits: constant("logits_scaling")?.recip() as f32,
        },
        ..ModelSpec::uniform(sizes.num_layers, layer, rope)
    })
}
