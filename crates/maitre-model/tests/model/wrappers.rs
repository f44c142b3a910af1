//! Models of text inside classes that have more.

use maitre_model::{GenerationDefaults, LoadOptions, ModelSource, Reads, TensorUse, Wrapper};
use maitre_tensor::DType;
use serde_json::{Value, json};

use crate::families::{ministral3, mistral3, parse, patched};
use crate::starts::{copy, edit_config, edit_weights, load};
use crate::support::fixture;

#[test]
fn the_text_of_a_model_with_images_is_a_familys() {
    let alone = parse(&ministral3(json!({"tie_word_embeddings": true}))).unwrap();
    let growth = alone.ropes[0].query_growth.unwrap();
    assert_eq!(
        (growth.beta, growth.original_max_position_embeddings),
        (0.1, 256)
    );
    assert_eq!(alone.wrapper, None);
    let inside = |text: Value, more: Value| parse(&mistral3(text, more)).unwrap();
    let tied = json!({"tie_word_embeddings": true});
    let untied = json!({"tie_word_embeddings": false});
    let wrapped = inside(tied.clone(), json!({"dtype": "bfloat16"}));
    assert_eq!(wrapped.wrapper, Wrapper::all().next());
    assert_eq!(wrapped.architecture, alone.architecture);
    assert_eq!(
        (&wrapped.ropes, &wrapped.layers),
        (&alone.ropes, &alone.layers)
    );
    assert_eq!(wrapped.dtype, Some(DType::Bf16));
    // What stands outside counts, as transformers saves it, then what the model of text says.
    assert!(wrapped.tie_word_embeddings);
    assert!(inside(json!({}), tied.clone()).tie_word_embeddings);
    assert!(inside(untied.clone(), tied.clone()).tie_word_embeddings);
    assert!(!inside(tied, untied).tie_word_embeddings);
    assert!(!inside(json!({}), json!({})).tie_word_embeddings);
    // Without a name it is Mistral.
    let plain = json!({"model_type": null, "rope_parameters": null, "sliding_window": null});
    let mistral = inside(plain, json!({"architectures": null}));
    assert_eq!(mistral.architecture.class_name(), "MistralForCausalLM");
    assert_eq!(mistral.layers[0].attention.reads, Reads::Full);
}

/// The settings of Gemma 3's text on the Hub: 4B, which leaves out what the class has anyway, and 12B.
#[test]
fn sizes_that_gemma3_leaves_out_are_those_of_its_class() {
    let model = |more: Value| {
        let text = json!({
            "model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024
        });
        parse(&json!({
            "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "text_config": patched(text, more)
        }))
        .unwrap()
    };
    let sizes = |config: &maitre_model::ModelConfig| {
        (
            (config.num_heads, config.num_kv_heads, config.head_dim),
            (config.vocab_size, config.max_position_embeddings),
        )
    };
    let small = model(json!({}));
    assert_eq!(sizes(&small), ((8, 4, 256), (262_208, 131_072)));
    assert!(small.tie_word_embeddings);
    let large =
        model(json!({"num_attention_heads": 16, "num_key_value_heads": 8, "vocab_size": 262_144}));
    assert_eq!(sizes(&large), ((16, 8, 256), (262_144, 131_072)));
}

#[test]
fn what_turns_images_into_tokens_is_told_of_and_not_loaded() {
    // Of Pixtral's tower and its projector, and of SigLIP's and its.
    for (name, tensors) in [
        ("mistral3-f32-images-v4", 15),
        ("mistral3-bf16-ministral3", 15),
        ("gemma3-f32-images-v4", 34),
        ("gemma3-bf16-images", 34),
    ] {
        let source = ModelSource::Directory(fixture(name));
        let stored = source.stored_tensors().unwrap();
        let images: Vec<_> = stored
            .iter()
            .filter(|it| it.used_for == TensorUse::Images)
            .map(|it| (it.count, it.bytes_in_memory))
            .collect();
        assert_eq!(images, [(tensors, 0)], "{name}");
        assert!(stored.iter().all(|it| it.used_for != TensorUse::Other));
        // The settings of the model of text name the end of an answer.
        let ends = GenerationDefaults::load(&source).unwrap();
        assert_eq!(ends.eos_token_ids, [2], "{name}");
    }
}

#[test]
fn tensors_of_the_text_are_named_as_in_the_files() {
    for (name, tensor) in [
        ("mistral3-f32-images-v4", "language_model.model.norm.weight"),
        (
            "mistral3-bf16-ministral3",
            "model.language_model.norm.weight",
        ),
        ("gemma3-f32-images-v4", "language_model.model.norm.weight"),
        ("gemma3-bf16-images", "model.language_model.norm.weight"),
    ] {
        let missing = copy(name);
        edit_weights(missing.path(), |tensors| {
            tensors.remove(tensor).unwrap();
        });
        let message = load(missing.path(), &LoadOptions::default()).unwrap_err();
        assert!(message.to_string().contains(tensor), "{message}");
        let more = copy(name);
        let other = tensor.replace("norm", "other");
        edit_weights(more.path(), |tensors| {
            let spare = tensors[tensor].clone();
            tensors.insert(other.clone(), spare);
        });
        let message = load(more.path(), &LoadOptions::default()).unwrap_err();
        assert!(message.to_string().contains(&other), "{message}");
    }
}

/// What is said of a shape is what the file has, and the settings are called as in its configuration.
#[test]
fn shapes_of_gpt2_are_told_as_they_are_stored() {
    for (change, expected) in [
        (json!({"n_inner": 40}), ["[24, 50]", "[24, 40]", "n_inner"]),
        (
            json!({"n_positions": 32}),
            ["[64, 24]", "[32, 24]", "n_positions, n_embd"],
        ),
    ] {
        let model = copy("gpt2-f32-inner");
        edit_config(model.path(), change);
        let message = load(model.path(), &LoadOptions::default()).unwrap_err();
        let message = message.to_string();
        for part in expected {
            assert!(message.contains(part), "{message}");
        }
    }
}
