//! A load tells its observer of every byte of the weights, whatever they come from.

use std::cell::RefCell;
use std::fs;

use maitre_model::{LoadFormat, LoadOptions, LoadProgress, Model, ModelSource};
use maitre_tensor::Backend;

use crate::starts::{copy, edit_weights};
use crate::support::{FIXTURES, bundled, fixture};

/// What a load told, checked to grow from nothing to everything.
fn observe(source: &ModelSource, options: &LoadOptions) -> Vec<LoadProgress> {
    let told = RefCell::new(Vec::new());
    let observer = |progress| told.borrow_mut().push(progress);
    let backend = Backend::cpu(1).unwrap();
    Model::load_observed(source, options, &backend, &observer).unwrap();
    let told = told.into_inner();
    let (first, last) = (told[0], told[told.len() - 1]);
    assert_eq!(first.done_bytes, 0);
    assert_eq!(last.done_bytes, last.total_bytes, "{source}");
    for pair in told.windows(2) {
        assert_eq!(pair[0].total_bytes, pair[1].total_bytes);
        assert!(pair[0].done_bytes < pair[1].done_bytes, "{pair:?}");
    }
    told
}

/// Whether a tensor is part of what is loaded: neither of a vision tower nor a mask.
pub(crate) fn is_of_text(name: &str) -> bool {
    let others = ["vision_tower.", "multi_modal_projector.", ".attn.bias"];
    !others.iter().any(|part| name.contains(part))
}

/// Bytes of the tensors in a fixture's files, as far as they are of a model of text.
fn bytes_in_files(name: &str) -> u64 {
    let device = candle_core::Device::Cpu;
    let files = fs::read_dir(fixture(name)).unwrap();
    let files = files.map(|file| file.unwrap().path());
    // Beside the weights there are results to compare with.
    let weights = files.filter(|path| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with("model") && name.ends_with(".safetensors")
    });
    let tensors = weights.flat_map(|path| candle_core::safetensors::load(path, &device).unwrap());
    tensors
        .filter(|(name, _)| is_of_text(name))
        .map(|(_, tensor)| (tensor.elem_count() * tensor.dtype().size_in_bytes()) as u64)
        .sum()
}

#[test]
fn a_load_tells_of_every_byte_of_the_files() {
    for &name in FIXTURES {
        let source = ModelSource::Directory(fixture(name));
        let told = observe(&source, &LoadOptions::default());
        assert_eq!(told[0].total_bytes, bytes_in_files(name), "{name}");
    }
    let options = LoadOptions {
        dtype: Some("int4".parse().unwrap()),
        ..LoadOptions::default()
    };
    let model = &maitre_bundled::TARGET;
    let told = observe(&bundled(model), &options);
    assert_eq!(told[0].total_bytes, 2 * 5_771_264, "bf16 in the file");
    // More often than once a layer.
    assert!(told.len() > 6 * 4, "{}", told.len());
}

#[test]
fn of_a_tied_matrix_that_is_stored_twice_one_counts() {
    let directory = copy("qwen3-f32-tied");
    let source = ModelSource::Directory(directory.path().to_owned());
    let once = observe(&source, &LoadOptions::default());
    edit_weights(directory.path(), |tensors| {
        let embedding = tensors["model.embed_tokens.weight"].clone();
        tensors.insert("lm_head.weight".to_owned(), embedding);
    });
    assert_eq!(observe(&source, &LoadOptions::default()), once);
    edit_weights(directory.path(), |tensors| {
        tensors.remove("model.embed_tokens.weight").unwrap();
    });
    assert_eq!(observe(&source, &LoadOptions::default()), once);
}

#[test]
fn random_weights_count_as_a_checkpoint_of_them_would() {
    for (dtype, width) in [("f32", 4), ("f16", 2), ("bf16", 2), ("int8", 2)] {
        let options = LoadOptions {
            dtype: Some(dtype.parse().unwrap()),
            load_format: LoadFormat::Random { seed: 1 },
            ..LoadOptions::default()
        };
        let told = observe(&bundled(&maitre_bundled::DRAFT), &options);
        assert_eq!(told[0].total_bytes, width * 918_400, "{dtype}");
    }
}
