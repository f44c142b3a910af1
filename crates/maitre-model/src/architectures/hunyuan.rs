//! Hunyuan, dense (Tencent 2025).
//!
//! Llama whose queries and keys pass an RMSNorm over each head after they were turned. The published models have a larger
//! base of RoPE by `alpha`, under the name `dynamic`.

use crate::config::{Settings, Sizes};
use crate::error::ModelError;
use crate::names::Names;
use crate::registry::{Defaults, Family};
use crate::rope::RopeConfig;
use crate::spec::{AttentionSpec, HeadNorm, LayerSpec, MlpSpec, ModelSpec};

pub(crate) const FAMILY: Family = Family {
    class_name: "HunYuanDenseV1ForCausalLM",
    model_type: "hunyuan_v1_dense",
    names: Names {
        head_norms: ["self_attn.query_layernorm", "self_attn.key_layernorm"],
        ..Names::LLAMA
    },
    defaults: Defaults {
        rms_norm_eps: 1e-5,
        ..Defaults::LLAMA
    },
    implements: &["use_qk_norm", "num_experts"],
    spec,
};

fn spec(settings: &Settings<'_>, sizes: &Sizes) -> Result<ModelSpec, ModelError> {
    settings.refuse_window()?;
    settings.require_full_attention()?;
    settings.require_silu()?;
    settings.refuse_unless_false("mlp_bias")?;
    // Some of the dense models say that they have one expert.
    if let Some(value) = settings.get("num_experts")
        && !matches!(value.as_u64(), Some(0 | 1))
    {
        return Err(settings.unsupported("num_experts", value, "absent, 0 or 1"));
    }
    if !settings.optional_flag("use_qk_norm")?.unwrap_or(true) {
        return Err(settings.unsupported("use_qk_norm", &false.into(), "absent or true"));
    }
    let bias = settings.flag("attention_bias")?;
    let layer = LayerSpec {
        attention: AttentionSpec {
            head_norm: HeadNorm::PerHeadTurned,
            qkv_bias: bias,
            output_bias: bias,
            ..AttentionSpec::plain(sizes.head_dim)
        },
        mlp: MlpSpec::PLAIN,
    };
    let mut context = sizes.for_rope();
    context.has_alpha = true;
    let rope = RopeConfig::read(settings, &context)?;
    // A norm after the turn would take the factor away; keys are normalised before theirs.
    if rope.scaling.attention_factor() != 1.0 {
        let factor = rope.scaling.attention_factor().to_string();
        let expected = "1, beside norms of turned heads".to_owned();
        return Err(settings.contradicts("attention_factor of RoPE", factor, expected));
    }
    Ok(ModelSpec::uniform(sizes.num_layers, layer, rope))
}
