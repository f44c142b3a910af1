//! OLMo 3 (Team OLMo 2025, arXiv 2512.13961).
//!
//! Attention and MLP read the residual stream as it is, and what they add is normalised (OLMo 2, arXiv 2501.00656,
//! section 3.2). Queries and keys are normalised as whole rows, all heads together. Three layers with a window to one
//! without; a scaling of RoPE (YaRN, in the published models) acts on those without a window alone. A `rope_theta` of the
//! older form of configurations is that of both kinds; transformers 5.19 gives layers with a window 500,000 whatever it
//! says, which is what the published models say.

use crate::config::{Settings, Sizes};
use crate::error::ModelError;
use crate::kv_layout::Reads;
use crate::names::{Names, Norms};
use crate::registry::{Defaults, Family};
use crate::rope::{RopeConfig, Thetas};
use crate::spec::{AttentionSpec, HeadNorm, LayerSpec, MlpSpec, ModelSpec};

pub(crate) const FAMILY: Family = Family {
    class_name: "Olmo3ForCausalLM",
    model_type: "olmo3",
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

const DEFAULT_WINDOW: usize = 4096;
/// Every so many layers one reads the whole context.
const PATTERN: usize = 4;
const THETAS: Thetas = Thetas {
    full: 500_000.0,
    windowed: 500_000.0,
    windowed_key: None,
};

fn spec(settings: &Settings<'_>, sizes: &Sizes) -> Result<ModelSpec, ModelError> {
    settings.require_silu()?;
    settings.refuse_unless_false("mlp_bias")?;
    let window = settings.window_or(DEFAULT_WINDOW)?;
    let is_windowed = |layer: usize| !(layer + 1).is_multiple_of(PATTERN);
    let reads = settings.layer_reads(sizes.num_layers, window, is_windowed)?;
    let bias = settings.flag("attention_bias")?;
    let layer = |reads: Reads| LayerSpec {
        attention: AttentionSpec {
            reads,
            rope: Some(usize::from(reads != Reads::Full)),
            head_norm: HeadNorm::WholeRow,
            qkv_bias: bias,
            output_bias: bias,
            ..AttentionSpec::plain(sizes.head_dim)
        },
        mlp: MlpSpec::PLAIN,
    };
    Ok(ModelSpec {
        layers: reads.into_iter().map(layer).collect(),
        ropes: RopeConfig::read_by_layer_type(settings, &sizes.for_rope(), THETAS)?.into(),
        ..ModelSpec::without_rope()
    })
}
