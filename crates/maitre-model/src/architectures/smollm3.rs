//! SmolLM3 (Bakouch et al. 2025, huggingface.co/blog/smollm3).
//!
//! Llama in which every fourth layer turns nothing (RNoPE, Yang et al. 2025, arXiv 2501.18795). `no_rope_layers` has a 1
//! for each layer that turns its heads and a 0 for each that does not. With `use_sliding_window` the layers that turn
//! nothing attend through a window, unless `layer_types` says which do.

use serde_json::Value;

use crate::config::{Settings, Sizes};
use crate::error::ModelError;
use crate::kv_layout::Reads;
use crate::names::Names;
use crate::registry::{Defaults, Family};
use crate::rope::RopeConfig;
use crate::spec::{AttentionSpec, LayerSpec, MlpSpec, ModelSpec};

pub(crate) const FAMILY: Family = Family {
    class_name: "SmolLM3ForCausalLM",
    model_type: "smollm3",
    names: Names::LLAMA,
    defaults: Defaults {
        tie_word_embeddings: true,
        ..Defaults::LLAMA
    },
    // The published model says that it was trained on two ranks (`pretraining_tp`), which changes nothing.
    implements: &[
        "pretraining_tp",
        "no_rope_layers",
        "no_rope_layer_interval",
        "use_sliding_window",
    ],
    spec,
};

const DEFAULT_THETA: f64 = 2_000_000.0;
/// Every so many layers one turns nothing.
const DEFAULT_INTERVAL: usize = 4;

fn spec(settings: &Settings<'_>, sizes: &Sizes) -> Result<ModelSpec, ModelError> {
    settings.require_silu()?;
    let turns = turning_layers(settings, sizes.num_layers)?;
    let reads = match settings.flag("use_sliding_window")? {
        true => {
            let window = settings.size("sliding_window")?;
            let is_windowed = |layer: usize| window.is_some() && !turns[layer];
            settings.layer_reads(sizes.num_layers, window, is_windowed)?
        }
        false => {
            settings.require_full_attention()?;
            vec![Reads::Full; sizes.num_layers]
        }
    };
    let bias = settings.flag("attention_bias")?;
    let mlp = MlpSpec {
        bias: settings.flag("mlp_bias")?,
        ..MlpSpec::PLAIN
    };
    let layer = |(reads, turns): (Reads, &bool)| LayerSpec {
        attention: AttentionSpec {
            reads,
            rope: turns.then_some(0),
            qkv_bias: bias,
            output_bias: bias,
            ..AttentionSpec::plain(sizes.head_dim)
        },
        mlp,
    };
    let mut context = sizes.for_rope();
    context.theta = DEFAULT_THETA;
    Ok(ModelSpec {
        layers: reads.into_iter().zip(&turns).map(layer).collect(),
        ..ModelSpec::without_layers(RopeConfig::read(settings, &context)?)
    })
}

/// Which layers turn their heads.
fn turning_layers(settings: &Settings<'_>, num_layers: usize) -> Result<Vec<bool>, ModelError> {
    const KEY: &str = "no_rope_layers";
    let Some(value) = settings.get(KEY) else {
        let interval = settings.size("no_rope_layer_interval")?;
        let interval = interval.unwrap_or(DEFAULT_INTERVAL);
        let turns = |layer: usize| !(layer + 1).is_multiple_of(interval);
        return Ok((0..num_layers).map(turns).collect());
    };
    let turns = |value: &Value| match value.as_u64() {
        Some(number @ (0 | 1)) => Some(number == 1),
        _ => None,
    };
    let list = value.as_array().filter(|list| list.len() == num_layers);
    let turning = list.and_then(|list| list.iter().map(turns).collect());
    turning.ok_or_else(|| {
        let expected = format!("a list of 0 or 1 for each layer, {num_layers}");
        settings.invalid(KEY, value, &expected)
    })
}
