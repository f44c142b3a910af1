//! EXAONE 4 (LG AI Research 2025, arXiv 2507.11407).
//!
//! Attention and MLP read the residual stream as it is, and what they add is normalised; so is each head of queries and
//! keys before it is turned. With a window, three of four layers attend through it, and the others, which read the whole
//! context, turn nothing. Without one all layers read everything and turn their heads.

use crate::config::{Settings, Sizes};
use crate::error::ModelError;
use crate::kv_layout::Reads;
use crate::names::{Names, Norms};
use crate::registry::{Defaults, Family};
use crate::rope::RopeConfig;
use crate::spec::{AttentionSpec, HeadNorm, LayerSpec, MlpSpec, ModelSpec};

pub(crate) const FAMILY: Family = Family {
    class_name: "Exaone4ForCausalLM",
    model_type: "exaone4",
    names: Names {
        norms: Norms::After {
            attention: "post_attention_layernorm",
            mlp: "post_feedforward_layernorm",
        },
        ..Names::LLAMA
    },
    defaults: Defaults {
        rms_norm_eps: 1e-5,
        ..Defaults::LLAMA
    },
    implements: &["sliding_window_pattern"],
    spec,
};

const DEFAULT_WINDOW: usize = 4096;
/// Every so many layers one reads the whole context.
const DEFAULT_PATTERN: usize = 4;

fn spec(settings: &Settings<'_>, sizes: &Sizes) -> Result<ModelSpec, ModelError> {
    settings.require_silu()?;
    for key in ["attention_bias", "mlp_bias"] {
        settings.refuse_unless_false(key)?;
    }
    let window = settings.window_or(DEFAULT_WINDOW)?;
    // Published models spell the pattern in letters and have the list, too.
    let pattern = match (window, settings.get("layer_types")) {
        (Some(_), None) => settings.size("sliding_window_pattern")?,
        _ => None,
    };
    let pattern = pattern.unwrap_or(DEFAULT_PATTERN);
    let is_windowed = |layer: usize| window.is_some() && !(layer + 1).is_multiple_of(pattern);
    let reads = settings.layer_reads(sizes.num_layers, window, is_windowed)?;
    let layer = |reads: Reads| LayerSpec {
        attention: AttentionSpec {
            reads,
            rope: (window.is_none() || reads != Reads::Full).then_some(0),
            head_norm: HeadNorm::PerHead,
            ..AttentionSpec::plain(sizes.head_dim)
        },
        mlp: MlpSpec::PLAIN,
    };
    Ok(ModelSpec {
        layers: reads.into_iter().map(layer).collect(),
        ..ModelSpec::without_layers(RopeConfig::read(settings, &sizes.for_rope())?)
    })
}
