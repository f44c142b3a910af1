//! GGUF files: an index speaks of the file it was read from, and a vocabulary is a tokenizer or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use maitre_gguf::{GgufIndex, Value};
use maitre_text::Tokenizer;

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
});
