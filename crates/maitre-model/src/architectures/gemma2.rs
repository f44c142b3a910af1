//! Gemma 2 (Gemma team 2024, arXiv 2408.00118).
//!
//! Norms before and after attention and MLP, all of which multiply by 1 + weight. Every other layer has a window. Embeddings
//! are multiplied by the root of their width; scores are divided by the root of `query_pre_attn_scalar`, and scores and logits
//! are bounded by tanh. The gate opens by GELU.

use maitre_tensor::Activation;

use crate::config::{Settings, Sizes};
use crate::error::ModelError;
use crate::kv_layout::Reads;
use crate::names::{Names, Norms};
use crate::registry::{Defaults, Family};
use crate::rope::RopeConfig;
use crate::spec::{AttentionSpec, EmbeddingScale, LayerSpec, MlpSpec, ModelSpec, Multipliers};

pub(crate) const FAMILY: Family = Family {
    class_name: "Gemma2ForCausalLM",
    model_type: "gemma2",
    names: Names {
        norms: Norms::BothSides {
            before_attention: "input_layernorm",
            after_attention: "post_attention_layernorm",
            before_mlp: "pre_feedforward_layernorm",
            after_mlp: "post_feedforward_layernorm",
        },
        ..Names::LLAMA
    },
    defaults: Defaults {
        head_dim: Some(256),
        tie_word_embeddings: true,
        ..Defaults::LLAMA
    },
    implements: &[SCORES, LOGITS, "query_pre_attn_scalar"],
    spec,
};

const SCORES: &str = "attn_logit_softcapping";
const LOGITS: &str = "final_logit_softcapping";
const DEFAULT_SCORE_SCALAR: f64 = 256.0;
const DEFAULT_WINDOW: usize = 4096;
const DEFAULT_SCORE_BOUND: f64 = 50.0;
const DEFAULT_LOGIT_BOUND: f64 = 30.0;

fn spec(settings: &Settings<'_>, sizes: &Sizes) -> Result<ModelSpec, ModelError> {
    settings.require_activation(&["gelu_pytorch_tanh"])?;
    settings.refuse_unless_false("mlp_bias")?;
    let window = settings.window_or(DEFAULT_WINDOW)?;
    let is_windowed = |layer: usize| layer.is_multiple_of(2);
    let reads = settings.layer_reads(sizes.num_layers, window, is_windowed)?;
    // Null is none, as it is for windows.
    let limit = |key: &str, default: f64| -> Result<Option<f32>, ModelError> {
        let limit = match settings.mentions(key) {
            true => settings.positive(key)?,
            false => Some(default),
        };
        Ok(limit.map(|limit| limit as f32))
    };
    let score_bound = limit(SCORES, DEFAULT_SCORE_BOUND)?;
    let scalar = settings.positive("query_pre_attn_scalar")?;
    let scale = scalar.unwrap_or(DEFAULT_SCORE_SCALAR).sqrt().recip() as f32;
    let bias = settings.flag("attention_bias")?;
    let layer = |reads: Reads| LayerSpec {
        attention: AttentionSpec {
            reads,
            scale,
            score_bound,
            qkv_bias: bias,
            output_bias: bias,
            ..AttentionSpec::plain(sizes.head_dim)
        },
        mlp: MlpSpec {
            activation: Activation::GeluTanh,
            ..MlpSpec::PLAIN
        },
    };
    Ok(ModelSpec {
        layers: reads.into_iter().map(layer).collect(),
        multipliers: Multipliers {
            embedding: EmbeddingScale::RootOfWidth,
            ..Multipliers::ONE
        },
        norm_offset: 1.0,
        logit_bound: limit(LOGITS, DEFAULT_LOGIT_BOUND)?,
        ..ModelSpec::without_layers(RopeConfig::read(settings, &sizes.for_rope())?)
    })
}
