//! The families in the words of both formats, and what llama.cpp's converter makes of each.
//!
//! | `general.architecture` | what the converter changes, and what of it is undone |
//! |---|---|
//! | `llama` | rows of queries and keys of a head lie in pairs of neighbours; Llama 3.1's scaling of RoPE becomes factors in a tensor |
//! | `gemma3` | 1 is added to the weights of norms; `query_pre_attn_scalar` is left out, and known from the number of layers |
//! | `gemma2` | as `gemma3`; which layers have windows is left out: every other |
//! | `phi3` | the two lists of LongRoPE become tensors |
//! | `olmo2` | OLMo 2 and 3 have one name: the latter has windows |
//! | `granite`, `smollm3` | as `llama`; multipliers of the former have other names, and of the latter every fourth layer turns nothing |
//! | `gemma` | 1 is added to the weights of norms |
//! | `exaone4` | Llama 3.1's scaling becomes factors |
//! | `hunyuan-dense` | the base that `alpha` makes larger is the base |
//! | `mistral3` | as `llama`; Mistral, or Ministral 3 where queries grow with their position |
//! | `cohere2` | which layers have windows is left out: all but every fourth |
//! | `starcoder2` | windows are lost |
//! | `gpt2` | matrices are transposed |
//! | `seed_oss` | the norm before the MLP is named after what it follows |
//! | `glm4` | nothing |
//! | `qwen2`, `qwen3` | nothing; windows of the former are lost |

use maitre_gguf::Value as Setting;
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
    /// Settings that it reads, of those that are refused unless a family does.
    pub(super) implements: &'static [&'static str],
    /// Modules of its layers that have another name than by their use: that, and their own.
    pub(super) renamed: &'static [(&'static str, &'static str)],
    /// Tensors with factors of RoPE's frequencies.
    pub(super) factors: &'static [&'static str],
    /// Adds what not all families have.
    pub(super) particulars: fn(&Words<'_>, &mut Config) -> Result<(), ModelError>,
}

/// Factors of Llama 3.1's frequencies.
pub(super) const LLAMA_FACTORS: &str = "rope_freqs.weight";
pub(super) const SHORT_FACTORS: &str = "rope_factors_short.weight";
pub(super) const LONG_FACTORS: &str = "rope_factors_long.weight";

pub(super) const FAMILIES: [Family; 18] = [
    Family {
        name: "llama",
        class_name: "LlamaForCausalLM",
        model_type: "llama",
        interleaves_heads: true,
        implements: &[],
        factors: &[LLAMA_FACTORS],
        renamed: &[],
        particulars: llama,
    },
    Family {
        name: "qwen2",
        class_name: "Qwen2ForCausalLM",
        model_type: "qwen2",
        interleaves_heads: false,
        implements: &[],
        factors: &[],
        renamed: &[],
        particulars: |words, _| words.refuse_window(),
    },
    Family {
        name: "qwen3",
        class_name: "Qwen3ForCausalLM",
        model_type: "qwen3",
        interleaves_heads: false,
        implements: &[],
        factors: &[],
        renamed: &[],
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
        implements: &[],
        factors: &[],
        renamed: &[],
        particulars: gemma3,
    },
    Family {
        name: "gemma2",
        class_name: "Gemma2ForCausalLM",
        model_type: "gemma2",
        interleaves_heads: false,
        implements: &[SCORE_BOUND, LOGIT_BOUND],
        factors: &[],
        renamed: &[],
        particulars: gemma2,
    },
    Family {
        name: "phi3",
        class_name: "Phi3ForCausalLM",
        model_type: "phi3",
        interleaves_heads: false,
        implements: &[],
        factors: &[SHORT_FACTORS, LONG_FACTORS],
        renamed: &[],
        particulars: phi3,
    },
    Family {
        name: "olmo2",
        class_name: "Olmo3ForCausalLM",
        model_type: "olmo3",
        interleaves_heads: false,
        implements: &[],
        factors: &[],
        renamed: &[],
        particulars: olmo,
    },
    Family {
        name: "granite",
        class_name: "GraniteForCausalLM",
        model_type: "granite",
        interleaves_heads: true,
        implements: &[
            ATTENTION_SCALE,
            EMBEDDING_SCALE,
            RESIDUAL_SCALE,
            LOGIT_SCALE,
        ],
        factors: &[LLAMA_FACTORS],
        renamed: &[],
        particulars: granite,
    },
    Family {
        name: "gemma",
        class_name: "GemmaForCausalLM",
        model_type: "gemma",
        interleaves_heads: false,
        implements: &[],
        factors: &[],
        renamed: &[],
        particulars: |words, config| {
            attention_bias(words, config);
            words.refuse_window()
        },
    },
    Family {
        name: "glm4",
        class_name: "Glm4ForCausalLM",
        model_type: "glm4",
        interleaves_heads: false,
        implements: &[],
        factors: &[],
        renamed: &[],
        particulars: |words, config| {
            attention_bias(words, config);
            words.refuse_window()
        },
    },
    Family {
        name: "smollm3",
        class_name: "SmolLM3ForCausalLM",
        model_type: "smollm3",
        interleaves_heads: true,
        implements: &[],
        factors: &[LLAMA_FACTORS],
        renamed: &[],
        particulars: |words, config| {
            biases(words, config);
            // What llama.cpp takes for every file.
            config.insert("no_rope_layer_interval".into(), json!(4));
            words.refuse_window()
        },
    },
    Family {
        name: "exaone4",
        class_name: "Exaone4ForCausalLM",
        model_type: "exaone4",
        interleaves_heads: false,
        implements: &[],
        factors: &[LLAMA_FACTORS],
        renamed: &[],
        particulars: |words, config| windows(words, config, 4),
    },
    Family {
        name: "hunyuan-dense",
        class_name: "HunYuanDenseV1ForCausalLM",
        model_type: "hunyuan_v1_dense",
        interleaves_heads: false,
        implements: &[],
        factors: &[],
        renamed: &[],
        particulars: |words, config| {
            attention_bias(words, config);
            words.refuse_window()
        },
    },
    Family {
        name: "mistral3",
        class_name: "MistralForCausalLM",
        model_type: "mistral",
        interleaves_heads: true,
        implements: &[QUERY_GROWTH],
        factors: &[LLAMA_FACTORS],
        renamed: &[],
        particulars: mistral3,
    },
    Family {
        name: "cohere2",
        class_name: "Cohere2ForCausalLM",
        model_type: "cohere2",
        interleaves_heads: false,
        implements: &[LOGIT_SCALE],
        factors: &[],
        renamed: &[],
        particulars: |words, config| {
            attention_bias(words, config);
            config.insert("logit_scale".into(), json!(words.number(LOGIT_SCALE)?));
            windows(words, config, 4)
        },
    },
    Family {
        name: "starcoder2",
        class_name: "Starcoder2ForCausalLM",
        model_type: "starcoder2",
        interleaves_heads: false,
        implements: &[],
        factors: &[],
        renamed: &[],
        particulars: |words, config| {
            let use_bias = words.layers_have("attn_q.bias");
            config.insert("use_bias".into(), json!(use_bias));
            words.refuse_window()
        },
    },
    Family {
        name: "gpt2",
        class_name: "GPT2LMHeadModel",
        model_type: "gpt2",
        interleaves_heads: false,
        implements: &[],
        factors: &[],
        renamed: &[],
        particulars: |words, _| words.refuse_window(),
    },
    Family {
        name: "seed_oss",
        class_name: "SeedOssForCausalLM",
        model_type: "seed_oss",
        interleaves_heads: false,
        implements: &[],
        factors: &[],
        renamed: &[("ffn_norm", "post_attention_norm")],
        particulars: |words, config| {
            biases(words, config);
            let output_bias = words.layers_have("attn_output.bias");
            config.insert("attention_out_bias".into(), json!(output_bias));
            words.refuse_window()
        },
    },
];

fn attention_bias(words: &Words<'_>, config: &mut Config) {
    let has_bias = words.layers_have("attn_q.bias") || words.layers_have("attn_qkv.bias");
    config.insert("attention_bias".into(), json!(has_bias));
}

fn biases(words: &Words<'_>, config: &mut Config) {
    attention_bias(words, config);
    let mlp_bias = words.layers_have("ffn_gate.bias");
    config.insert("mlp_bias".into(), json!(mlp_bias));
}

const SCORE_BOUND: &str = "attn_logit_softcapping";
const LOGIT_BOUND: &str = "final_logit_softcapping";
const ATTENTION_SCALE: &str = "attention.scale";
const QUERY_GROWTH: &str = "attention.temperature_scale";
const EMBEDDING_SCALE: &str = "embedding_scale";
const RESIDUAL_SCALE: &str = "residual_scale";
const LOGIT_SCALE: &str = "logit_scale";

/// Granite. A multiplier that is 0 or absent is 1, but for that of scores, which is what other families have.
fn granite(words: &Words<'_>, config: &mut Config) -> Result<(), ModelError> {
    const TURNS: &str = "rope.scaling.finetuned";
    biases(words, config);
    if let Some(Setting::Bool(false)) = words.file.index().get(&words.key(TURNS)) {
        return Err(words.unsupported(TURNS, "false: heads that are not turned"));
    }
    for (setting, name) in [
        ("attention_multiplier", ATTENTION_SCALE),
        ("embedding_multiplier", EMBEDDING_SCALE),
        ("residual_multiplier", RESIDUAL_SCALE),
        ("logits_scaling", LOGIT_SCALE),
    ] {
        if let Some(value) = words.number(name)?.filter(|value| *value != 0.0) {
            config.insert(setting.into(), json!(value));
        }
    }
    let head_dim = config.get("head_dim").and_then(serde_json::Value::as_f64);
    let scale = head_dim.map(|head_dim| head_dim.sqrt().recip());
    let scores = config.entry("attention_multiplier");
    scores.or_insert_with(|| json!(scale));
    words.refuse_window()
}

/// Llama and what the converter calls so: with a window it is Mistral.
fn llama(words: &Words<'_>, config: &mut Config) -> Result<(), ModelError> {
    biases(words, config);
    if let Some(window) = words.window()? {
        config.insert("architectures".into(), json!(["MistralForCausalLM"]));
        config.insert("model_type".into(), json!("mistral"));
        config.insert("sliding_window".into(), json!(window));
    }
    Ok(())
}

/// Mistral, or Ministral 3, whose queries grow with their position.
fn mistral3(words: &Words<'_>, config: &mut Config) -> Result<(), ModelError> {
    config.insert("sliding_window".into(), json!(words.window()?));
    let growth = words.number(QUERY_GROWTH)?.filter(|it| *it != 0.0);
    let rope = config.get_mut("rope_parameters");
    if let (Some(growth), Some(rope)) = (growth, rope.and_then(|it| it.as_object_mut())) {
        rope.insert("llama_4_scaling_beta".into(), json!(growth));
        config.insert("architectures".into(), json!(["Ministral3ForCausalLM"]));
        config.insert("model_type".into(), json!("ministral3"));
    }
    Ok(())
}

/// Layers of the one Gemma 3, and of the one Gemma 2, whose scores are divided by another root than that of a head's width
/// (27B).
const LARGE_GEMMA_LAYERS: u64 = 62;
const LARGE_GEMMA_2_LAYERS: u64 = 46;
/// What llama.cpp takes where a file does not say.
const GEMMA_WINDOWED_THETA: f64 = 10_000.0;

fn gemma3(words: &Words<'_>, config: &mut Config) -> Result<(), ModelError> {
    attention_bias(words, config);
    windows(words, config, 6)?;
    let windowed = words.number("rope.freq_base_swa")?;
    let windowed = windowed.unwrap_or(GEMMA_WINDOWED_THETA);
    let ropes = rope::by_layer_type(words, windowed)?;
    config.insert("rope_parameters".into(), ropes.into());
    let scalar = score_scalar(config, LARGE_GEMMA_LAYERS);
    config.insert("query_pre_attn_scalar".into(), json!(scalar));
    Ok(())
}

/// Gemma 2. A bound that is 0 is none; one that is absent is what the family has.
fn gemma2(words: &Words<'_>, config: &mut Config) -> Result<(), ModelError> {
    attention_bias(words, config);
    windows(words, config, 2)?;
    for name in [SCORE_BOUND, LOGIT_BOUND] {
        if let Some(bound) = words.number(name)? {
            let bound = (bound != 0.0).then_some(bound);
            config.insert(name.into(), json!(bound));
        }
    }
    let scalar = score_scalar(config, LARGE_GEMMA_2_LAYERS);
    config.insert("query_pre_attn_scalar".into(), json!(scalar));
    Ok(())
}

/// The number whose root scores are divided by: a head's width, or in the large model the width of one of as many equal
/// heads.
fn score_scalar(config: &Config, large: u64) -> Option<u64> {
    let of = |name: &str| config.get(name).and_then(serde_json::Value::as_u64);
    match of("num_hidden_layers") {
        Some(layers) if layers == large => of("hidden_size")
            .zip(of("num_attention_heads"))
            .and_then(|(width, heads)| width.checked_div(heads)),
        _ => of("head_dim"),
    }
}

/// Phi 3 and 4. A window is that of all layers; Phi 4 has none, which the converter writes as 0.
fn phi3(words: &Words<'_>, config: &mut Config) -> Result<(), ModelError> {
    config.insert("sliding_window".into(), json!(words.window()?));
    let original = words.size("rope.scaling.original_context_length")?;
    config.insert("original_max_position_embeddings".into(), json!(original));
    Ok(())
}

/// OLMo 2, or with windows OLMo 3.
fn olmo(words: &Words<'_>, config: &mut Config) -> Result<(), ModelError> {
    attention_bias(words, config);
    if words.window()?.is_none() {
        config.insert("architectures".into(), json!(["Olmo2ForCausalLM"]));
        config.insert("model_type".into(), json!("olmo2"));
        return Ok(());
    }
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
