//! GGUF files: an index speaks of the file it was read from, a vocabulary is a tokenizer or refused, and settings are a
//! configuration or refused.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use maitre_gguf::{GgufIndex, ModelFiles, Value};
use maitre_model::{Model, ModelConfig, ModelSource};
use maitre_text::Tokenizer;

/// Where a model is read from: a file, which is mapped.
static PATH: LazyLock<PathBuf> = LazyLock::new(|| {
    let name = format!("maitre-fuzz-{}-00001-of-00002.gguf", std::process::id());
    std::env::temp_dir().join(name)
});
/// Layers from which on the names of all tensors take longer than they tell.
const MANY_LAYERS: usize = 64;

fuzz_target!(|file: &[u8]| {
    let Ok(index) = GgufIndex::read(file) else {
        return;
    };
    for tensor in index.tensors() {
        assert!(file.get(tensor.place.clone()).is_some(), "{tensor:?}");
    }
    for (key, value) in index.settings() {
        if let Value::List(list) = value {
            assert_eq!(list.iter(file).count(), list.len, "{key}");
        }
    }
    if let Ok(tokenizer) = Tokenizer::from_gguf(&index, file) {
        let ids = tokenizer.encode_plain("a b 12 \u{e9}\n").unwrap_or_default();
        assert!(tokenizer.decode(&ids, false).is_ok());
    }
    read_model(file);
});

fn read_model(file: &[u8]) {
    std::fs::write(&*PATH, file).expect("the folder for temporary files can be written");
    let source = ModelSource::Gguf(PATH.clone());
    if let Ok(stored) = source.stored_tensors() {
        let bytes: u64 = stored.iter().map(|tensors| tensors.bytes).sum();
        assert!(bytes <= file.len() as u64, "{stored:?}");
    }
    if let Ok(config) = ModelConfig::load(&source) {
        assert_eq!(config.layers.len(), config.num_layers);
        if config.num_layers < MANY_LAYERS {
            let _ = Model::check_weights(&source, &config);
        }
    }
    // The beginning as a name, too.
    if let Some(name) = file.first_chunk::<24>().and_then(|it| std::str::from_utf8(it).ok()) {
        for model in ModelFiles::among(name.split('\n')) {
            assert!(model.stem.ends_with(model.tag()), "{model:?}");
        }
    }
}
