//! A model that cannot be loaded says what happened, what was expected and where.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use crate::load_progress::is_of_text;
use crate::support::{FIXTURES, all_logits, bundled, fixture, in_dtype, prefill, runner};
use candle_core::{Device, Tensor};
use maitre_model::{LoadFormat, LoadOptions, Model, ModelError, ModelSource};
use maitre_tensor::{Backend, WeightFormat};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const WEIGHTS: &str = "model.safetensors";

/// A copy of a fixture to be broken.
pub(crate) fn copy(name: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for file in fs::read_dir(fixture(name)).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), directory.path().join(file.file_name())).unwrap();
    }
    directory
}

pub(crate) fn load(directory: &Path, options: &LoadOptions) -> Result<Model, ModelError> {
    let backend = Backend::cpu(1).unwrap();
    Model::load(
        &ModelSource::Directory(directory.to_owned()),
        options,
        &backend,
    )
}

pub(crate) fn edit_config(directory: &Path, patch: Value) {
    let path = directory.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for (key, value) in patch.as_object().unwrap() {
        config[key] = value.clone();
    }
    fs::write(path, config.to_string()).unwrap();
}

pub(crate) fn edit_weights(directory: &Path, edit: impl FnOnce(&mut HashMap<String, Tensor>)) {
    let path = directory.join(WEIGHTS);
    let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    edit(&mut tensors);
    candle_core::safetensors::save(&tensors, path).unwrap();
}

fn check_refused(directory: &Path, parts: &[&str]) {
    let message = match load(directory, &LoadOptions::default()) {
        Ok(_) => panic!("loaded; expected an error with {parts:?}"),
        Err(error) => error.to_string(),
    };
    for part in parts {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
}

#[test]
fn missing_files_are_named() {
    let nowhere = Path::new("/nonexistent/model");
    check_refused(
        nowhere,
        &["/nonexistent/model", "does not exist", "config.json"],
    );
    let directory = copy("qwen3-f32-tied");
    check_refused(
        &directory.path().join("config.json"),
        &["is not a directory"],
    );
    let empty = tempfile::tempdir().unwrap();
    check_refused(empty.path(), &["has no config.json", "expected"]);
    fs::remove_file(directory.path().join(WEIGHTS)).unwrap();
    check_refused(
        directory.path(),
        &["has no model.safetensors", "index.json"],
    );

    let sharded = copy("llama-f32-sharded");
    let shard = "model-00002-of-00003.safetensors";
    fs::remove_file(sharded.path().join(shard)).unwrap();
    check_refused(sharded.path(), &[shard, "lists it as a shard"]);
}

#[test]
fn damaged_files_are_named() {
    let directory = copy("qwen3-f32-tied");
    let path = directory.path().join(WEIGHTS);
    let whole = fs::read(&path).unwrap();
    for len in [0, 4, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..len]).unwrap();
        check_refused(directory.path(), &[WEIGHTS, "download"]);
    }
    fs::write(&path, b"<!DOCTYPE html><html>not found</html>").unwrap();
    check_refused(directory.path(), &[WEIGHTS]);
    fs::write(directory.path().join("config.json"), "{\"hidden_size\": ").unwrap();
    check_refused(directory.path(), &["config.json is not valid JSON"]);

    let sharded = copy("llama-f32-sharded");
    let index = sharded.path().join("model.safetensors.index.json");
    for (json, part) in [
        ("{", "not valid JSON"),
        ("{}", "weight_map"),
        (r#"{"weight_map": {}}"#, "weight_map"),
        (
            r#"{"weight_map": {"a": "../secret.safetensors"}}"#,
            "beside the index",
        ),
        (
            r#"{"weight_map": {"a": "/etc/passwd"}}"#,
            "beside the index",
        ),
    ] {
        fs::write(&index, json).unwrap();
        check_refused(sharded.path(), &["model.safetensors.index.json", part]);
    }
}

#[test]
fn weights_that_are_not_the_configurations_are_named() {
    let directory = copy("qwen3-f32-tied");
    edit_config(directory.path(), json!({"intermediate_size": 60}));
    check_refused(
        directory.path(),
        &["mlp.gate_proj.weight", "[56, 40]", "[60, 40]"],
    );
    edit_config(
        directory.path(),
        json!({"intermediate_size": 56, "num_hidden_layers": 3}),
    );
    check_refused(directory.path(), &["model.layers.2.", "no tensor"]);
    edit_config(
        directory.path(),
        json!({"num_hidden_layers": 2, "attention_bias": true}),
    );
    check_refused(directory.path(), &["q_proj.bias", "[96]"]);
    edit_config(
        directory.path(),
        json!({"attention_bias": false, "tie_word_embeddings": false}),
    );
    check_refused(directory.path(), &["lm_head.weight", "[71, 40]"]);
    edit_config(directory.path(), json!({"tie_word_embeddings": true}));
    edit_weights(directory.path(), |tensors| {
        tensors
            .remove("model.layers.1.self_attn.k_norm.weight")
            .unwrap();
    });
    check_refused(
        directory.path(),
        &["model.layers.1.self_attn.k_norm.weight", "[24]"],
    );

    // Weights that the configuration does not announce would be ignored mathematics.
    let biased = copy("llama-f32-llama3-bias-v4");
    edit_config(biased.path(), json!({"mlp_bias": false}));
    check_refused(
        biased.path(),
        &["6 tensors", "model.layers.0.mlp.down_proj.bias"],
    );
    let fewer = copy("qwen3-f32-tied");
    edit_config(fewer.path(), json!({"num_hidden_layers": 1}));
    check_refused(
        fewer.path(),
        &[
            "layers 0 to 1",
            "`num_hidden_layers` = 1",
            "model.layers.1.",
        ],
    );
}

#[test]
fn a_tied_matrix_may_be_stored_twice_but_not_differ() {
    let tokens: Vec<u32> = (3..30).collect();
    let directory = copy("qwen3-f32-tied");
    let logits = |directory: &Path| {
        let source = ModelSource::Directory(directory.to_owned());
        prefill(&mut runner(&source, &LoadOptions::default(), 1), &tokens, 8)
    };
    let once = logits(directory.path());
    const EMBEDDING: &str = "model.embed_tokens.weight";
    edit_weights(directory.path(), |tensors| {
        let copy = tensors[EMBEDDING].copy().unwrap();
        tensors.insert("lm_head.weight".to_owned(), copy);
    });
    assert_eq!(logits(directory.path()), once);
    edit_weights(directory.path(), |tensors| {
        let twice = (&tensors[EMBEDDING] * 2.0).unwrap();
        tensors.insert("lm_head.weight".to_owned(), twice);
    });
    check_refused(directory.path(), &["tie_word_embeddings", "differ"]);
    edit_config(directory.path(), json!({"tie_word_embeddings": false}));
    let doubled = logits(directory.path());
    for (doubled, once) in doubled.concat().iter().zip(once.concat()) {
        assert_eq!(*doubled, 2.0 * once);
    }
}

#[test]
fn sizes_in_memory_are_those_announced() {
    let backend = Backend::cpu(1).unwrap();
    for (bundled_model, parameters) in [
        (&maitre_bundled::TARGET, 5_771_264),
        (&maitre_bundled::DRAFT, 918_400),
    ] {
        for dtype in ["f32", "f16", "bf16", "int8", "int4"].map(|name| name.parse().unwrap()) {
            let model = Model::load(&bundled(bundled_model), &in_dtype(dtype), &backend).unwrap();
            assert_eq!(model.config().num_parameters(), parameters);
            let announced = model.config().weight_bytes(dtype) as f64;
            let excess = model.weight_bytes() as f64 / announced - 1.0;
            // Kernels may pad rows; a second copy of the tied matrix is a fifth of the target.
            assert!((0.0..0.1).contains(&excess), "{dtype}: {excess} more");
        }
    }
}

#[test]
fn sizes_count_every_bias_and_norm() {
    for &name in FIXTURES {
        let tensors: Vec<_> = fs::read_dir(fixture(name))
            .unwrap()
            .map(|file| file.unwrap().path())
            .filter(|path| {
                let file = path.file_name().unwrap().to_string_lossy().into_owned();
                file.starts_with("model") && file.ends_with(".safetensors")
            })
            .flat_map(|path| candle_core::safetensors::load(path, &Device::Cpu).unwrap())
            .collect();
        let tensors = tensors.iter().filter(|(name, _)| is_of_text(name));
        let elements: usize = tensors.map(|(_, tensor)| tensor.elem_count()).sum();
        let model = load(&fixture(name), &LoadOptions::default()).unwrap();
        assert_eq!(model.config().num_parameters(), elements as u64, "{name}");
    }
}

#[test]
fn random_weights_need_only_a_configuration() {
    let directory = copy("llama-f32-llama3-bias-v4");
    fs::remove_file(directory.path().join(WEIGHTS)).unwrap();
    edit_config(directory.path(), json!({"torch_dtype": "float16"}));
    let options = LoadOptions {
        load_format: LoadFormat::Random { seed: 1 },
        ..LoadOptions::default()
    };
    let source = ModelSource::Directory(directory.path().to_owned());
    let mut runner = runner(&source, &options, 2);
    assert_eq!(runner.model().dtype(), WeightFormat::F16);
    let tokens: Vec<u32> = (3..30).collect();
    let logits = prefill(&mut runner, &tokens, 10).concat();
    assert!(logits.iter().all(|logit| logit.is_finite()));
    assert!(logits.iter().any(|logit| *logit != logits[0]));
    assert_eq!(all_logits(&mut runner, 7).len(), 7);
}

/// One tensor of every kind.
const KINDS: [&str; 6] = [
    "model.embed_tokens.weight",
    "model.layers.0.self_attn.k_proj.weight",
    "model.layers.1.mlp.down_proj.weight",
    "model.layers.1.post_attention_layernorm.weight",
    "model.layers.0.self_attn.q_norm.weight",
    "model.layers.1.self_attn.v_proj.bias",
];

#[test]
fn a_tensor_that_cannot_be_quantized_is_named() {
    for (name, number) in KINDS
        .into_iter()
        .zip([f32::NAN, f32::INFINITY, -f32::INFINITY].repeat(2))
    {
        let directory = copy("qwen3-bf16-untied-bias-v4");
        let mut spoilt = 0;
        edit_weights(directory.path(), |tensors| {
            let tensor = &tensors[name];
            let values = tensor
                .flatten_all()
                .unwrap()
                .to_dtype(candle_core::DType::F32);
            let mut values = values.unwrap().to_vec1::<f32>().unwrap();
            spoilt = values.len() - 1;
            values[spoilt] = number;
            let damaged = Tensor::from_vec(values, tensor.shape(), &Device::Cpu).unwrap();
            tensors.insert(name.to_owned(), damaged);
        });
        for format in ["int8", "int4-g32"] {
            let error = load(directory.path(), &in_dtype(format.parse().unwrap())).unwrap_err();
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            let message = format!("{error}: {}", cause.unwrap_or_default());
            for part in ["cannot quantize", name, &format!("is {number}"), "download"] {
                assert!(message.contains(part), "{message:?} lacks {part:?}");
            }
            if let ModelError::NonFiniteVector { at, .. } = error {
                assert_eq!(at, spoilt);
            }
        }
        load(directory.path(), &in_dtype(WeightFormat::Bf16)).unwrap();
    }
}
