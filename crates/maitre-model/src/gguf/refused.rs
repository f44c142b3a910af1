//! Settings of a file that change the mathematics and are not implemented: refused by name.
//!
//! As in `config.json` an unknown setting is taken for one that changes nothing; so those that llama.cpp knows and some
//! family computes with are listed here, each with the values that leave the mathematics as they are.

use maitre_gguf::Value;

use super::settings::Words;
use crate::error::ModelError;

/// Where a setting does nothing.
#[derive(Debug, Clone, Copy)]
enum Neutral {
    /// Only its absence is.
    Absent,
    /// 0, or false.
    Zero,
    /// 1, and 0, which is llama.cpp's word for a factor that is not set.
    One,
    /// True.
    True,
}

impl Neutral {
    fn holds(self, value: &Value) -> bool {
        let number = match value {
            Value::Unsigned(number) => *number as f64,
            Value::Signed(number) => *number as f64,
            Value::Float(number) => *number,
            Value::Bool(flag) => f64::from(u8::from(*flag)),
            Value::Text(_) | Value::List(_) => return false,
        };
        match self {
            Self::Absent => false,
            Self::Zero => number == 0.0,
            Self::One => number == 0.0 || number == 1.0,
            Self::True => number == 1.0,
        }
    }
}

const REFUSED: &[(Neutral, &[&str])] = &[
    (
        Neutral::Zero,
        &[
            // Mixtures of experts, and layers that predict further tokens.
            "expert_count",
            "nextn_predict_layers",
            // Bounds of scores and logits.
            "attn_logit_softcapping",
            "final_logit_softcapping",
            "attention.clamp_kqv",
            // Other positions.
            "attention.max_alibi_bias",
            "attention.temperature_scale",
            "rope.scaling.alpha",
            // Layers that read the cache of others.
            "attention.shared_kv_layers",
            "use_parallel_residual",
        ],
    ),
    (
        Neutral::One,
        &[
            "logit_scale",
            "residual_scale",
            "embedding_scale",
            "attention.output_scale",
            "attention.value_scale",
        ],
    ),
    (Neutral::True, &["attention.causal"]),
    (
        Neutral::Absent,
        &[
            "attention.scale",
            "attention.q_lora_rank",
            "attention.kv_lora_rank",
            "attention.rope_pattern",
            "attention.recurrent_layers",
            "rope.dimension_sections",
            "rope.dimension_count_swa",
            "hidden_activation",
            "dense_2_feat_out",
            "dense_3_feat_out",
        ],
    ),
];

/// Refuses the first setting of the list that a file has with a value other than a neutral one, but for those that its
/// family implements.
pub(super) fn refuse_unsupported(
    words: &Words<'_>,
    implemented: &[&str],
) -> Result<(), ModelError> {
    for (neutral, names) in REFUSED {
        for name in names.iter().filter(|name| !implemented.contains(name)) {
            let value = words.file.index().get(&words.key(name));
            if let Some(value) = value.filter(|value| !neutral.holds(value)) {
                return Err(words.unsupported(name, value));
            }
        }
    }
    Ok(())
}
