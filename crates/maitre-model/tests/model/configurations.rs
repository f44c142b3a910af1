//! `config.json` in both today's forms; every setting that is not implemented is refused by name.

use maitre_model::{GenerationDefaults, ModelConfig, ModelError, ModelSource, RopeScaling};
use maitre_tensor::{DType, KvFormat, WeightFormat};
use serde_json::{Value, json};

fn llama() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama",
        "hidden_size": 64, "intermediate_size": 172, "num_hidden_layers": 5,
        "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 512,
        "max_position_embeddings": 512, "rms_norm_eps": 1e-5
    })
}

fn qwen3() -> Value {
    let mut config = llama();
    config["architectures"] = json!(["Qwen3ForCausalLM"]);
    config["model_type"] = json!("qwen3");
    config["head_dim"] = json!(24);
    config
}

fn mistral() -> Value {
    let mut config = llama();
    config["architectures"] = json!(["MistralForCausalLM"]);
    config["model_type"] = json!("mistral");
    config
}

fn patched(mut config: Value, patch: Value) -> Value {
    for (key, value) in patch.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

fn parse(config: &Value) -> Result<ModelConfig, ModelError> {
    ModelConfig::from_json(config.to_string().as_bytes())
}

/// The error of `config` with `patch`, which must hold each of `parts`.
fn check_refused(config: Value, patch: Value, parts: &[&str]) {
    let config = patched(config, patch.clone());
    match parse(&config) {
        Ok(_) => panic!("{patch} was accepted"),
        Err(error) => {
            let message = error.to_string();
            for part in parts {
                assert!(
                    message.contains(part),
                    "{patch}: {message:?} lacks {part:?}"
                );
            }
        }
    }
}

#[test]
fn settings_that_change_the_mathematics_are_refused_by_name() {
    let table = [
        (
            json!({"quantization_config": {"quant_method": "gptq"}}),
            ["quantization_config", "gptq"],
        ),
        (json!({"sliding_window": 4096}), ["sliding_window", "4096"]),
        (
            json!({"use_sliding_window": true}),
            ["use_sliding_window", "true"],
        ),
        (
            json!({"layer_types": ["full_attention", "sliding_attention"]}),
            ["layer_types", "sliding_attention"],
        ),
        (json!({"hidden_act": "gelu"}), ["hidden_act", "gelu"]),
        (json!({"pretraining_tp": 2}), ["pretraining_tp", "2"]),
        (
            json!({"attention_multiplier": 0.015}),
            ["attention_multiplier", "0.015"],
        ),
        (
            json!({"residual_multiplier": 0.22}),
            ["residual_multiplier", "0.22"],
        ),
        (
            json!({"embedding_multiplier": 12}),
            ["embedding_multiplier", "12"],
        ),
        (json!({"logits_scaling": 8}), ["logits_scaling", "8"]),
        (
            json!({"final_logit_softcapping": 30.0}),
            ["final_logit_softcapping", "30"],
        ),
        (
            json!({"attn_logit_softcapping": 50.0}),
            ["attn_logit_softcapping", "50"],
        ),
        (
            json!({"query_pre_attn_scalar": 256}),
            ["query_pre_attn_scalar", "256"],
        ),
        (json!({"clip_qkv": 8}), ["clip_qkv", "8"]),
        (
            json!({"no_rope_layers": [1, 0]}),
            ["no_rope_layers", "[1,0]"],
        ),
        (
            json!({"rope_local_base_freq": 10000.0}),
            ["rope_local_base_freq", "10000"],
        ),
        (
            json!({"partial_rotary_factor": 0.5}),
            ["partial_rotary_factor", "0.5"],
        ),
        (json!({"scale_emb": 12}), ["scale_emb", "12"]),
        (json!({"qk_layernorm": true}), ["qk_layernorm", "true"]),
        (json!({"use_qk_norm": true}), ["use_qk_norm", "true"]),
        (json!({"alibi": true}), ["alibi", "true"]),
        (
            json!({"parallel_residual": true}),
            ["parallel_residual", "true"],
        ),
        (json!({"num_experts": 8}), ["num_experts", "8"]),
        (json!({"num_local_experts": 8}), ["num_local_experts", "8"]),
        (
            json!({"rope_scaling": {"type": "linear", "factor": 2.0, "truncate": true}}),
            ["rope_scaling.truncate", "linear"],
        ),
        (
            json!({"rope_scaling": {"rope_type": "ntk", "factor": 2.0}}),
            ["rope_type", "ntk"],
        ),
        (
            json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "finetuned": true}}),
            ["rope_scaling.finetuned", "yarn"],
        ),
        (
            json!({"rope_parameters": {"rope_type": "longrope"}}),
            ["rope_parameters.rope_type", "longrope"],
        ),
        (
            json!({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}),
            ["rope_parameters.partial_rotary_factor", "0.5"],
        ),
        (
            json!({"rope_parameters": {"rope_type": "default", "mrope_section": [1, 2]}}),
            ["mrope_section", "[1,2]"],
        ),
        (
            json!({"rope_parameters": {"full_attention": {"rope_theta": 1e6}}}),
            ["rope_parameters.full_attention", "1000000"],
        ),
    ];
    for (patch, parts) in table {
        check_refused(llama(), patch.clone(), &parts);
        // Qwen3 configurations carry a window that is off, and Mistral has one; all else is refused
        // there too.
        if patch.get("sliding_window").is_none() {
            check_refused(qwen3(), patch.clone(), &parts);
            check_refused(mistral(), patch, &parts);
        }
    }
    check_refused(qwen3(), json!({"mlp_bias": true}), &["mlp_bias", "true"]);
    check_refused(mistral(), json!({"mlp_bias": true}), &["mlp_bias", "true"]);
    check_refused(
        mistral(),
        json!({"attention_bias": true}),
        &["attention_bias", "true"],
    );
    check_refused(
        mistral(),
        json!({"sliding_window": 24, "layer_types": ["full_attention"]}),
        &["layer_types", "full_attention", "absent"],
    );
}

#[test]
fn values_that_describe_no_model_are_refused_by_name() {
    let llama3 = |patch: Value| {
        let rope = json!({
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 128
        });
        json!({"rope_scaling": patched(rope, patch)})
    };
    let huge = 1u64 << 40;
    let table = [
        (json!({"hidden_size": null}), vec!["hidden_size", "lacks"]),
        (json!({"hidden_size": 0}), vec!["hidden_size", "at least 1"]),
        (
            json!({"num_hidden_layers": 0}),
            vec!["num_hidden_layers", "at least 1"],
        ),
        (json!({"vocab_size": -5}), vec!["vocab_size", "-5"]),
        (
            json!({"intermediate_size": "big"}),
            vec!["intermediate_size", "big"],
        ),
        (
            json!({"rms_norm_eps": 0.0}),
            vec!["rms_norm_eps", "above 0"],
        ),
        (json!({"head_dim": 25}), vec!["head_dim", "25", "even"]),
        (
            json!({"num_key_value_heads": 3}),
            vec!["num_key_value_heads", "3", "divisor"],
        ),
        (
            json!({"num_attention_heads": 12, "num_key_value_heads": 12}),
            vec!["num_attention_heads", "12"],
        ),
        (json!({"vocab_size": huge}), vec!["vocab_size overflows"]),
        (
            json!({"max_position_embeddings": huge}),
            vec!["max_position_embeddings overflows"],
        ),
        (
            json!({"hidden_size": huge, "intermediate_size": huge}),
            vec!["number of parameters overflows"],
        ),
        (
            json!({"num_hidden_layers": u64::MAX}),
            vec!["number of parameters overflows"],
        ),
        (json!({"head_dim": u64::MAX - 1}), vec!["overflows"]),
        (
            json!({"tie_word_embeddings": "yes"}),
            vec!["tie_word_embeddings", "true or false"],
        ),
        (
            json!({"architectures": "LlamaForCausalLM"}),
            vec!["architectures", "list"],
        ),
        (
            json!({"architectures": ["MixtralForCausalLM"]}),
            vec!["unknown", "Mixtral", "MistralForCausalLM"],
        ),
        (json!({"model_type": "mpt"}), vec!["unknown", "mpt"]),
        (
            json!({"model_type": "qwen3"}),
            vec!["model_type", "qwen3", "llama"],
        ),
        (
            json!({"architectures": null, "model_type": null}),
            vec!["architectures"],
        ),
        (json!({"rope_theta": -1.0}), vec!["rope_theta", "-1"]),
        (
            json!({"rope_theta": 5.0, "rope_parameters": {"rope_theta": 6.0}}),
            vec!["rope_theta", "5", "6"],
        ),
        (
            json!({"rope_scaling": {"type": "default"}, "rope_parameters": {"rope_theta": 6.0}}),
            vec!["only one"],
        ),
        (
            json!({"rope_scaling": "linear"}),
            vec!["rope_scaling", "object"],
        ),
        (llama3(json!({"factor": null})), vec!["factor", "llama3"]),
        (
            llama3(json!({"low_freq_factor": 4.0})),
            vec!["high_freq_factor", "low_freq_factor"],
        ),
        (
            llama3(json!({"original_max_position_embeddings": null})),
            vec!["rope_scaling.original_max_position_embeddings"],
        ),
    ];
    for (patch, parts) in table {
        check_refused(llama(), patch, &parts);
    }
    for window in [json!(0), json!(-1), json!("wide"), json!(1.5)] {
        check_refused(
            mistral(),
            json!({"sliding_window": window}),
            &["sliding_window", "at least 1"],
        );
    }
    assert!(matches!(
        ModelConfig::from_json(b"{"),
        Err(ModelError::Json { .. })
    ));
    assert!(matches!(
        ModelConfig::from_json(b"[]"),
        Err(ModelError::NotAnObject { .. })
    ));
}

#[test]
fn neutral_and_unrelated_settings_change_nothing() {
    let plain = parse(&qwen3()).unwrap();
    let noise = json!({
        "sliding_window": 4096, "use_sliding_window": false, "max_window_layers": 28,
        "layer_types": ["full_attention"], "pretraining_tp": 1, "attention_dropout": 0.1,
        "quantization_config": null, "hidden_act": "silu", "partial_rotary_factor": 1.0,
        "initializer_range": 0.02, "use_cache": true, "mlp_bias": false, "num_experts": 0,
        "pruned_heads": {}, "rope_scaling": null, "bos_token_id": 1
    });
    assert_eq!(parse(&patched(qwen3(), noise)).unwrap(), plain);
}

#[test]
fn both_forms_of_rope_read_the_same() {
    let llama3 = json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 128
    });
    let v4 = json!({"rope_theta": 5e5, "rope_scaling": llama3});
    let v5 = json!({"rope_parameters": patched(llama3, json!({"rope_theta": 5e5}))});
    let v4 = parse(&patched(llama(), v4)).unwrap();
    assert_eq!(v4, parse(&patched(llama(), v5)).unwrap());
    assert_eq!(v4.ropes[0].theta, 5e5);
    assert!(matches!(v4.ropes[0].scaling, RopeScaling::Llama3(_)));

    let v4 = parse(&patched(llama(), json!({"rope_theta": 1e6}))).unwrap();
    let v5 = json!({"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}});
    assert_eq!(v4, parse(&patched(llama(), v5)).unwrap());
    assert_eq!(parse(&llama()).unwrap().ropes[0].theta, 10_000.0);
}

#[test]
fn absent_settings_default_as_each_family_does() {
    let mut config = llama();
    config["num_key_value_heads"] = Value::Null;
    let read = parse(&config).unwrap();
    assert_eq!(read.architecture.class_name(), "LlamaForCausalLM");
    assert_eq!(read.head_dim, 8);
    assert_eq!(read.num_kv_heads, 8);
    assert!(!read.tie_word_embeddings);
    let mut config = qwen3();
    config["head_dim"] = Value::Null;
    assert_eq!(parse(&config).unwrap().head_dim, 128);
    let read = parse(&mistral()).unwrap();
    assert_eq!(read.architecture.class_name(), "MistralForCausalLM");
    assert_eq!(read.head_dim, 8);
    for (window, expected) in [(json!(4096), Some(4096)), (Value::Null, None)] {
        let config = patched(mistral(), json!({"sliding_window": window}));
        assert_eq!(parse(&config).unwrap().sliding_window, expected);
    }
    let silent = {
        let mut config = mistral();
        config.as_object_mut().unwrap().remove("sliding_window");
        config
    };
    assert_eq!(parse(&silent).unwrap().sliding_window, Some(4096));
    for (key, name, dtype) in [
        ("dtype", "bfloat16", Some(DType::Bf16)),
        ("torch_dtype", "float16", Some(DType::F16)),
        ("torch_dtype", "float32", Some(DType::F32)),
        ("dtype", "float64", None),
    ] {
        assert_eq!(
            parse(&patched(llama(), json!({key: name}))).unwrap().dtype,
            dtype
        );
    }
}

#[test]
fn sizes_are_those_of_a_published_model() {
    // Qwen3-0.6B: 0.6 B parameters, 0.44 B of them outside the embedding (its model card).
    let config = patched(
        qwen3(),
        json!({
            "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
            "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
            "vocab_size": 151_936, "tie_word_embeddings": true
        }),
    );
    let config = parse(&config).unwrap();
    assert_eq!(config.num_parameters(), 596_049_920);
    assert_eq!(config.kv_bytes_per_token(KvFormat::Bf16), 114_688);
    // A byte per number, and two scales per head.
    assert_eq!(
        config.kv_bytes_per_token(KvFormat::Int8),
        57_344 + 28 * 8 * 2 * 4
    );
    let norms = 28 * (2 * 1024 + 2 * 128) + 1024;
    assert_eq!(
        config.weight_bytes(WeightFormat::Bf16),
        2 * 596_049_920 + 2 * norms
    );
}

#[test]
fn end_of_sequence_is_one_id_or_a_list_and_falls_back() {
    let load = |config: Value, generation: Option<&str>| {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("config.json"), config.to_string()).unwrap();
        if let Some(json) = generation {
            std::fs::write(directory.path().join("generation_config.json"), json).unwrap();
        }
        GenerationDefaults::load(&ModelSource::Directory(directory.path().to_owned()))
    };
    let config = || patched(llama(), json!({"eos_token_id": 7}));
    let ids = |generation| load(config(), generation).unwrap().eos_token_ids;
    assert_eq!(ids(None), [7]);
    assert_eq!(ids(Some(r#"{"eos_token_id": null}"#)), [7]);
    assert_eq!(ids(Some(r#"{"eos_token_id": 2}"#)), [2]);
    assert_eq!(ids(Some(r#"{"eos_token_id": [2, 0]}"#)), [2, 0]);
    assert!(load(llama(), None).unwrap().eos_token_ids.is_empty());

    let json = r#"{"do_sample": true, "temperature": 0.7, "top_p": 0.9, "top_k": 20, "min_p": 0}"#;
    let defaults = load(config(), Some(json)).unwrap();
    assert_eq!(defaults.temperature, Some(0.7));
    assert_eq!((defaults.top_p, defaults.top_k), (Some(0.9), Some(20)));
    assert_eq!(
        (defaults.min_p, defaults.do_sample),
        (Some(0.0), Some(true))
    );
    assert_eq!(defaults.repetition_penalty, None);

    for (json, part) in [
        (r#"{"eos_token_id": "</s>"}"#, "eos_token_id"),
        (r#"{"eos_token_id": [-1]}"#, "eos_token_id"),
        (r#"{"temperature": "hot"}"#, "temperature"),
        ("{", "generation_config.json"),
    ] {
        let message = load(config(), Some(json)).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
}
