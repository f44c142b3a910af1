//! StarCoder 2 (Lozhkov et al. 2024, arXiv 2402.19173).
//!
//! Norms are by mean and variance, all projections have biases, and the MLP has no gate. A `sliding_window`, if there is
//! one, is that of all layers.

use maitre_tensor::Activation;

use crate::config::{Settings, Sizes};
use crate::error::ModelError;
use crate::kv_layout::Reads;
use crate::names::{Names, Stacked};
use crate::registry::{Defaults, Family, Keys};
use crate::rope::RopeConfig;
use crate::spec::{AttentionSpec, LayerSpec, MlpSpec, ModelSpec, NormKind};

pub(crate) const FAMILY: Family = Family {
    class_name: "Starcoder2ForCausalLM",
    model_type: "starcoder2",
    names: Names {
        gate_up: Stacked::Fused("mlp.c_fc"),
        down: "mlp.c_proj",
        ..Names::LLAMA
    },
    defaults: Defaults {
        rms_norm_eps: 1e-5,
        tie_word_embeddings: true,
        keys: Keys {
            norm_eps: "norm_epsilon",
            ..Keys::LLAMA
        },
        ..Defaults::LLAMA
    },
    implements: &["use_bias"],
    spec,
};

fn spec(settings: &Settings<'_>, sizes: &Sizes) -> Result<ModelSpec, ModelError> {
    settings.require_activation(&["gelu_pytorch_tanh"])?;
    settings.require_one_of("norm_type", &["layer_norm"])?;
    settings.require_one_of("mlp_type", &["default"])?;
    settings.require_full_attention()?;
    for key in ["attention_bias", "mlp_bias"] {
        settings.refuse_unless_false(key)?;
    }
    let bias = settings.optional_flag("use_bias")?.unwrap_or(true);
    let window = settings.size("sliding_window")?;
    let layer = LayerSpec {
        attention: AttentionSpec {
            reads: window.map_or(Reads::Full, Reads::Window),
            qkv_bias: bias,
            output_bias: bias,
            ..AttentionSpec::plain(sizes.head_dim)
        },
        mlp: MlpSpec {
            gated: false,
            activation: Activation::GeluTanh,
            bias,
        },
    };
    let rope = RopeConfig::read(settings, &sizes.for_rope())?;
    Ok(ModelSpec {
        norm: NormKind::Layer { bias: true },
        ..ModelSpec::uniform(sizes.num_layers, layer, rope)
    })
}
