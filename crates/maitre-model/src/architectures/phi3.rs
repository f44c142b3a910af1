//! Phi-3 and Phi-4 (Abdin et al. 2024, arXiv 2404.14219 and 2412.08905; Phi-4-mini: arXiv 2503.01743).
//!
//! Llama with one tensor for queries, keys and values and one for gate and up. Phi-4-mini turns the first three quarters
//! of each head (`partial_rotary_factor`). Contexts beyond the trained one use LongRoPE: see
//! [`LongRope`](crate::rope::LongRope) for where this differs from transformers. All layers may have one window.

use crate::config::{Settings, Sizes};
use crate::error::ModelError;
use crate::kv_layout::Reads;
use crate::names::{Names, Stacked};
use crate::registry::{Defaults, Family};
use crate::rope::RopeConfig;
use crate::spec::{AttentionSpec, LayerSpec, MlpSpec, ModelSpec};

pub(crate) const FAMILY: Family = Family {
    class_name: "Phi3ForCausalLM",
    model_type: "phi3",
    names: Names {
        qkv: Stacked::Fused("self_attn.qkv_proj"),
        gate_up: Stacked::Fused("mlp.gate_up_proj"),
        ..Names::LLAMA
    },
    defaults: Defaults {
        rms_norm_eps: 1e-5,
        ..Defaults::LLAMA
    },
    implements: &["partial_rotary_factor"],
    spec,
};

/// The trained context of a configuration that does not say.
const DEFAULT_ORIGINAL_CONTEXT: usize = 4096;

fn spec(settings: &Settings<'_>, sizes: &Sizes) -> Result<ModelSpec, ModelError> {
    settings.require_full_attention()?;
    settings.require_silu()?;
    for key in ["attention_bias", "mlp_bias"] {
        settings.refuse_unless_false(key)?;
    }
    let window = settings.size("sliding_window")?;
    let layer = LayerSpec {
        attention: AttentionSpec {
            reads: window.map_or(Reads::Full, Reads::Window),
            ..AttentionSpec::plain(sizes.head_dim)
        },
        mlp: MlpSpec::PLAIN,
    };
    let mut context = sizes.for_rope();
    context.turned_part = Some(1.0);
    context.has_long_rope = true;
    context.original = DEFAULT_ORIGINAL_CONTEXT;
    let rope = RopeConfig::read(settings, &context)?;
    Ok(ModelSpec::uniform(sizes.num_layers, layer, rope))
}
