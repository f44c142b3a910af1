//! What families read of their configurations that norm by mean and variance.

use maitre_model::RopePairs;
use maitre_model::spec::NormKind;
use serde_json::{Value, json};

use crate::families::{cohere2, gpt2, parse, starcoder2};

#[test]
fn families_with_norms_by_mean_and_variance_read_their_own_settings() {
    let cohere = parse(&cohere2(json!({"position_embedding_type": "rope_gptj"}))).unwrap();
    assert_eq!(cohere.norm, NormKind::Layer { bias: false });
    assert_eq!(
        (cohere.multipliers.logits, cohere.rms_norm_eps),
        (0.0625, 1e-5)
    );
    assert!(cohere.tie_word_embeddings && !cohere.layers[0].attention.qkv_bias);
    assert_eq!(cohere.ropes[0].pairs, RopePairs::Neighbours);
    let own = json!({"layer_norm_eps": 1e-6, "rms_norm_eps": 1e-3, "logit_scale": 0.25});
    let cohere = parse(&cohere2(own)).unwrap();
    assert_eq!(
        (cohere.multipliers.logits, cohere.rms_norm_eps),
        (0.25, 1e-6)
    );

    let star = parse(&starcoder2(json!({"norm_epsilon": 1e-4}))).unwrap();
    assert_eq!(star.norm, NormKind::Layer { bias: true });
    let (attention, mlp) = (star.layers[0].attention, star.layers[0].mlp);
    assert!(attention.qkv_bias && attention.output_bias && mlp.bias && !mlp.gated);
    assert_eq!(star.rms_norm_eps, 1e-4);
    let plain = parse(&starcoder2(json!({"use_bias": false}))).unwrap();
    let (attention, mlp) = (plain.layers[0].attention, plain.layers[0].mlp);
    assert!(!attention.qkv_bias && !attention.output_bias && !mlp.bias);
    assert_eq!(plain.norm, NormKind::Layer { bias: true });

    let small = parse(&gpt2(json!({"layer_norm_epsilon": 1e-4}))).unwrap();
    assert_eq!((small.hidden_size, small.intermediate_size), (64, 256));
    assert_eq!(
        (small.num_layers, small.head_dim, small.num_kv_heads),
        (6, 16, 4)
    );
    assert_eq!(
        (small.max_position_embeddings, small.rms_norm_eps),
        (256, 1e-4)
    );
    assert!(small.learned_positions && small.tie_word_embeddings && small.ropes.is_empty());
    let scales = |more: Value| -> Vec<f32> {
        let config = parse(&gpt2(more)).unwrap();
        config
            .layers
            .iter()
            .map(|layer| layer.attention.scale)
            .collect()
    };
    assert_eq!(scales(json!({}))[..2], [0.25, 0.25]);
    assert_eq!(scales(json!({"scale_attn_weights": false}))[0], 1.0);
    assert_eq!(
        scales(json!({"scale_attn_by_inverse_layer_idx": true}))[..2],
        [0.25, 0.125]
    );
    assert_eq!(
        parse(&gpt2(json!({"n_inner": 100})))
            .unwrap()
            .intermediate_size,
        100
    );
}
