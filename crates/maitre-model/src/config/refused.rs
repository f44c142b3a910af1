//! Settings that change the mathematics and are not implemented: refused by name.
//!
//! A configuration is an open-ended dictionary: a checkpoint of a model family this crate has never
//! heard of may call itself a Llama and add one more key. Ignoring such a key gives fluent nonsense,
//! so the keys that are known to alter the forward pass of public models are listed here, each with the one
//! value that leaves it unaltered. A family names the keys of the list that it reads itself
//! ([`Family::implements`](crate::registry::Family)); to all others they are refused. A key that is neither in the
//! list nor in the code is taken for a training setting or metadata, and ignored.

use serde_json::Value;

use super::settings::Settings;
use crate::error::ModelError;

/// The value at which a setting does nothing.
#[derive(Debug, Clone, Copy)]
enum Neutral {
    /// Only absence (or null) is.
    Absent,
    /// `false`, and an empty object or list.
    Off,
    /// `true`.
    On,
    /// The multiplier 1.
    One,
    /// Zero, of something that is added or counted.
    Zero,
}

impl Neutral {
    fn holds(self, value: &Value) -> bool {
        match self {
            Self::Absent => false,
            Self::Off => match value {
                Value::Bool(flag) => !flag,
                Value::Object(map) => map.is_empty(),
                Value::Array(list) => list.is_empty(),
                _ => false,
            },
            Self::On => value.as_bool() == Some(true),
            Self::One => value.as_f64() == Some(1.0),
            Self::Zero => value.as_f64() == Some(0.0) || value.as_bool() == Some(false),
        }
    }

    const fn supported(self) -> &'static str {
        match self {
            Self::Absent => "absent or null",
            Self::Off => "false or empty",
            Self::On => "true",
            Self::One => "1",
            Self::Zero => "0",
        }
    }
}

/// What is refused, grouped by the part of the forward pass it would change.
const REFUSED: &[(Neutral, &[&str])] = &[
    // Weights stored in another form.
    (
        Neutral::Absent,
        &["quantization_config", "compression_config", "quantization"],
    ),
    // Scaled embeddings, residuals, scores and logits (Granite, MiniCPM, Cohere, Gemma).
    (
        Neutral::One,
        &[
            "attention_multiplier",
            "residual_multiplier",
            "embedding_multiplier",
            "embedding_scale",
            "lm_head_multiplier",
            "key_multiplier",
            "attention_in_multiplier",
            "attention_out_multiplier",
            "logits_scaling",
            "logit_scale",
            "logits_scale",
            "scale_emb",
            "rope_ratio",
            "pretraining_tp",
        ],
    ),
    (
        Neutral::Absent,
        &[
            "scale_depth",
            "dim_model_base",
            "query_pre_attn_scalar",
            "final_logit_softcapping",
            "attn_logit_softcapping",
            "logit_soft_cap",
            "clip_qkv",
            "output_multiplier_scale",
            "mlp_multipliers",
            "ssm_multipliers",
        ],
    ),
    (Neutral::On, &["scale_attn_weights"]),
    (Neutral::Off, &["scale_attn_by_inverse_layer_idx"]),
    // Other positions, or positions on some dimensions or layers only.
    (
        Neutral::One,
        &["partial_rotary_factor", "rotary_pct", "rotary_percent"],
    ),
    (
        Neutral::Absent,
        &[
            "rotary_dim",
            "rope_local_base_freq",
            "no_rope_layers",
            "no_rope_layer_interval",
            "nope_layer_interval",
            "local_rope_theta",
            "global_rope_theta",
            "position_embedding_type",
            "mrope_section",
        ],
    ),
    (
        Neutral::Off,
        &[
            "alibi",
            "use_alibi",
            "rope_interleave",
            "rope_interleaved",
            "use_mrope",
        ],
    ),
    // Attention over part of the context, or of another kind.
    (
        Neutral::Off,
        &[
            "use_sliding_window",
            "pruned_heads",
            "add_cross_attention",
            "attn_temperature_tuning",
            "add_swa_attention_sink_bias",
            "add_full_attention_sink_bias",
            "attention_output_gate",
            "attn_output_gate",
            "use_attn_gate",
            "use_bidirectional_attention",
        ],
    ),
    (
        Neutral::Absent,
        &[
            "sliding_window_pattern",
            "sliding_window_layers",
            "attention_chunk_size",
            "kv_lora_rank",
            "q_lora_rank",
            "cross_attention_layers",
            "num_kv_shared_layers",
        ],
    ),
    // Blocks arranged otherwise, normalisation elsewhere.
    (
        Neutral::Off,
        &[
            "parallel_residual",
            "use_parallel_residual",
            "qk_layernorm",
            "qk_norm",
            "use_qk_norm",
            "use_qkv_bias",
            "qkv_bias",
            "use_bias",
            "attention_out_bias",
        ],
    ),
    // Mixtures of experts.
    (
        Neutral::Zero,
        &[
            "num_experts",
            "num_local_experts",
            "n_routed_experts",
            "n_shared_experts",
            "num_experts_per_tok",
            "moe_intermediate_size",
        ],
    ),
];

/// Refuses the first listed setting that is present with a value other than its neutral one, but for those that the
/// family implements.
pub(super) fn refuse_unsupported(
    settings: &Settings<'_>,
    implemented: &[&str],
) -> Result<(), ModelError> {
    for (neutral, keys) in REFUSED {
        for key in keys.iter().filter(|key| !implemented.contains(key)) {
            if let Some(value) = settings.get(key)
                && !neutral.holds(value)
            {
                return Err(settings.unsupported(key, value, neutral.supported()));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;

    /// Refuses a configuration of this key alone.
    fn refused(key: &str, value: &Value, implemented: &[&str]) -> Option<String> {
        let mut map = Map::new();
        map.insert(key.to_owned(), value.clone());
        let value = Value::Object(map);
        let settings = Settings::of_file("config.json", &value).unwrap();
        let result = refuse_unsupported(&settings, implemented);
        result.err().map(|error| error.to_string())
    }

    #[test]
    fn every_key_of_the_list_is_refused_but_at_its_neutral_value() {
        for (neutral, keys) in REFUSED {
            let (idle, active) = match neutral {
                Neutral::Absent => (Value::Null, json!(8)),
                Neutral::Off => (json!(false), json!(true)),
                Neutral::On => (json!(true), json!(false)),
                Neutral::One => (json!(1.0), json!(0.5)),
                Neutral::Zero => (json!(0), json!(4)),
            };
            for key in *keys {
                assert_eq!(refused(key, &idle, &[]), None, "{key}");
                assert_eq!(refused(key, &active, &[key]), None, "{key}");
                let message = refused(key, &active, &[]).unwrap_or_default();
                assert!(message.contains(&format!("`{key}`")), "{key}: {message}");
            }
        }
    }

    #[test]
    fn each_key_stands_once() {
        let mut keys: Vec<&str> = REFUSED
            .iter()
            .flat_map(|(_, keys)| *keys)
            .copied()
            .collect();
        let count = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), count);
    }
}
