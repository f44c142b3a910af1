//! Ministral (Mistral AI 2024): Mistral whose layers attend through a window or to the whole context, as `layer_types`
//! says. Without that list all have the window, or all have none where `sliding_window` is null.

use crate::config::{Settings, Sizes};
use crate::error::ModelError;
use crate::kv_layout::Reads;
use crate::names::Names;
use crate::registry::{Defaults, Family};
use crate::rope::RopeConfig;
use crate::spec::{AttentionSpec, LayerSpec, MlpSpec, ModelSpec};

pub(crate) const FAMILY: Family = Family {
    class_name: "MinistralForCausalLM",
    model_type: "ministral",
    names: Names::LLAMA,
    defaults: Defaults::LLAMA,
    implements: &[],
    spec,
};

/// The window of a configuration that does not say.
const DEFAULT_WINDOW: usize = 4096;

fn spec(settings: &Settings<'_>, sizes: &Sizes) -> Result<ModelSpec, ModelError> {
    settings.require_silu()?;
    for key in ["attention_bias", "mlp_bias"] {
        settings.refuse_unless_false(key)?;
    }
    let window = settings.window_or(DEFAULT_WINDOW)?;
    let reads = settings.layer_reads(sizes.num_layers, window, |_| window.is_some())?;
    let layer = |reads: Reads| LayerSpec {
        attention: AttentionSpec {
            reads,
            ..AttentionSpec::plain(sizes.head_dim)
        },
        mlp: MlpSpec::PLAIN,
    };
    Ok(ModelSpec {
        layers: reads.into_iter().map(layer).collect(),
        ..ModelSpec::without_layers(RopeConfig::read(settings, &sizes.for_rope())?)
    })
}
