//! OLMo 2 (Team OLMo 2025, arXiv 2501.00656).
//!
//! Attention and MLP read the residual stream as it is, and what they add is normalised (section 3.2). Queries and keys
//! are normalised as whole rows, all heads together.

use crate::config::{Settings, Sizes};
use crate::error::ModelError;
use crate::names::{Names, Norms};
use crate::registry::{Defaults, Family};
use crate::rope::RopeConfig;
use crate::spec::{AttentionSpec, HeadNorm, LayerSpec, MlpSpec, ModelSpec};

pub(crate) const FAMILY: Family = Family {
    class_name: "Olmo2ForCausalLM",
    model_type: "olmo2",
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
    implements: &[],
    spec,
};

fn spec(settings: &Settings<'_>, sizes: &Sizes) -> Result<ModelSpec, ModelError> {
    settings.refuse_window()?;
    settings.require_full_attention()?;
    settings.require_silu()?;
    settings.refuse_unless_false("mlp_bias")?;
    let bias = settings.flag("attention_bias")?;
    let layer = LayerSpec {
        attention: AttentionSpec {
            head_norm: HeadNorm::WholeRow,
            qkv_bias: bias,
            output_bias: bias,
            ..AttentionSpec::plain(sizes.head_dim)
        },
        mlp: MlpSpec::PLAIN,
    };
    let rope = RopeConfig::read(settings, &sizes.for_rope())?;
    Ok(ModelSpec::uniform(sizes.num_layers, layer, rope))
}
