//! The bundled files are complete, readable and aligned, and describe one pair.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use maitre_bundled::{ALIGNMENT, BundledModel, DRAFT, HELDOUT, TARGET};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

const FILES: [&str; 5] = [
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
];

fn json(model: &BundledModel, name: &str) -> Value {
    serde_json::from_slice(model.file(name).unwrap()).unwrap()
}

#[test]
fn both_models_have_every_file_once() {
    for model in [&TARGET, &DRAFT] {
        let names: Vec<&str> = model.files.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, FILES, "{}", model.name);
        assert!(
            model.files.iter().all(|(_, content)| !content.is_empty()),
            "{}",
            model.name
        );
    }
    assert_ne!(TARGET.name, DRAFT.name);
}

#[test]
fn weights_are_aligned_bf16_tensors_of_the_configured_sizes() {
    for (model, parameters) in [(&TARGET, 5_770_000.0), (&DRAFT, 920_000.0)] {
        let bytes = model.file("model.safetensors").unwrap();
        assert_eq!(bytes.as_ptr() as usize % ALIGNMENT, 0, "{}", model.name);

        let tensors = SafeTensors::deserialize(bytes).unwrap();
        let config = json(model, "config.json");
        let embedding = tensors.tensor("model.embed_tokens.weight").unwrap();
        let size = |field: &str| usize::try_from(config[field].as_u64().unwrap()).unwrap();
        assert_eq!(embedding.shape(), [size("vocab_size"), size("hidden_size")]);

        let mut elements = 0;
        for (name, tensor) in tensors.tensors() {
            assert_eq!(tensor.dtype(), Dtype::BF16, "{name}");
            assert_eq!(
                tensor.data().as_ptr() as usize % align_of::<u16>(),
                0,
                "{name}"
            );
            elements += tensor.shape().iter().product::<usize>();
        }
        let deviation = (elements as f64 / parameters - 1.0).abs();
        assert!(
            deviation < 0.005,
            "{} has {elements} parameters",
            model.name
        );
    }
}

#[test]
fn the_pair_shares_one_tokenizer() {
    let [target, draft] = [&TARGET, &DRAFT].map(|model| model.file("tokenizer.json").unwrap());
    assert_eq!(
        target.as_ptr(),
        draft.as_ptr(),
        "the tokenizer is stored twice"
    );

    let tokenizer = json(&TARGET, "tokenizer.json");
    let tokens = tokenizer["model"]["vocab"].as_object().unwrap().len() as u64;
    for model in [&TARGET, &DRAFT] {
        assert_eq!(
            json(model, "config.json")["vocab_size"].as_u64().unwrap(),
            tokens
        );
        assert!(json(model, "tokenizer_config.json")["chat_template"].is_string());
        assert_eq!(
            json(model, "generation_config.json")["eos_token_id"],
            serde_json::json!([2, 0])
        );
    }
}

#[test]
fn held_out_text_is_documents_of_chat() {
    let documents: Vec<&str> = HELDOUT.split("<|endoftext|>").collect();
    assert!(documents.len() > 100, "{} documents", documents.len());
    for document in documents {
        assert!(document.starts_with("<|im_start|>user\n"), "{document:?}");
    }
}

#[test]
fn golden_cases_are_token_ids_of_the_vocabulary() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("golden_greedy.json")).unwrap();
    assert_eq!(cases.len(), 20);
    let vocab_size = json(&TARGET, "config.json")["vocab_size"].as_u64().unwrap();
    for case in cases {
        assert!(case["prompt"].is_string());
        for field in ["prompt_ids", "greedy_ids"] {
            let ids = case[field].as_array().unwrap();
            assert!(!ids.is_empty() && ids.iter().all(|id| id.as_u64().unwrap() < vocab_size));
        }
    }
}
