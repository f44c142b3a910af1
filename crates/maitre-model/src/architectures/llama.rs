//! Llama (Touvron et al. 2023, arXiv 2302.13971; grouped queries: arXiv 2307.09288; Llama 3:
//! arXiv 2407.21783).
//!
//! Optional biases on all attention projections and on all MLP projections. Llama attends to the
//! whole context: a `sliding_window` in such a configuration belongs to another model.

use crate::config::{Settings, Sizes};
use crate::error::ModelError;
use crate::names::Names;
use crate::registry::{Defaults, Family};
use crate::rope::RopeConfig;
use crate::spec::{AttentionSpec, LayerSpec, MlpSpec, ModelSpec};

pub(crate) const FAMILY: Family = Family {
    class_name: "LlamaForCausalLM",
    model_type: "llama",
    names: Names::LLAMA,
    defaults: Defaults::LLAMA,
    implements: &[],
    spec,
};

fn spec(settings: &Settings<'_>, sizes: &Sizes) -> Result<ModelSpec, ModelError> {
    settings.refuse_window()?;
    settings.require_full_attention()?;
    settings.require_silu()?;
    let bias = settings.flag("attention_bias")?;
    let layer = LayerSpec {
        attention: AttentionSpec {
            qkv_bias: bias,
            output_bias: bias,
            ..AttentionSpec::plain(sizes.head_dim)
        },
        mlp: MlpSpec {
            bias: settings.flag("mlp_bias")?,
            ..MlpSpec::PLAIN
        },
    };
    let mut context = sizes.for_rope();
    context.has_dynamic = true;
    let rope = RopeConfig::read(settings, &context)?;
    Ok(ModelSpec::uniform(sizes.num_layers, layer, rope))
}
