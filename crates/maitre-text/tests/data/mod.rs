//! Where tests find tokenizers: the bundled model's, committed with it, and those of the shared test
//! data, which only some machines have.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use maitre_text::Tokenizer;

pub(crate) const BUNDLED_TOKENIZER: &[u8] =
    include_bytes!("../../../maitre-bundled/model/target/tokenizer.json");
pub(crate) const BUNDLED_CONFIG: &[u8] =
    include_bytes!("../../../maitre-bundled/model/target/tokenizer_config.json");

pub(crate) fn bundled() -> Tokenizer {
    Tokenizer::from_bytes(BUNDLED_TOKENIZER, Some(BUNDLED_CONFIG), None).unwrap()
}

/// A file of the shared test data, if there is any; says so if not.
pub(crate) fn shared(path: &str) -> Option<Vec<u8>> {
    let Some(folder) = std::env::var_os("MAITRE_TEST_DATA") else {
        println!("skipped: set MAITRE_TEST_DATA to the folder with {path} to run this test");
        return None;
    };
    let path = std::path::Path::new(&folder).join(path);
    Some(std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

/// The tokenizer in a folder of the shared test data.
pub(crate) fn shared_tokenizer(folder: &str) -> Option<Tokenizer> {
    let json = shared(&format!("{folder}/tokenizer.json"))?;
    let config = folder
        .starts_with("models/")
        .then(|| shared(&format!("{folder}/tokenizer_config.json")).unwrap());
    Some(Tokenizer::from_bytes(&json, config.as_deref(), None).unwrap())
}
