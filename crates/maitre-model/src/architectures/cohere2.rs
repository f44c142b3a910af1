//! Cohere 2: Command R7B and Command A (Cohere 2025, arXiv 2504.00698).
//!
//! Attention and MLP read the same normed stream and are added together; norms are by mean and variance, without a bias.
//! Three of four layers attend through a window and turn pairs of neighbours; the others read the whole context and turn
//! nothing. Logits are multiplied by `logit_scale`.

use crate::config::{Settings, Sizes};
use crate::error::ModelError;
use crate::kv_layout::Reads;
use crate::names::{Names, Norms};
use crate::registry::{Defaults, Family, Keys};
use crate::rope::{RopeConfig, RopePairs};
use crate::spec::{AttentionSpec, LayerSpec, MlpSpec, ModelSpec, Multipliers, NormKind};

pub(crate) const FAMILY: Family = Family {
    class_name: "Cohere2ForCausalLM",
    model_type: "cohere2",
    names: Names {
        norms: Norms::Parallel("input_layernorm"),
        ..Names::LLAMA
    },
    defaults: Defaults {
        rms_norm_eps: 1e-5,
        tie_word_embeddings: true,
        keys: Keys {
            norm_eps: "layer_norm_eps",
            ..Keys::LLAMA
        },
        ..Defaults::LLAMA
    },
    implements: &[
        "logit_scale",
        "position_embedding_type",
        "sliding_window_pattern",
    ],
    spec,
};

const DEFAULT_LOGIT_SCALE: f64 = 0.0625;
const DEFAULT_WINDOW: usize = 4096;
/// Every so many layers one reads the whole context.
const DEFAULT_PATTERN: usize = 4;
/// What published configurations call pairs of neighbours.
const NEIGHBOURS: &str = "rope_gptj";

fn spec(settings: &Settings<'_>, sizes: &Sizes) -> Result<ModelSpec, ModelError> {
    settings.require_silu()?;
    settings.refuse_unless_false("mlp_bias")?;
    settings.require_one_of("position_embedding_type", &[NEIGHBOURS])?;
    for key in ["use_parallel_block", "use_gated_activation"] {
        settings.refuse_unless_true(key)?;
    }
    let window = settings.window_or(DEFAULT_WINDOW)?;
    let pattern = settings.size("sliding_window_pattern")?;
    let pattern = pattern.unwrap_or(DEFAULT_PATTERN);
    let is_windowed = |layer: usize| !(layer + 1).is_multiple_of(pattern);
    let reads = settings.layer_reads(sizes.num_layers, window, is_windowed)?;
    let bias = settings.flag("attention_bias")?;
    let layer = |reads: Reads| LayerSpec {
        attention: AttentionSpec {
            reads,
            rope: (reads != Reads::Full).then_some(0),
            qkv_bias: bias,
            output_bias: bias,
            ..AttentionSpec::plain(sizes.head_dim)
        },
        mlp: MlpSpec::PLAIN,
    };
    let mut context = sizes.for_rope();
    context.pairs = RopePairs::Neighbours;
    let logits = settings.positive("logit_scale")?;
    Ok(ModelSpec {
        layers: reads.into_iter().map(layer).collect(),
        norm: NormKind::Layer { bias: false },
        multipliers: Multipliers {
            logits: logits.unwrap_or(DEFAULT_LOGIT_SCALE) as f32,
            ..Multipliers::ONE
        },
        ..ModelSpec::without_layers(RopeConfig::read(settings, &context)?)
    })
}
