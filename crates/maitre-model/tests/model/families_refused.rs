//! What each family refuses of its configuration, by name.

use crate::families::{
    cohere2, exaone4, gemma1, gemma2, gemma3, glm, glm4, gpt2, granite, hunyuan, ministral,
    ministral3, mistral3, olmo2, olmo3, parse, patched, phi3, qwen2, seed_oss, smollm3, starcoder2,
};
use serde_json::{Value, json};

#[test]
fn what_a_family_does_not_compute_is_refused_by_name() {
    let long = |more: Value| {
        let rope =
            json!({"type": "longrope", "short_factor": vec![1.0; 8], "long_factor": vec![2.0; 8]});
        json!({"original_max_position_embeddings": 512, "rope_scaling": patched(rope, more)})
    };
    for (config, parts) in [
        (
            qwen2(json!({"use_sliding_window": true, "layer_types": ["full_attention"]})),
            ["layer_types", "list of 1"],
        ),
        (
            qwen2(json!({"layer_types": vec!["sliding_attention"; 6]})),
            ["layer_types", "sliding_attention"],
        ),
        (
            qwen2(json!({"use_sliding_window": true, "max_window_layers": -1})),
            ["max_window_layers", "-1"],
        ),
        (qwen2(json!({"hidden_act": "gelu"})), ["hidden_act", "gelu"]),
        (
            gemma3(json!({"final_logit_softcapping": 30.0})),
            ["final_logit_softcapping", "30"],
        ),
        (
            gemma3(json!({"attn_logit_softcapping": 50.0})),
            ["attn_logit_softcapping", "50"],
        ),
        (
            gemma3(json!({"use_bidirectional_attention": true})),
            ["use_bidirectional_attention", "true"],
        ),
        (
            gemma3(json!({"hidden_activation": "silu"})),
            ["hidden_activation", "gelu_pytorch_tanh"],
        ),
        (
            gemma3(json!({"layer_types": vec!["chunked_attention"; 6]})),
            ["layer_types", "chunked_attention"],
        ),
        (
            gemma3(json!({"sliding_window": null})),
            ["sliding_window", "lacks"],
        ),
        (
            gemma3(json!({"query_pre_attn_scalar": 0})),
            ["query_pre_attn_scalar", "above 0"],
        ),
        // In single precision these are 0, infinite, and 0.
        (
            gemma3(json!({"query_pre_attn_scalar": 1e-100})),
            ["query_pre_attn_scalar", "above 0"],
        ),
        (
            qwen2(json!({"rms_norm_eps": 1e60})),
            ["rms_norm_eps", "above 0"],
        ),
        (
            phi3(long(json!({"short_factor": vec![1e-300; 8]}))),
            ["short_factor", "above 0"],
        ),
        (
            phi3(patched(
                long(json!({})),
                json!({"original_max_position_embeddings": 1}),
            )),
            ["original_max_position_embeddings", "more than 1"],
        ),
        (
            gemma3(json!({
                "rope_parameters": {"full_attention": {"rope_theta": 1e6}},
                "rope_scaling": {"rope_type": "linear", "factor": 8.0},
            })),
            ["rope_scaling", "only one of the two"],
        ),
        (
            gemma3(json!({
                "rope_parameters": {"full_attention": {"rope_theta": 6.0}}, "rope_theta": 5.0,
            })),
            ["rope_theta", "6"],
        ),
        (
            gemma3(json!({
                "rope_parameters": {"sliding_attention": {"rope_theta": 6.0}},
                "rope_local_base_freq": 5.0,
            })),
            ["rope_local_base_freq", "6"],
        ),
        (
            gemma3(json!({"rope_parameters": {"full_attention": {"rope_type": "dynamic"}}})),
            ["rope_parameters.full_attention.rope_type", "dynamic"],
        ),
        (
            gemma3(json!({"rope_parameters": {"full_attention": {}, "chunked_attention": {}}})),
            ["rope_parameters.chunked_attention", "full_attention"],
        ),
        (
            olmo3(json!({"rope_local_base_freq": 10_000.0})),
            ["rope_local_base_freq", "10000"],
        ),
        (
            olmo3(json!({"rope_scaling": {"rope_type": "longrope"}})),
            ["rope_scaling.rope_type", "longrope"],
        ),
        (
            olmo3(json!({"rope_scaling": {"rope_type": "yarn"}})),
            ["rope_scaling.factor", "yarn"],
        ),
        (
            phi3(json!({"attention_bias": true})),
            ["attention_bias", "true"],
        ),
        (
            phi3(json!({"partial_rotary_factor": 0.45})),
            ["partial_rotary_factor", "0.45"],
        ),
        (
            phi3(json!({"partial_rotary_factor": 1.5})),
            ["partial_rotary_factor", "1.5"],
        ),
        (
            phi3(long(json!({"short_factor": vec![1.0; 7]}))),
            ["rope_scaling.short_factor", "8 numbers"],
        ),
        (
            phi3(long(json!({"long_factor": null}))),
            ["rope_scaling.long_factor", "lacks"],
        ),
        (
            phi3(long(json!({"long_factor": vec![0.0; 8]}))),
            ["rope_scaling.long_factor", "above 0"],
        ),
        (
            phi3(long(json!({"short_mscale": 1.1}))),
            ["rope_scaling.short_mscale", "longrope"],
        ),
        (
            granite(json!({"sliding_window": 128})),
            ["sliding_window", "128"],
        ),
        (
            granite(json!({"residual_multiplier": 0})),
            ["residual_multiplier", "above 0"],
        ),
        // Its square is 0 in single precision, and what norms add would be infinite.
        (
            granite(json!({"residual_multiplier": 1e-30})),
            ["residual_multiplier", "rms_norm_eps"],
        ),
        (
            granite(json!({"logits_scaling": -8.0})),
            ["logits_scaling", "above 0"],
        ),
        (
            olmo3(json!({"embedding_multiplier": 12.0})),
            ["embedding_multiplier", "12"],
        ),
        (olmo2(json!({"mlp_bias": true})), ["mlp_bias", "true"]),
        (
            olmo2(json!({"layer_types": vec!["sliding_attention"; 6]})),
            ["layer_types", "sliding_attention"],
        ),
        (
            gemma1(json!({"hidden_activation": "gelu"})),
            ["hidden_activation", "gelu_pytorch_tanh"],
        ),
        (
            gemma1(json!({"hidden_act": "relu"})),
            ["hidden_act", "relu"],
        ),
        (
            gemma1(json!({"sliding_window": 128})),
            ["sliding_window", "128"],
        ),
        (
            seed_oss(json!({"attention_bias": "yes"})),
            ["attention_bias", "true or false"],
        ),
        (
            qwen2(json!({"attention_out_bias": true})),
            ["attention_out_bias", "true"],
        ),
        (
            ministral(json!({"attention_bias": true})),
            ["attention_bias", "true"],
        ),
        (
            ministral(patched(
                json!({"sliding_window": null}),
                json!({"layer_types": vec!["sliding_attention"; 6]}),
            )),
            ["sliding_window", "lacks"],
        ),
        (
            glm(json!({"partial_rotary_factor": 0.45})),
            ["partial_rotary_factor", "0.45"],
        ),
        (glm4(json!({"mlp_bias": true})), ["mlp_bias", "true"]),
        (
            glm4(json!({"sliding_window": 128})),
            ["sliding_window", "128"],
        ),
        (
            smollm3(json!({"no_rope_layers": [1, 0]})),
            ["no_rope_layers", "0 or 1 for each layer, 6"],
        ),
        (
            smollm3(json!({"no_rope_layers": [1, 1, 1, 2, 1, 1]})),
            ["no_rope_layers", "0 or 1"],
        ),
        (
            smollm3(json!({"layer_types": vec!["sliding_attention"; 6]})),
            ["layer_types", "sliding_attention"],
        ),
        (
            qwen2(json!({"no_rope_layer_interval": 4})),
            ["no_rope_layer_interval", "4"],
        ),
        (
            exaone4(json!({"sliding_window_pattern": "LLLG"})),
            ["sliding_window_pattern", "LLLG"],
        ),
        (
            exaone4(json!({"attention_bias": true})),
            ["attention_bias", "true"],
        ),
        (hunyuan(json!({"num_experts": 2})), ["num_experts", "2"]),
        (
            hunyuan(json!({"use_qk_norm": false})),
            ["use_qk_norm", "false"],
        ),
        (
            hunyuan(json!({"rope_scaling": {"type": "dynamic", "factor": 2.0}})),
            ["rope_scaling.alpha", "lacks"],
        ),
        (
            hunyuan(json!({"rope_scaling": {"type": "dynamic", "alpha": 1e37}})),
            ["rope_scaling.alpha", "raised"],
        ),
        (
            hunyuan(json!({"rope_scaling": {"type": "yarn", "factor": 4.0}})),
            ["attention_factor", "norms of turned heads"],
        ),
        (
            qwen2(json!({"rope_scaling": {"type": "dynamic", "alpha": 1000.0}})),
            ["rope_scaling.rope_type", "dynamic"],
        ),
        (
            gemma2(json!({"attn_logit_softcapping": 0.0})),
            ["attn_logit_softcapping", "above 0"],
        ),
        (
            gemma2(json!({"final_logit_softcapping": -30.0})),
            ["final_logit_softcapping", "above 0"],
        ),
        (
            gemma2(json!({"use_bidirectional_attention": true})),
            ["use_bidirectional_attention", "true"],
        ),
        (
            cohere2(json!({"position_embedding_type": "alibi"})),
            ["position_embedding_type", "rope_gptj"],
        ),
        (
            cohere2(json!({"use_parallel_block": false})),
            ["use_parallel_block", "absent or true"],
        ),
        (
            cohere2(json!({"use_gated_activation": false})),
            ["use_gated_activation", "absent or true"],
        ),
        (
            cohere2(json!({"use_qk_norm": true})),
            ["use_qk_norm", "true"],
        ),
        (
            cohere2(json!({"logit_scale": 0})),
            ["logit_scale", "above 0"],
        ),
        (
            cohere2(json!({"hidden_act": "gelu"})),
            ["hidden_act", "silu"],
        ),
        (
            starcoder2(json!({"hidden_act": "silu"})),
            ["hidden_act", "gelu_pytorch_tanh"],
        ),
        (
            starcoder2(json!({"norm_type": "rms_norm"})),
            ["norm_type", "layer_norm"],
        ),
        (
            starcoder2(json!({"mlp_type": "gated"})),
            ["mlp_type", "default"],
        ),
        (
            starcoder2(json!({"layer_types": vec!["sliding_attention"; 6]})),
            ["layer_types", "sliding_attention"],
        ),
        (
            gpt2(json!({"activation_function": "relu"})),
            ["activation_function", "gelu_new"],
        ),
        (
            gpt2(json!({"add_cross_attention": true})),
            ["add_cross_attention", "true"],
        ),
        (gpt2(json!({"n_embd": null})), ["n_embd", "lacks"]),
        (
            gpt2(json!({"n_head": 5})),
            ["n_head", "a divisor of n_embd = 64"],
        ),
        (gpt2(json!({"n_inner": 0})), ["n_inner", "at least 1"]),
        (
            qwen2(json!({"scale_attn_weights": false})),
            ["scale_attn_weights", "false"],
        ),
        (
            qwen2(json!({"scale_attn_by_inverse_layer_idx": true})),
            ["scale_attn_by_inverse_layer_idx", "true"],
        ),
        (
            ministral3(json!({"rope_parameters": null})),
            ["rope_parameters", "llama_4_scaling_beta"],
        ),
        (
            ministral3(json!({"rope_parameters": {"rope_type": "default"}})),
            ["rope_parameters.llama_4_scaling_beta", "a number"],
        ),
        (
            ministral3(
                json!({"rope_parameters": {"rope_type": "default", "llama_4_scaling_beta": 0.1}}),
            ),
            ["rope_parameters.original_max_position_embeddings", "lacks"],
        ),
        (
            ministral3(json!({"layer_types": vec!["full_attention"; 6]})),
            ["layer_types", "absent"],
        ),
        (
            qwen2(json!({"rope_scaling": {"rope_type": "default", "llama_4_scaling_beta": 0.1}})),
            ["rope_scaling.llama_4_scaling_beta", "0.1"],
        ),
        (
            mistral3(json!({"num_experts": 4}), json!({})),
            ["text_config.num_experts", "4"],
        ),
        (
            mistral3(json!({"model_type": "mistral4"}), json!({})),
            ["text_config.model_type", "mistral, ministral3"],
        ),
        (
            mistral3(json!({}), json!({"text_config": null})),
            ["text_config", "an object"],
        ),
        (
            mistral3(
                json!({}),
                json!({"quantization_config": {"quant_method": "fp8"}}),
            ),
            ["quantization_config", "fp8"],
        ),
        (
            qwen2(json!({"num_hidden_layers": 1 << 17})),
            ["num_hidden_layers", "overflows"],
        ),
    ] {
        let message = match parse(&config) {
            Ok(_) => panic!("{config} was accepted"),
            Err(error) => error.to_string(),
        };
        for part in parts {
            assert!(
                message.contains(part),
                "{config}: {message:?} lacks {part:?}"
            );
        }
    }
}
