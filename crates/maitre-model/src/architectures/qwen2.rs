//! Qwen2 and Qwen2.5, dense (Qwen team 2024, arXiv 2407.10671 and 2412.15115): Llama with biases on queries, keys and
//! values.
//!
//! With `use_sliding_window` the layers from `max_window_layers` on attend through a window, unless `layer_types` says
//! which do.

use crate::config::{Settings, Sizes};
use crate::error::ModelError;
use crate::names::Names;
use crate::registry::{Defaults, Family};
use crate::rope::RopeConfig;
use crate::spec::{AttentionSpec, LayerSpec, MlpSpec, ModelSpec};

pub(crate) const FAMILY: Family = Family {
    class_name: "Qwen2ForCausalLM",
    model_type: "qwen2",
    names: Names::LLAMA,
    defaults: Defaults::LLAMA,
    implements: &["use_sliding_window"],
    spec,
};

const DEFAULT_WINDOW: usize = 4096;
const DEFAULT_MAX_WINDOW_LAYERS: usize = 28;

fn spec(settings: &Settings<'_>, sizes: &Sizes) -> Result<ModelSpec, ModelError> {
    settings.require_silu()?;
    settings.refuse_unless_false("mlp_bias")?;
    let layer = LayerSpec {
        attention: AttentionSpec {
            qkv_bias: true,
            ..AttentionSpec::plain(sizes.head_dim)
        },
        mlp: MlpSpec::PLAIN,
    };
    let rope = RopeConfig::read(settings, &sizes.for_rope())?;
    let mut spec = ModelSpec::uniform(sizes.num_layers, layer, rope);
    if !settings.flag("use_sliding_window")? {
        settings.require_full_attention()?;
        return Ok(spec);
    }
    // No window at all is what null means, and none that is absent.
    let window = settings.window_or(DEFAULT_WINDOW)?;
    // Zero is a number here, and means that every layer has the window.
    let first = settings.count("max_window_layers")?;
    let first = first.unwrap_or(DEFAULT_MAX_WINDOW_LAYERS);
    let is_windowed = |layer| window.is_some() && layer >= first;
    let reads = settings.layer_reads(sizes.num_layers, window, is_windowed)?;
    for (layer, reads) in spec.layers.iter_mut().zip(reads) {
        layer.attention.reads = reads;
    }
    Ok(spec)
}
