//! What each family reads of its configuration.

use maitre_model::spec::{EmbeddingScale, HeadNorm, Multipliers};
use maitre_model::{ModelConfig, ModelError, Reads, RopePairs, RopeScaling};
use serde_json::{Value, json};

/// A configuration with six layers and sizes that suit every family.
pub(crate) fn family(class: &str, kind: &str, more: Value) -> Value {
    let config = json!({
        "architectures": [class], "model_type": kind, "hidden_size": 64, "intermediate_size": 96,
        "num_hidden_layers": 6, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 512,
        "max_position_embeddings": 4096
    });
    patched(config, more)
}

pub(crate) fn qwen2(more: Value) -> Value {
    family("Qwen2ForCausalLM", "qwen2", more)
}

pub(crate) fn gemma3(more: Value) -> Value {
    family("Gemma3ForCausalLM", "gemma3_text", more)
}

pub(crate) fn phi3(more: Value) -> Value {
    family("Phi3ForCausalLM", "phi3", more)
}

pub(crate) fn olmo3(more: Value) -> Value {
    family("Olmo3ForCausalLM", "olmo3", more)
}

pub(crate) fn granite(more: Value) -> Value {
    family("GraniteForCausalLM", "granite", more)
}

pub(crate) fn olmo2(more: Value) -> Value {
    family("Olmo2ForCausalLM", "olmo2", more)
}

pub(crate) fn gemma1(more: Value) -> Value {
    family("GemmaForCausalLM", "gemma", more)
}

pub(crate) fn seed_oss(more: Value) -> Value {
    family("SeedOssForCausalLM", "seed_oss", more)
}

pub(crate) fn ministral(more: Value) -> Value {
    family("MinistralForCausalLM", "ministral", more)
}

pub(crate) fn glm(more: Value) -> Value {
    family("GlmForCausalLM", "glm", more)
}

pub(crate) fn glm4(more: Value) -> Value {
    family("Glm4ForCausalLM", "glm4", more)
}

pub(crate) fn smollm3(more: Value) -> Value {
    family("SmolLM3ForCausalLM", "smollm3", more)
}

pub(crate) fn exaone4(more: Value) -> Value {
    family("Exaone4ForCausalLM", "exaone4", more)
}

pub(crate) fn hunyuan(more: Value) -> Value {
    family("HunYuanDenseV1ForCausalLM", "hunyuan_v1_dense", more)
}

pub(crate) fn ministral3(more: Value) -> Value {
    let rope = json!({
        "rope_type": "yarn", "type": "yarn", "factor": 16.0, "original_max_position_embeddings": 256,
        "max_position_embeddings": 4096, "llama_4_scaling_beta": 0.1
    });
    let config = family(
        "Ministral3ForCausalLM",
        "ministral3",
        json!({"rope_parameters": rope}),
    );
    patched(config, more)
}

pub(crate) fn gemma2(more: Value) -> Value {
    family("Gemma2ForCausalLM", "gemma2", more)
}

pub(crate) fn cohere2(more: Value) -> Value {
    family("Cohere2ForCausalLM", "cohere2", more)
}

pub(crate) fn starcoder2(more: Value) -> Value {
    family("Starcoder2ForCausalLM", "starcoder2", more)
}

pub(crate) fn gpt2(more: Value) -> Value {
    let config = json!({
        "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_embd": 64, "n_layer": 6, "n_head": 4,
        "n_positions": 256, "n_ctx": 256, "vocab_size": 512, "n_inner": null
    });
    patched(config, more)
}

/// Ministral 3 beside images.
pub(crate) fn mistral3(text: Value, more: Value) -> Value {
    let mut text = ministral3(text);
    text.as_object_mut().unwrap().remove("architectures");
    let config = json!({
        "architectures": ["Mistral3ForConditionalGeneration"], "model_type": "mistral3", "text_config": text
    });
    patched(config, more)
}

pub(crate) fn patched(mut config: Value, patch: Value) -> Value {
    for (key, value) in patch.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

pub(crate) fn parse(config: &Value) -> Result<ModelConfig, ModelError> {
    ModelConfig::from_json(config.to_string().as_bytes())
}

fn reads(config: &Value) -> Vec<Option<usize>> {
    let config = parse(config).unwrap();
    let layers = config.layers.iter();
    layers.map(|layer| layer.attention.reads.window()).collect()
}

const W: Option<usize> = Some(4096);

#[test]
fn layers_read_as_far_back_as_each_family_says() {
    let types = |kinds: &[&str]| json!({"layer_types": kinds});
    let (full, window) = ("full_attention", "sliding_attention");
    let six = [window, full, window, window, full, full];
    let on = json!({"use_sliding_window": true, "sliding_window": 128});
    for (config, expected) in [
        (qwen2(json!({})), [None; 6]),
        // A window that is not in use.
        (
            qwen2(json!({"sliding_window": 128, "max_window_layers": 2})),
            [None; 6],
        ),
        // By default it begins at layer 28.
        (qwen2(on.clone()), [None; 6]),
        (
            qwen2(patched(on.clone(), json!({"max_window_layers": 4}))),
            [None, None, None, None, Some(128), Some(128)],
        ),
        (
            qwen2(patched(on.clone(), json!({"max_window_layers": 0}))),
            [Some(128); 6],
        ),
        (
            qwen2(patched(on, types(&six))),
            [Some(128), None, Some(128), Some(128), None, None],
        ),
        (gemma3(json!({})), [W, W, W, W, W, None]),
        (
            gemma3(json!({"sliding_window_pattern": 2, "sliding_window": 8})),
            [Some(8), None, Some(8), None, Some(8), None],
        ),
        (gemma3(types(&six)), [W, None, W, W, None, None]),
        (olmo3(json!({})), [W, W, W, None, W, W]),
        (olmo3(types(&six)), [W, None, W, W, None, None]),
        (gemma2(json!({})), [W, None, W, None, W, None]),
        (gemma2(types(&six)), [W, None, W, W, None, None]),
        (cohere2(json!({})), [W, W, W, None, W, W]),
        (
            cohere2(json!({"sliding_window_pattern": 2, "sliding_window": 8})),
            [Some(8), None, Some(8), None, Some(8), None],
        ),
        (cohere2(types(&six)), [W, None, W, W, None, None]),
        (starcoder2(json!({})), [None; 6]),
        (starcoder2(json!({"sliding_window": 4096})), [W; 6]),
        (gpt2(json!({})), [None; 6]),
        (ministral(json!({})), [W; 6]),
        (ministral(json!({"sliding_window": null})), [None; 6]),
        (ministral(types(&six)), [W, None, W, W, None, None]),
        // A window that is not in use.
        (smollm3(json!({"sliding_window": 128})), [None; 6]),
        (
            smollm3(json!({"sliding_window": 128, "use_sliding_window": true})),
            [None, None, None, Some(128), None, None],
        ),
        (exaone4(json!({})), [W, W, W, None, W, W]),
        (
            exaone4(patched(
                types(&six),
                json!({"sliding_window_pattern": "LLLG"}),
            )),
            [W, None, W, W, None, None],
        ),
        (
            exaone4(json!({"sliding_window": null, "sliding_window_pattern": 0})),
            [None; 6],
        ),
        (phi3(json!({})), [None; 6]),
        (phi3(json!({"sliding_window": 2047})), [Some(2047); 6]),
    ] {
        assert_eq!(reads(&config), expected, "{config}");
    }
    // A window that all layers have is the model's.
    let common = |config: &Value| parse(config).unwrap().sliding_window;
    assert_eq!(common(&phi3(json!({"sliding_window": 2047}))), Some(2047));
    assert_eq!(common(&gemma3(json!({}))), None);
    let layout = parse(&gemma3(json!({}))).unwrap().kv_layout();
    assert_eq!((layout.places, layout.groups.len()), (1, 6));
    assert_eq!(layout.groups[5].reads, Reads::Full);
}

#[test]
fn layers_turn_their_heads_or_not_as_each_family_says() {
    let turns = |config: Value| -> Vec<bool> {
        let config = parse(&config).unwrap();
        let layers = config.layers.iter();
        layers.map(|layer| layer.attention.rope.is_some()).collect()
    };
    let fourth = [true, true, true, false, true, true];
    assert_eq!(turns(smollm3(json!({}))), fourth);
    assert_eq!(
        turns(smollm3(json!({"no_rope_layer_interval": 2}))),
        [true, false, true, false, true, false]
    );
    let list = json!({"no_rope_layers": [0, 1, 1, 0, 0, 1], "no_rope_layer_interval": 2});
    assert_eq!(
        turns(smollm3(list)),
        [false, true, true, false, false, true]
    );
    assert_eq!(turns(exaone4(json!({}))), fourth);
    assert_eq!(turns(exaone4(json!({"sliding_window": null}))), [true; 6]);
    assert_eq!(turns(hunyuan(json!({}))), [true; 6]);
    assert_eq!(turns(cohere2(json!({}))), fourth);
    assert_eq!(turns(starcoder2(json!({}))), [true; 6]);
    assert_eq!(turns(gpt2(json!({}))), [false; 6]);
}

#[test]
fn alpha_makes_the_base_larger() {
    let theta = |alpha: f64| {
        let scaling = json!({"type": "dynamic", "alpha": alpha, "factor": 1.0, "mscale": 1.0});
        let config = hunyuan(json!({"rope_theta": 1e4, "rope_scaling": scaling}));
        parse(&config).unwrap().ropes[0].theta
    };
    assert_eq!(theta(1.0), 1e4);
    // Heads of 16 numbers.
    assert_eq!(theta(1000.0), 1e4 * 1000_f64.powf(16.0 / 14.0));
}

#[test]
fn both_forms_of_each_familys_rope_read_the_same() {
    let yarn = json!({"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 512});
    let v4 = olmo3(json!({"rope_theta": 5e5, "rope_scaling": yarn}));
    let v5 = olmo3(json!({"rope_parameters": {
        "full_attention": patched(yarn, json!({"rope_theta": 5e5})),
        "sliding_attention": {"rope_type": "default", "rope_theta": 5e5}
    }}));
    let read = parse(&v4).unwrap();
    assert_eq!(read, parse(&v5).unwrap());
    assert!(matches!(read.ropes[0].scaling, RopeScaling::Yarn(_)));
    assert_eq!(read.ropes[1].scaling, RopeScaling::Default);

    let v4 = gemma3(json!({
        "rope_theta": 1e6, "rope_local_base_freq": 1e4,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0}
    }));
    let v5 = gemma3(json!({"rope_parameters": {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}
    }}));
    let read = parse(&v4).unwrap();
    assert_eq!(read, parse(&v5).unwrap());
    assert_eq!(read.ropes[0].scaling, RopeScaling::Linear(8.0));
    assert_eq!(
        read.ropes,
        parse(&gemma3(
            json!({"rope_scaling": {"type": "linear", "factor": 8.0}})
        ))
        .unwrap()
        .ropes
    );

    let factors = json!({"short_factor": vec![1.0; 6], "long_factor": vec![2.0; 6]});
    let v4 = phi3(json!({
        "partial_rotary_factor": 0.75, "original_max_position_embeddings": 512, "rope_theta": 5e5,
        "rope_scaling": patched(factors.clone(), json!({"type": "su"}))
    }));
    let v5 = phi3(json!({
        "original_max_position_embeddings": 512,
        "rope_parameters": patched(factors, json!({
            "rope_type": "longrope", "rope_theta": 5e5, "partial_rotary_factor": 0.75
        }))
    }));
    let read = parse(&v4).unwrap();
    assert_eq!(read, parse(&v5).unwrap());
    assert_eq!(read.ropes[0].dims, 12);
}

#[test]
fn a_dynamic_base_stretches_the_context() {
    let llama = |rope: Value| {
        let config = family("LlamaForCausalLM", "llama", json!({"rope_scaling": rope}));
        parse(&config)
    };
    let read = llama(json!({"type": "dynamic", "factor": 2.5})).unwrap();
    assert_eq!(read.max_position_embeddings, 10_240);
    let RopeScaling::Dynamic(dynamic) = read.ropes[0].scaling else {
        panic!("{:?}", read.ropes[0]);
    };
    assert_eq!(dynamic.original_max_position_embeddings, 4096);
    for (rope, parts) in [
        (json!({}), ["rope_scaling.factor", "dynamic"]),
        (
            json!({"factor": 0.5}),
            ["rope_scaling.factor", "at least 1"],
        ),
        (json!({"factor": 1e30}), ["rope_scaling.factor", "raised"]),
        (
            json!({"factor": 2.0, "alpha": 8.0}),
            ["rope_scaling.alpha", "dynamic"],
        ),
        (
            json!({"factor": 2.0, "original_max_position_embeddings": 512}),
            ["rope_scaling.original_max_position_embeddings", "4096"],
        ),
    ] {
        let message = llama(patched(json!({"rope_type": "dynamic"}), rope)).unwrap_err();
        let message = message.to_string();
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }
}

#[test]
fn yarn_stretches_the_context() {
    let yarn = json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096});
    let config = qwen2(json!({"rope_scaling": yarn}));
    assert_eq!(parse(&config).unwrap().max_position_embeddings, 16_384);
    let stated = patched(config, json!({"max_position_embeddings": 20_000}));
    assert_eq!(parse(&stated).unwrap().max_position_embeddings, 20_000);
}

#[test]
fn absent_settings_default_as_each_family_does() {
    let gemma = parse(&gemma3(json!({}))).unwrap();
    assert!(gemma.tie_word_embeddings);
    assert_eq!(gemma.multipliers.embedding, EmbeddingScale::RootOfWidth);
    assert_eq!((gemma.head_dim, gemma.rms_norm_eps), (256, 1e-6));
    assert_eq!((gemma.ropes[0].theta, gemma.ropes[1].theta), (1e6, 1e4));
    assert_eq!(gemma.layers[0].attention.scale, 1.0 / 16.0);
    let second = parse(&gemma2(json!({}))).unwrap();
    assert!(second.tie_word_embeddings);
    assert_eq!((second.head_dim, second.norm_offset), (256, 1.0));
    let attention = second.layers[1].attention;
    assert_eq!(
        (attention.scale, attention.head_norm),
        (1.0 / 16.0, HeadNorm::Absent)
    );
    assert_eq!(
        (attention.score_bound, second.logit_bound),
        (Some(50.0), Some(30.0))
    );
    let own = json!({"attn_logit_softcapping": null, "final_logit_softcapping": 12.5});
    let second = parse(&gemma2(own)).unwrap();
    assert_eq!(second.layers[0].attention.score_bound, None);
    assert_eq!(second.logit_bound, Some(12.5));
    let plain = parse(&granite(json!({}))).unwrap();
    assert_eq!(plain.multipliers, Multipliers::ONE);
    assert_eq!(plain.layers[0].attention.scale, 1.0);
    let olmo = parse(&olmo2(json!({}))).unwrap();
    assert_eq!((olmo.head_dim, olmo.rms_norm_eps), (16, 1e-5));
    let first = parse(&gemma1(json!({"hidden_act": "gelu"}))).unwrap();
    assert!(first.tie_word_embeddings);
    assert_eq!((first.head_dim, first.norm_offset), (256, 1.0));
    let seed = parse(&seed_oss(json!({}))).unwrap();
    let attention = seed.layers[0].attention;
    assert_eq!((attention.qkv_bias, attention.output_bias), (true, false));
    assert_eq!(seed.head_dim, 128);
    let later = parse(&glm4(json!({}))).unwrap();
    assert_eq!((later.head_dim, later.ropes[0].dims), (128, 64));
    assert_eq!(later.ropes[0].pairs, RopePairs::Neighbours);
    assert!((later.rms_norm_eps - 1.5625e-7).abs() < 1e-12);
    let attention = later.layers[0].attention;
    assert_eq!((attention.qkv_bias, attention.output_bias), (true, false));
    assert_eq!(parse(&glm(json!({}))).unwrap().ropes, later.ropes);
    let smol = parse(&smollm3(json!({"pretraining_tp": 2}))).unwrap();
    assert!(smol.tie_word_embeddings);
    assert_eq!((smol.ropes[0].theta, smol.rms_norm_eps), (2e6, 1e-6));
    assert_eq!(parse(&exaone4(json!({}))).unwrap().rms_norm_eps, 1e-5);
    let norm = parse(&hunyuan(json!({"num_experts": 1}))).unwrap().layers[0]
        .attention
        .head_norm;
    assert_eq!(norm, HeadNorm::PerHeadTurned);
    let olmo = parse(&olmo3(json!({}))).unwrap();
    assert_eq!((olmo.head_dim, olmo.rms_norm_eps), (16, 1e-5));
    assert_eq!(olmo.ropes[0].theta, 5e5);
    let qwen = parse(&qwen2(json!({}))).unwrap();
    let attention = qwen.layers[0].attention;
    assert_eq!((attention.qkv_bias, attention.output_bias), (true, false));
    assert!(!qwen.tie_word_embeddings);
    assert_eq!(parse(&phi3(json!({}))).unwrap().rms_norm_eps, 1e-5);
}

#[test]
fn every_setting_of_rope_counts() {
    let rope = |config: Value, which: usize| parse(&config).unwrap().ropes[which].clone();
    let yarn = |more: Value| {
        let scaling = patched(json!({"rope_type": "yarn", "factor": 4.0}), more);
        match rope(qwen2(json!({"rope_parameters": scaling})), 0).scaling {
            RopeScaling::Yarn(yarn) => yarn,
            other => panic!("{other:?}"),
        }
    };
    assert!(yarn(json!({})).truncate && !yarn(json!({"truncate": false})).truncate);
    // Both halves alike cancel; one of them alone is as if there were none.
    let factor = |more: Value| yarn(more).attention_factor;
    assert_eq!(factor(json!({"mscale": 1.0, "mscale_all_dim": 1.0})), 1.0);
    assert_eq!(factor(json!({"mscale": 0.7})), factor(json!({})));
    let unlike = factor(json!({"mscale": 2.0, "mscale_all_dim": 1.0}));
    assert!((unlike - (1.0 + 0.2 * 4_f64.ln()) / (1.0 + 0.1 * 4_f64.ln())).abs() < 1e-12);

    let long = |more: Value| {
        let scaling = patched(
            json!({"type": "longrope", "short_factor": vec![1.0; 8], "long_factor": vec![2.0; 8]}),
            more,
        );
        let config = json!({"original_max_position_embeddings": 512, "rope_scaling": scaling});
        match rope(phi3(config), 0).scaling {
            RopeScaling::LongRope(long) => long.attention_factor,
            other => panic!("{other:?}"),
        }
    };
    // The context is 4,096 tokens, 8 times the original one.
    assert_eq!(long(json!({})), long(json!({"factor": 8.0})));
    assert!(long(json!({"factor": 32.0})) > long(json!({})));

    let local = json!({
        "rope_local_base_freq": 5.0, "rope_parameters": {"full_attention": {"rope_theta": 7.0}},
    });
    assert_eq!(rope(gemma3(local.clone()), 0).theta, 7.0);
    assert_eq!(rope(gemma3(local), 1).theta, 5.0);
}
