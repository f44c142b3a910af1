//! GPT-2 (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners").
//!
//! Positions have embeddings, and nothing is turned. Norms are by mean and variance, all projections have biases, and the
//! MLP has no gate. Queries, keys and values are one tensor; all matrices of layers lie with their inputs as rows.

use maitre_tensor::Activation;

use crate::checkpoint::FileNames;
use crate::config::{Settings, Sizes};
use crate::error::ModelError;
use crate::names::{Names, Norms, Stacked};
use crate::registry::{Defaults, Family, Keys};
use crate::spec::{AttentionSpec, LayerSpec, MlpSpec, ModelSpec, NormKind};

pub(crate) const FAMILY: Family = Family {
    class_name: "GPT2LMHeadModel",
    model_type: "gpt2",
    names: Names {
        qkv: Stacked::Fused("attn.c_attn"),
        output: "attn.c_proj",
        gate_up: Stacked::Fused("mlp.c_fc"),
        down: "mlp.c_proj",
        norms: Norms::Before {
            attention: "ln_1",
            mlp: "ln_2",
        },
        // The published files lack what transformers puts first.
        files: FileNames {
            prefixes: &[
                ("transformer.h.", "model.layers."),
                ("transformer.wte.", "model.embed_tokens."),
                ("transformer.wpe.", "model.embed_positions."),
                ("transformer.ln_f.", "model.norm."),
                ("h.", "model.layers."),
                ("wte.", "model.embed_tokens."),
                ("wpe.", "model.embed_positions."),
                ("ln_f.", "model.norm."),
            ],
            transposed: &[
                ".attn.c_attn.weight",
                ".attn.c_proj.weight",
                ".mlp.c_fc.weight",
                ".mlp.c_proj.weight",
            ],
            ..FileNames::AS_IS
        },
        ..Names::LLAMA
    },
    defaults: Defaults {
        rms_norm_eps: 1e-5,
        tie_word_embeddings: true,
        mlp_widths: Some(4),
        keys: Keys {
            hidden_size: "n_embd",
            intermediate_size: "n_inner",
            num_layers: "n_layer",
            num_heads: "n_head",
            max_position_embeddings: "n_positions",
            norm_eps: "layer_norm_epsilon",
        },
        ..Defaults::LLAMA
    },
    implements: &["scale_attn_by_inverse_layer_idx", "scale_attn_weights"],
    spec,
};

fn spec(settings: &Settings<'_>, sizes: &Sizes) -> Result<ModelSpec, ModelError> {
    let approximations = ["gelu_new", "gelu_pytorch_tanh"];
    settings.require_one_of("activation_function", &approximations)?;
    settings.refuse_window()?;
    settings.require_full_attention()?;
    let plain = AttentionSpec::plain(sizes.head_dim);
    let scale = match settings.optional_flag("scale_attn_weights")? {
        Some(false) => 1.0,
        _ => plain.scale,
    };
    let by_layer = settings.flag("scale_attn_by_inverse_layer_idx")?;
    let layer = |index: usize| LayerSpec {
        attention: AttentionSpec {
            rope: None,
            scale: match by_layer {
                true => scale / (index + 1) as f32,
                false => scale,
            },
            qkv_bias: true,
            output_bias: true,
            ..plain
        },
        mlp: MlpSpec {
            gated: false,
            activation: Activation::GeluTanh,
            bias: true,
        },
    };
    Ok(ModelSpec {
        layers: (0..sizes.num_layers).map(layer).collect(),
        norm: NormKind::Layer { bias: true },
        learned_positions: true,
        ..ModelSpec::without_rope()
    })
}
