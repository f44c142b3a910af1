//! Tokenizers of GGUF files beside llama.cpp's own cases, and beside the `tokenizer.json` that one was made from.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, missing_docs)]

#[path = "../../maitre-gguf/tests/writer/mod.rs"]
mod writer;

use std::path::{Path, PathBuf};

use maitre_gguf::GgufIndex;
use maitre_text::{ChatMessage, ChatRequest, Role, TextError, Tokenizer};
use proptest::prelude::*;
use serde_json::Value;
use writer::{Writer, text};

fn read(file: &[u8]) -> Result<Tokenizer, TextError> {
    Tokenizer::from_gguf(&GgufIndex::read(file).unwrap(), file)
}

/// A folder of the test data, or a word on why there is none.
fn data(folder: &str) -> Option<PathBuf> {
    let root = std::env::var_os("MAITRE_TEST_DATA");
    if root.is_none() {
        eprintln!("skipped: MAITRE_TEST_DATA names no folder with {folder}");
    }
    root.map(|root| Path::new(&root).join(folder))
}

#[test]
fn llama_cpps_cases_give_llama_cpps_ids() {
    let Some(folder) = data("gguf-vocab") else {
        return;
    };
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|it| it != "gguf") {
            continue;
        }
        let tokenizer = read(&std::fs::read(&path).unwrap()).unwrap();
        let of =
            |ending: &str| std::fs::read_to_string(format!("{}.{ending}", path.display())).unwrap();
        let (texts, ids) = (of("inp"), of("out"));
        let texts: Vec<&str> = texts.split("\n__ggml_vocab_test__\n").collect();
        let ids: Vec<&str> = ids.lines().collect();
        assert_eq!(texts.len(), ids.len() + 1, "{}", path.display());
        for (text, ids) in texts.iter().zip(ids) {
            let expected: Vec<u32> = ids
                .split_whitespace()
                .map(|it| it.parse().unwrap())
                .collect();
            let found = tokenizer.encode_plain(text).unwrap();
            assert_eq!(found, expected, "{}: {text:?}", path.display());
        }
        seen += 1;
    }
    assert_eq!(seen, 6);
}

#[test]
fn a_real_models_file_gives_its_tokenizer_and_its_template() {
    let Some(folder) = data("models/smollm2-135m-instruct-q4_1") else {
        return;
    };
    let file = std::fs::read(folder.join("SmolLM2-135M-Instruct.Q4_1.gguf")).unwrap();
    let tokenizer = read(&file).unwrap();
    assert_eq!(tokenizer.num_tokens(), 49_152);
    let request = ChatRequest::new(vec![ChatMessage::new(Role::User, "What is 1234 + 5?")]);
    let rendered = tokenizer.render_chat(&request).unwrap();
    assert!(
        rendered.contains("<|im_start|>user\nWhat is 1234 + 5?<|im_end|>"),
        "{rendered}"
    );
    let ids = tokenizer.encode_chat(&request).unwrap();
    assert_eq!(tokenizer.decode(&ids, false).unwrap(), rendered);
    let start = tokenizer.special_token_id("<|im_start|>").unwrap();
    assert_eq!(ids.first(), Some(&start));
    // Each digit is a token.
    assert_eq!(tokenizer.encode_plain("1234").unwrap().len(), 4);
}

#[test]
fn sentence_pieces_merge_by_their_scores() {
    let Some(folder) = data("models/llama-2-tiny-random-gguf") else {
        return;
    };
    let file = std::fs::read(folder.join("llama-2-tiny-random.gguf")).unwrap();
    let tokenizer = read(&file).unwrap();
    // Llama 2's ids, as transformers gives them.
    assert_eq!(
        tokenizer.encode("Hello, world!").unwrap(),
        [1, 15043, 29892, 3186, 29991]
    );
    assert_eq!(
        tokenizer.encode_plain("一\u{1F999}").unwrap(),
        [29871, 30287, 243, 162, 169, 156]
    );
    let text = "  two spaces, ünïcödé, \u{1F999}\n\tand a tab";
    let ids = tokenizer.encode_plain(text).unwrap();
    assert_eq!(tokenizer.decode(&ids, true).unwrap(), text);
}

/// The bundled tokenizer as a converter would write it.
fn bundled_as_gguf() -> Writer {
    let json = file_of_bundled("tokenizer.json").unwrap();
    let json: Value = serde_json::from_slice(json).unwrap();
    let mut words: Vec<(u64, String, i32)> = Vec::new();
    for (word, id) in json["model"]["vocab"].as_object().unwrap() {
        words.push((id.as_u64().unwrap(), word.clone(), 1));
    }
    for token in json["added_tokens"].as_array().unwrap() {
        let id = token["id"].as_u64().unwrap();
        words.retain(|word| word.0 != id);
        let kind = if token["special"] == true { 3 } else { 4 };
        words.push((id, token["content"].as_str().unwrap().to_owned(), kind));
    }
    words.sort();
    let merges = json["model"]["merges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|merge| match merge {
            Value::String(merge) => merge.clone(),
            pair => format!(
                "{} {}",
                pair[0].as_str().unwrap(),
                pair[1].as_str().unwrap()
            ),
        });
    let merges: Vec<Vec<u8>> = merges.map(|merge| text(&merge)).collect();
    let mut writer = Writer::new(32);
    writer.set("tokenizer.ggml.model", 8, &text("gpt2"));
    writer.set("tokenizer.ggml.pre", 8, &text("qwen2"));
    let count = words.len() as u64;
    let texts: Vec<Vec<u8>> = words.iter().map(|word| text(&word.1)).collect();
    let kinds: Vec<[u8; 4]> = words.iter().map(|word| word.2.to_le_bytes()).collect();
    writer.list("tokenizer.ggml.tokens", 8, count, &texts.concat());
    writer.list("tokenizer.ggml.token_type", 5, count, &kinds.concat());
    writer.list(
        "tokenizer.ggml.merges",
        8,
        merges.len() as u64,
        &merges.concat(),
    );
    let config = file_of_bundled("tokenizer_config.json").unwrap();
    let config: Value = serde_json::from_slice(config).unwrap();
    let template = config["chat_template"].as_str().unwrap();
    writer.set("tokenizer.chat_template", 8, &text(template));
    writer
}

fn file_of_bundled(name: &str) -> Option<&'static [u8]> {
    let files = maitre_bundled::TARGET.files.iter();
    files
        .copied()
        .find_map(|(file, bytes)| (file == name).then_some(bytes))
}

#[test]
fn a_file_gives_what_the_json_gives_that_it_was_made_from() {
    let original = Tokenizer::from_bytes(
        file_of_bundled("tokenizer.json").unwrap(),
        file_of_bundled("tokenizer_config.json"),
        file_of_bundled("chat_template.jinja"),
    )
    .unwrap();
    let converted = read(&bundled_as_gguf().file()).unwrap();
    assert_eq!(converted.num_tokens(), original.num_tokens());
    for id in 0..original.num_tokens() as u32 {
        assert_eq!(converted.token_bytes(id), original.token_bytes(id), "{id}");
        assert_eq!(converted.is_special(id), original.is_special(id), "{id}");
    }
    let request = ChatRequest::new(vec![ChatMessage::new(Role::User, "Is a latte hot?")]);
    assert_eq!(
        converted.encode_chat(&request).unwrap(),
        original.encode_chat(&request).unwrap()
    );
    proptest!(|(text in "(\\PC|[a-z0-9 '\n\t]){0,60}")| {
        prop_assert_eq!(converted.encode_plain(&text).unwrap(), original.encode_plain(&text).unwrap());
    });
}

#[test]
fn what_cannot_be_a_tokenizer_is_refused_by_its_setting() {
    let minimal = |model: &str| {
        let mut writer = Writer::new(32);
        writer.set("tokenizer.ggml.model", 8, &text(model));
        writer
    };
    let words = |writer: &mut Writer, words: &[&str]| {
        let texts: Vec<Vec<u8>> = words.iter().map(|word| text(word)).collect();
        writer.list(
            "tokenizer.ggml.tokens",
            8,
            words.len() as u64,
            &texts.concat(),
        );
    };
    type Make<'a> = &'a dyn Fn() -> Writer;
    let cases: [(Make<'_>, &str); 9] = [
        (&|| minimal("gpt2"), "tokenizer.ggml.tokens is missing"),
        (
            &|| {
                let mut it = minimal("gpt2");
                it.set("tokenizer.ggml.tokens", 4, &[0; 4]);
                it
            },
            "tokenizer.ggml.tokens is 0, and a list is expected",
        ),
        (
            &|| {
                let mut it = minimal("gpt2");
                words(&mut it, &["a", "b", "a"]);
                it
            },
            "tokenizer.ggml.tokens[2] is \"a\", as is tokenizer.ggml.tokens[0]",
        ),
        (
            &|| {
                let mut it = minimal("rwkv");
                words(&mut it, &["a"]);
                it
            },
            "tokenizer.ggml.model is \"rwkv\", and gpt2, llama and bert are known",
        ),
        (
            &|| {
                let mut it = Writer::new(32);
                words(&mut it, &["a"]);
                it
            },
            "tokenizer.ggml.model is missing",
        ),
        (
            &|| {
                let mut it = minimal("gpt2");
                words(&mut it, &["a"]);
                it.set("tokenizer.ggml.pre", 8, &text("tea"));
                it
            },
            "tokenizer.ggml.pre is \"tea\"",
        ),
        (
            &|| {
                let mut it = minimal("gpt2");
                words(&mut it, &["a"]);
                it.list("tokenizer.ggml.merges", 8, 1, &text("ab"));
                it
            },
            "tokenizer.ggml.merges[0] is \"ab\", expected two tokens",
        ),
        (
            &|| {
                let mut it = minimal("llama");
                words(&mut it, &["a"]);
                it
            },
            "tokenizer.ggml.scores is missing",
        ),
        (
            &|| {
                let mut it = minimal("llama");
                words(&mut it, &["a", "b"]);
                it.list(
                    "tokenizer.ggml.scores",
                    6,
                    2,
                    &[0_f32, f32::NAN].map(f32::to_le_bytes).concat(),
                );
                it
            },
            "tokenizer.ggml.scores has 2 entries, expected a number for each of 2 tokens",
        ),
    ];
    for (make, expected) in cases {
        let error = read(&make().file()).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}
