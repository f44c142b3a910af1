//! Gemma 3, text (Gemma team 2025, arXiv 2503.19786).
//!
//! Norms before and after attention and MLP, and of each head of queries and keys; all multiply by 1 + weight. Five
//! layers with a window to one without, each kind with a base of RoPE of its own. Embeddings are multiplied by the root
//! of their width; scores are divided by the root of `query_pre_attn_scalar`, not of the head's width. The gate opens by
//! GELU.
//!
//! From 4B on the models take images too. The settings of their text leave out the sizes that the class has anyway.

use maitre_tensor::Activation;

use crate::config::{Settings, Sizes};
use crate::error::ModelError;
use crate::kv_layout::Reads;
use crate::names::{Names, Norms};
use crate::registry::{Defaults, Family};
use crate::rope::{RopeConfig, Thetas};
use crate::spec::{
    AttentionSpec, EmbeddingScale, HeadNorm, LayerSpec, MlpSpec, ModelSpec, Multipliers,
};
use crate::wrapper::Kind;

pub(crate) const FAMILY: Family = Family {
    class_name: "Gemma3ForCausalLM",
    model_type: "gemma3_text",
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
        sizes: &[
            ("num_attention_heads", 8),
            ("num_key_value_heads", 4),
            ("vocab_size", 262_208),
            ("max_position_embeddings", 131_072),
        ],
        ..Defaults::LLAMA
    },
    implements: &[
        "query_pre_attn_scalar",
        "rope_local_base_freq",
        "sliding_window_pattern",
    ],
    spec,
};

/// Gemma 3 with images.
pub(crate) const WRAPPER: Kind = Kind {
    class_name: "Gemma3ForConditionalGeneration",
    model_type: "gemma3",
    text: &[&FAMILY],
    files: Kind::FILES,
};

const DEFAULT_SCORE_SCALAR: f64 = 256.0;
const DEFAULT_WINDOW: usize = 4096;
/// Every so many layers one reads the whole context.
const DEFAULT_PATTERN: usize = 6;
const THETAS: Thetas = Thetas {
    full: 1_000_000.0,
    windowed: 10_000.0,
    windowed_key: Some("rope_local_base_freq"),
};

fn spec(settings: &Settings<'_>, sizes: &Sizes) -> Result<ModelSpec, ModelError> {
    settings.require_activation(&["gelu_pytorch_tanh"])?;
    settings.refuse_unless_false("mlp_bias")?;
    let window = settings.window_or(DEFAULT_WINDOW)?;
    let pattern = settings.size("sliding_window_pattern")?;
    let pattern = pattern.unwrap_or(DEFAULT_PATTERN);
    let is_windowed = |layer: usize| !(layer + 1).is_multiple_of(pattern);
    let reads = settings.layer_reads(sizes.num_layers, window, is_windowed)?;
    let scalar = settings.positive("query_pre_attn_scalar")?;
    let bias = settings.flag("attention_bias")?;
    let layer = |reads: Reads| LayerSpec {
        attention: AttentionSpec {
            reads,
            rope: Some(usize::from(reads != Reads::Full)),
            head_norm: HeadNorm::PerHead,
            scale: scalar.unwrap_or(DEFAULT_SCORE_SCALAR).sqrt().recip() as f32,
            score_bound: None,
            qkv_bias: bias,
            output_bias: bias,
        },
        mlp: MlpSpec {
            activation: Activation::GeluTanh,
            ..MlpSpec::PLAIN
        },
    };
    Ok(ModelSpec {
        layers: reads.into_iter().map(layer).collect(),
        ropes: RopeConfig::read_by_layer_type(settings, &sizes.for_rope(), THETAS)?.into(),
        multipliers: Multipliers {
            embedding: EmbeddingScale::RootOfWidth,
            ..Multipliers::ONE
        },
        norm_offset: 1.0,
        ..ModelSpec::without_rope()
    })
}
