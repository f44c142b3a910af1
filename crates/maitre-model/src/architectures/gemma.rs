//! Gemma 1 (Gemma team 2024, arXiv 2403.08295).
//!
//! Norms multiply by 1 + weight, embeddings are multiplied by the root of their width, and the gate opens by GELU in its
//! approximation by tanh. The first published models say `"hidden_act": "gelu"` and mean that approximation, too.

use maitre_tensor::Activation;

use crate::config::{Settings, Sizes};
use crate::error::ModelError;
use crate::names::Names;
use crate::registry::{Defaults, Family};
use crate::rope::RopeConfig;
use crate::spec::{AttentionSpec, EmbeddingScale, LayerSpec, MlpSpec, ModelSpec, Multipliers};

pub(crate) const FAMILY: Family = Family {
    class_name: "GemmaForCausalLM",
    model_type: "gemma",
    names: Names::LLAMA,
    defaults: Defaults {
        head_dim: Some(256),
        tie_word_embeddings: true,
        ..Defaults::LLAMA
    },
    implements: &[],
    spec,
};

const GELU: &str = "gelu_pytorch_tanh";

fn spec(settings: &Settings<'_>, sizes: &Sizes) -> Result<ModelSpec, ModelError> {
    settings.refuse_window()?;
    settings.require_full_attention()?;
    settings.require_one_of("hidden_act", &[GELU, "gelu"])?;
    settings.require_one_of("hidden_activation", &[GELU])?;
    settings.refuse_unless_false("mlp_bias")?;
    let bias = settings.flag("attention_bias")?;
    let layer = LayerSpec {
        attention: AttentionSpec {
            qkv_bias: bias,
            output_bias: bias,
            ..AttentionSpec::plain(sizes.head_dim)
        },
        mlp: MlpSpec {
            activation: Activation::GeluTanh,
            ..MlpSpec::PLAIN
        },
    };
    let rope = RopeConfig::read(settings, &sizes.for_rope())?;
    Ok(ModelSpec {
        multipliers: Multipliers {
            embedding: EmbeddingScale::RootOfWidth,
            ..Multipliers::ONE
        },
        norm_offset: 1.0,
        ..ModelSpec::uniform(sizes.num_layers, layer, rope)
    })
}
