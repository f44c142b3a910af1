//! Constants of a configuration in the weights that they end up in.

use super::*;
use crate::checkpoint::RandomCheckpoint;
use crate::spec::Multipliers;

/// OLMo 3, whose layers norm what they add.
const OLMO: &str = r#"{
    "architectures": ["Olmo3ForCausalLM"], "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
    "num_attention_heads": 2, "vocab_size": 16, "max_position_embeddings": 32
}"#;

fn load(config: &ModelConfig) -> Decoder {
    let source = RandomCheckpoint::new(7, 1, config, DType::F32);
    load_decoder(
        &source,
        (config, Shard::WHOLE),
        &config.kv_layout(),
        FormatOf::layers_in(WeightFormat::F32),
        &Backend::cpu(1).unwrap(),
        &|_| {},
    )
    .unwrap()
}

#[test]
fn the_scale_of_embeddings_is_rounded_to_their_type() {
    let root = 1152_f32.sqrt();
    assert_eq!(embedding_scale(1152, DType::F32), root);
    assert_eq!(embedding_scale(1152, DType::Bf16), 34.0);
    assert_eq!(embedding_scale(1152, DType::F16), 33.937_5);
}

/// No family has both; where layers norm before they compute, Granite's logits show the multiplier.
#[test]
fn norms_after_layers_hold_the_multiplier_of_what_these_add() {
    let config = ModelConfig::from_json(OLMO.as_bytes()).unwrap();
    let halved = ModelConfig {
        multipliers: Multipliers {
            residual: 0.5,
            logits: 0.25,
            ..Multipliers::ONE
        },
        ..config.clone()
    };
    let [plain, scaled] = [config, halved].map(|config| load(&config));
    assert_eq!(
        (plain.embedding.scale, scaled.embedding.scale),
        (None, None)
    );
    let (Layers::PostNorm(plain), Layers::PostNorm(scaled)) = (plain.layers, scaled.layers) else {
        panic!("OLMo norms after its layers");
    };
    let times = |norm: &Buffer, factor: f32| -> Vec<f32> {
        let weights = norm.f32s().unwrap().iter();
        weights.map(|weight| weight * factor).collect()
    };
    for (plain, scaled) in plain.layers.iter().zip(&scaled.layers) {
        for (plain, scaled) in [
            (&plain.after_attention, &scaled.after_attention),
            (&plain.after_mlp, &scaled.after_mlp),
        ] {
            assert_eq!(times(plain, 0.5), scaled.f32s().unwrap());
        }
    }
    let last = [&plain, &scaled].map(|it| it.layers[1].next_norm.as_ref().unwrap());
    assert_eq!(times(last[0], 0.25), last[1].f32s().unwrap());
}
