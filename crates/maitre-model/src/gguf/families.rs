//! The families in the words of both formats, and what llama.cpp's converter makes of each.
//!
//! | `general.architecture` | what the converter changes, and what of it is undone |
//! |---|---|
//! | `llama` | rows of queries and keys of a head lie in pairs of neighbours; Llama 3.1's scaling of RoPE becomes factors in a tensor |
//! | `gemma3` | 1 is added to the weights of norms; `query_pre_attn_scalar` is left out, and known from the number of layers |
//! | `phi3` | the two lists of LongRoPE become tensors |
//! | `olmo2` | OLMo 2 and 3 have one name: the latter has windows |
//! | `qwen2`, `qwen3` | nothing; windows of the former are lost |

use serde_json::json;

use super::rope;
use super::settings::{Config, Words};
use crate::config::MOST_LAYERS;
use crate::error::ModelError;

/// A family in the words of both formats.
pub(super) struct Family {
    /// `general.architecture`.
    pub(super) name: &'static str,
    pub(super) class_name: &'static str,
    pub(super) model_type: &'static str,
    /// Whether the converter writes rows of queries and keys in pairs of neighbours.
    pub(super) interleaves_heads: bool,
    /// Tensors with factors of RoPE's frequencies.
    pub(super) factors: &'static [&'static str],
    /// Adds what not all families have.
    pub(super) particulars: fn(&Words<'_>, &mut Config) -> Result<(), ModelError>,
}

/// Factors of Llama 3.1's frequencies.
pub(super) const LLAMA_FACTORS: &str = "rope_freqs.weight";
pub(super) const SHORT_FACTORS: &str = "rope_factors_short.weight";
pub(super) const LONG_FACTORS: &str = "rope_factors_long.weight";

pub(super) const FAMILIES: [Family; 6] = [
    Family {
        name: "llama",
        class_name: "LlamaForCausalLM",
        model_type: "llama",
        interleaves_heads: true,
        factors: &[LLAMA_FACTORS],
        particulars: llama,
    },
    Family {
        name: "qwen2",
        class_name: "Qwen2ForCausalLM",
        model_type: "qwen2",
        interleaves_heads: false,
        factors: &[],
        particulars: |words, _| words.refuse_window(),
    },
    Family {
        name: "qwen3",
        class_name: "Qwen3ForCausalLM",
        model_type: "qwen3",
        interleaves_heads: false,
        factors: &[],
        particulars: |words, config| {
            attention_bias(words, config);
            words.refuse_window()
        },
    },
    Family {
        name: "gemma3",
        class_name: "Gemma3ForCausalLM",
        model_type: "gemma3_text",
        interleaves_heads: false,
        factors: &[],
        particulars: gemma3,
    },
    Family {
        name: "phi3",
        class_name: "Phi3ForCausalLM",
        model_type: "phi3",
        interleaves_heads: false,
        factors: &[SHORT_FACTORS, LONG_FACTORS],
        particulars: phi3,
    },
    Family {
        name: "olmo2",
        class_name: "Olmo3ForCausalLM",
        model_type: "olmo3",
        interleaves_heads: false,
        factors: &[],
        particulars: olmo,
    },
];

fn attention_bias(words: &Words<'_>, config: &mut Config) {
    let has_bias = words.layers_have("attn_q.bias") || words.layers_have("attn_qkv.bias");
    config.insert("attention_bias".into(), json!(has_bias));
}

/// Llama and what the converter calls so: with a window it is Mistral.
fn llama(words: &Words<'_>, config: &mut Config) -> Result<(), ModelError> {
    attention_bias(words, config);
    let mlp_bias = words.layers_have("ffn_gate.bias");
    config.insert("mlp_bias".into(), json!(mlp_bias));
    if let Some(window) = words.window()? {
        config.insert("architectures".into(), json!(["MistralForCausalLM"]));
        config.insert("model_type".into(), json!("mistral"));
        config.insert("sliding_window".into(), json!(window));
    }
    Ok(())
}

/// Layers of the one Gemma 3 whose scores are divided by another root than that of a head's width (27B).
const LARGE_GEMMA_LAYERS: u64 = 62;
/// What llama.cpp takes where a file does not say.
const GEMMA_WINDOWED_THETA: f64 = 10_000.0;

fn gemma3(words: &Words<'_>, config: &mut Config) -> Result<(), ModelError> {
    attention_bias(words, config);
    windows(words, config, 6)?;
    let windowed = words.number("rope.freq_base_swa")?;
    let windowed = windowed.unwrap_or(GEMMA_WINDOWED_THETA);
    let ropes = rope::by_layer_type(words, windowed)?;
    config.insert("rope_parameters".into(), ropes.into());
    let of = |name: &str| config.get(name).and_then(serde_json::Value::as_u64);
    let scalar = match of("num_hidden_layers") {
        Some(LARGE_GEMMA_LAYERS) => of("hidden_size")
            .zip(of("num_attention_heads"))
            .and_then(|(width, heads)| width.checked_div(heads)),
        _ => of("head_dim"),
    };
    config.insert("query_pre_attn_scalar".into(), json!(scalar));
    Ok(())
}

/// Phi 3 and 4. A window is that of all layers; Phi 4 has none, which the converter writes as 0.
fn phi3(words: &Words<'_>, config: &mut Config) -> Result<(), ModelError> {
    config.insert("sliding_window".into(), json!(words.window()?));
    let original = words.size("rope.scaling.original_context_length")?;
    config.insert("original_max_position_embeddings".into(), json!(original));
    Ok(())
}

fn olmo(words: &Words<'_>, config: &mut Config) -> Result<(), ModelError> {
    attention_bias(words, config);
    windows(words, config, 4)?;
    let theta = rope::theta(words)?;
    let windowed = words.number("rope.freq_base_swa")?.unwrap_or(theta);
    let ropes = rope::by_layer_type(words, windowed)?;
    config.insert("rope_parameters".into(), ropes.into());
    Ok(())
}

/// Which layers have the window, where there is one: a flag for each, or all layers but every Nth.
fn windows(words: &Words<'_>, config: &mut Config, pattern: u64) -> Result<(), ModelError> {
    const PATTERN: &str = "attention.sliding_window_pattern";
    // A file with more layers is refused by the reader of the configuration.
    let layers = words.size("block_count")?.unwrap_or(0);
    let layers = layers.min(MOST_LAYERS as u64);
    let window = words.window()?;
    config.insert("sliding_window".into(), json!(window));
    let kind = |is_windowed: bool| match is_windowed {
        true => "sliding_attention",
        false => "full_attention",
    };
    let types: Vec<&str> = match (window, words.flags(PATTERN)?) {
        (None, _) => (0..layers).map(|_| kind(false)).collect(),
        (Some(_), Some(flags)) => flags.into_iter().map(kind).collect(),
        (Some(_), None) => {
            let pattern = words.size(PATTERN)?.unwrap_or(pattern);
            (0..layers)
                .map(|layer| kind(pattern == 0 || !(layer + 1).is_multiple_of(pattern)))
                .collect()
        }
    };
    config.insert("layer_types".into(), json!(types));
    Ok(())
}
