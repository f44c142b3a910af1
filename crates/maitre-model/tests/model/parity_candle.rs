//! A second oracle: candle-transformers on the same weights, in f32.
//!
//! It shares no code with the fixtures' origin and none with this crate's forward pass. Its Llama
//! has no biases and no free `head_dim`, so the fixtures without them are compared.

use std::collections::HashMap;

use crate::support::{fixture, in_dtype, prefill, runner};
use candle_core::{DType as CandleType, Device, Tensor};
use candle_nn::{Activation, VarBuilder};
use candle_transformers::models::{llama, mistral, qwen3};
use maitre_model::{LoadOptions, ModelConfig, ModelSource, RopeScaling};
use maitre_tensor::{KvFormat, WeightFormat};

const HEAD: &str = "lm_head.weight";
const EMBEDDING: &str = "model.embed_tokens.weight";

fn tokens() -> Vec<u32> {
    (0..50).map(|index| 3 + index * 11 % 60).collect()
}

fn config(name: &str) -> ModelConfig {
    let json = std::fs::read(fixture(name).join("config.json")).unwrap();
    ModelConfig::from_json(&json).unwrap()
}

fn weights(name: &str) -> VarBuilder<'static> {
    let path = fixture(name).join("model.safetensors");
    let mut tensors: HashMap<String, Tensor> =
        candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    if !tensors.contains_key(EMBEDDING) {
        let tied = tensors[HEAD].clone();
        tensors.insert(EMBEDDING.to_owned(), tied);
    }
    VarBuilder::from_tensors(tensors, CandleType::F32, &Device::Cpu)
}

/// Compares the logits after the last token; candle gives no others.
fn compare(name: &str, candle: &Tensor) {
    let expected: Vec<f32> = candle.flatten_all().unwrap().to_vec1().unwrap();
    let options = LoadOptions {
        kv_dtype: Some(KvFormat::F32),
        ..in_dtype(WeightFormat::F32)
    };
    let mut runner = runner(&ModelSource::Directory(fixture(name)), &options, 2);
    let found = prefill(&mut runner, &tokens(), 16).pop().unwrap();
    let largest = expected
        .iter()
        .fold(0f32, |max, logit| max.max(logit.abs()));
    assert_eq!(found.len(), expected.len());
    for (token, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert!(
            (found - expected).abs() <= 1e-4 * largest,
            "{name}, token {token}: {found} but candle {expected}"
        );
    }
}

#[test]
fn llama_matches() {
    for name in ["llama-bf16-llama3-tied-as-head", "llama-f16-untied"] {
        let config = config(name);
        let rope_scaling = match &config.ropes[0].scaling {
            RopeScaling::Llama3(scaling) => Some(llama::Llama3RopeConfig {
                factor: scaling.factor as f32,
                low_freq_factor: scaling.low_freq_factor as f32,
                high_freq_factor: scaling.high_freq_factor as f32,
                original_max_position_embeddings: scaling.original_max_position_embeddings,
                rope_type: llama::Llama3RopeType::Llama3,
            }),
            _ => None,
        };
        let candle_config = llama::Config {
            hidden_size: config.hidden_size,
            intermediate_size: config.intermediate_size,
            vocab_size: config.vocab_size,
            num_hidden_layers: config.num_layers,
            num_attention_heads: config.num_heads,
            num_key_value_heads: config.num_kv_heads,
            use_flash_attn: false,
            rms_norm_eps: f64::from(config.rms_norm_eps),
            rope_theta: config.ropes[0].theta as f32,
            bos_token_id: None,
            eos_token_id: None,
            rope_scaling,
            max_position_embeddings: config.max_position_embeddings,
            tie_word_embeddings: config.tie_word_embeddings,
        };
        let model = llama::Llama::load(weights(name), &candle_config).unwrap();
        let mut cache =
            llama::Cache::new(true, CandleType::F32, &candle_config, &Device::Cpu).unwrap();
        let input = Tensor::new(tokens(), &Device::Cpu).unwrap();
        let input = input.unsqueeze(0).unwrap();
        compare(name, &model.forward(&input, 0, &mut cache).unwrap());
    }
}

#[test]
fn mistral_matches() {
    let name = "mistral-f32-window";
    let config = config(name);
    let candle_config = mistral::Config {
        vocab_size: config.vocab_size,
        hidden_size: config.hidden_size,
        intermediate_size: config.intermediate_size,
        num_hidden_layers: config.num_layers,
        num_attention_heads: config.num_heads,
        head_dim: Some(config.head_dim),
        num_key_value_heads: config.num_kv_heads,
        hidden_act: Activation::Silu,
        max_position_embeddings: config.max_position_embeddings,
        rms_norm_eps: f64::from(config.rms_norm_eps),
        rope_theta: config.ropes[0].theta,
        // It counts the positions before a token's own.
        sliding_window: config.sliding_window.map(|window| window - 1),
        use_flash_attn: false,
    };
    let mut model = mistral::Model::new(&candle_config, weights(name)).unwrap();
    let input = Tensor::new(tokens(), &Device::Cpu).unwrap();
    let input = input.unsqueeze(0).unwrap();
    compare(name, &model.forward(&input, 0).unwrap());
}

#[test]
fn qwen3_matches() {
    for name in ["qwen3-f32-tied", "qwen3-bf16-untied-bias-v4"] {
        let config = config(name);
        let candle_config = qwen3::Config {
            vocab_size: config.vocab_size,
            hidden_size: config.hidden_size,
            intermediate_size: config.intermediate_size,
            num_hidden_layers: config.num_layers,
            num_attention_heads: config.num_heads,
            head_dim: config.head_dim,
            attention_bias: config.layers[0].attention.qkv_bias,
            num_key_value_heads: config.num_kv_heads,
            max_position_embeddings: config.max_position_embeddings,
            sliding_window: None,
            max_window_layers: 0,
            tie_word_embeddings: config.tie_word_embeddings,
            rope_theta: config.ropes[0].theta,
            rms_norm_eps: f64::from(config.rms_norm_eps),
            use_sliding_window: false,
            hidden_act: Activation::Silu,
        };
        let mut model = qwen3::ModelForCausalLM::new(&candle_config, weights(name)).unwrap();
        let input = Tensor::new(tokens(), &Device::Cpu).unwrap();
        let input = input.unsqueeze(0).unwrap();
        compare(name, &model.forward(&input, 0).unwrap());
    }
}
