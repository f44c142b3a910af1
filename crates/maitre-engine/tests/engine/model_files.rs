//! Faults of a model's files at start: refused by file and key where they matter, and only there.

use std::fs;
use std::path::Path;

use maitre_engine::{
    ChatMessage, ChatRequest, Engine, EngineBuilder, EngineError, GenerateRequest, Input,
    ModelSource, Role, Speculate, check_draft_files, check_files,
};
use tempfile::TempDir;

use crate::bundled::builder;
use crate::toy::answer;

const GENERATION: &str = "generation_config.json";
const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const LFS: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 78\n";

/// The small bundled model as a directory, with the files `changed`.
fn model(changed: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, content) in maitre_bundled::DRAFT.files {
        fs::write(directory.path().join(name), content).unwrap();
    }
    for (name, content) in changed {
        fs::write(directory.path().join(name), content).unwrap();
    }
    directory
}

fn source(directory: &Path) -> ModelSource {
    ModelSource::Directory(directory.to_owned())
}

fn engine(directory: &Path) -> EngineBuilder {
    Engine::builder(source(directory)).threads(Some(1))
}

/// The content of a file of the small bundled model.
fn bundled(file: &str) -> &'static str {
    let files = maitre_bundled::DRAFT.files.iter();
    let content = files.clone().find(|(name, _)| *name == file).unwrap().1;
    std::str::from_utf8(content).unwrap()
}

#[test]
fn a_start_and_a_check_refuse_a_file_in_the_same_words() {
    let cut = &bundled(TOKENIZER)[..200];
    for (file, content, expected) in [
        (
            GENERATION,
            r#"{"do_sample": true, "top_p": 1.05}"#,
            "generation_config.json: top_p is 1.05, expected a number in (0, 1]; correct the file",
        ),
        (
            GENERATION,
            r#"{"do_sample": false, "repetition_penalty": 0}"#,
            "generation_config.json: repetition_penalty is 0, expected a finite number > 0; correct the file",
        ),
        (
            GENERATION,
            r#"{"eos_token_id": 70000}"#,
            "generation_config.json: eos_token_id is 70000; the tokenizer has ids 0 to",
        ),
        (
            GENERATION,
            LFS,
            "generation_config.json is a git-LFS pointer to 78 bytes",
        ),
        (
            TOKENIZER,
            LFS,
            "tokenizer.json is a git-LFS pointer to 78 bytes",
        ),
        (TOKENIZER, "", "tokenizer.json is empty"),
        (
            TOKENIZER,
            cut,
            "tokenizer.json cannot be used: EOF while parsing",
        ),
        (
            TOKENIZER_CONFIG,
            LFS,
            "tokenizer_config.json is a git-LFS pointer to 78 bytes",
        ),
        (
            TOKENIZER_CONFIG,
            "{\"a\": NaN,}",
            "tokenizer_config.json is not valid JSON: trailing comma at line 1 column 11; correct it",
        ),
        (
            "model.safetensors",
            LFS,
            "model.safetensors is a git-LFS pointer to 78 bytes",
        ),
        (
            "config.json",
            "{",
            "config.json is not valid JSON: EOF while parsing an object at line 1 column 1; correct it",
        ),
    ] {
        let directory = model(&[(file, content)]);
        let start = engine(directory.path()).build().unwrap_err();
        let message = start.to_string();
        assert!(message.contains(expected), "{file}: {message}");
        let check = check_files(&source(directory.path())).unwrap_err();
        assert_eq!(check.to_string(), message);
    }
    assert!(check_files(&source(model(&[]).path())).is_ok());
}

#[test]
fn the_file_that_names_the_end_of_an_answer_is_named() {
    let config = bundled("config.json").replacen('{', r#"{"eos_token_id": 70000,"#, 1);
    let config = config.replacen(r#""eos_token_id": 2"#, r#""x": 2"#, 1);
    let directory = model(&[("config.json", &config), (GENERATION, "{}")]);
    let message = engine(directory.path()).build().unwrap_err().to_string();
    assert!(
        message.starts_with("config.json: eos_token_id is 70000"),
        "{message}"
    );
}

#[tokio::test]
async fn settings_that_greedy_answers_do_not_use_stop_nothing() {
    for json in [
        r#"{"do_sample": false, "top_p": 1.05, "top_k": -1, "min_p": 7, "temperature": -3}"#,
        r#"{"do_sample": false, "top_p": "high", "top_k": [], "min_p": NaN, "temperature": Infinity}"#,
        r#"{"do_sample": true, "temperature": 0, "top_p": 1.05, "top_k": 0, "min_p": null}"#,
    ] {
        let directory = model(&[(GENERATION, json)]);
        let engine = engine(directory.path()).build().unwrap();
        let mut request = GenerateRequest::new(Input::Text("The cat".into()));
        request.stopping.max_tokens = Some(4);
        let greedy = answer(engine.generate(request.clone()).await.unwrap());
        greedy.await.unwrap();
        // A request that samples is not refused for what it did not ask for, nor for what it gives itself.
        request.sampling.temperature = Some(0.7);
        let sampled = answer(engine.generate(request.clone()).await.unwrap());
        sampled.await.unwrap();
        request.sampling.top_p = Some(0.9);
        request.sampling.min_p = Some(0.1);
        let sampled = answer(engine.generate(request).await.unwrap());
        sampled.await.unwrap();
    }
}

#[test]
fn files_with_a_byte_order_mark_and_numbers_of_python_are_read() {
    let marked = |file| format!("\u{feff}{}", bundled(file));
    let config = bundled(TOKENIZER_CONFIG).replacen('{', r#"{"model_max_length": Infinity,"#, 1);
    let directory = model(&[
        ("config.json", &marked("config.json")),
        (TOKENIZER, &marked(TOKENIZER)),
        (TOKENIZER_CONFIG, &format!("\u{feff}{config}")),
    ]);
    engine(directory.path()).build().unwrap();
}

#[test]
fn a_draft_models_faults_are_told_from_the_models() {
    for (file, content, expected) in [
        (TOKENIZER, LFS, "/tokenizer.json is a git-LFS pointer"),
        (TOKENIZER, "{}", " tokenizer.json cannot be used: "),
        ("config.json", "{", " config.json is not valid JSON: "),
        (
            "model.safetensors",
            LFS,
            "/model.safetensors is a git-LFS pointer",
        ),
        ("model.safetensors", "", "/model.safetensors is empty"),
    ] {
        let directory = model(&[(file, content)]);
        let draft = source(directory.path());
        let started = builder()
            .speculate(Speculate::Draft)
            .draft_model(Some(draft.clone()))
            .build();
        let message = started.unwrap_err().to_string();
        let prefix = "the draft model (--draft-model) can't be used:";
        assert!(message.starts_with(prefix), "{file}: {message}");
        assert!(message.contains(expected), "{file}: {message}");
        if file != TOKENIZER {
            let check = check_draft_files(&draft).unwrap_err();
            assert_eq!(check.to_string(), message);
        }
    }
    // What a draft model recommends for sampling is not used.
    let directory = model(&[(GENERATION, LFS)]);
    let started = builder()
        .speculate(Speculate::Draft)
        .draft_model(Some(source(directory.path())))
        .build();
    started.unwrap();
}

#[tokio::test]
async fn a_template_that_refuses_one_message_names_it() {
    let template = "{% for m in messages %}{% if m.role == 'system' and not loop.first %}\
        {{ raise_exception('a system message must be the first') }}{% endif %}{{ m.content }}{% endfor %}";
    let directory = model(&[("chat_template.jinja", template)]);
    let engine = engine(directory.path()).build().unwrap();
    let roles = [Role::User, Role::Assistant, Role::System, Role::User];
    let messages = roles.map(|role| ChatMessage::new(role, "Hello"));
    let chat = ChatRequest::new(messages.to_vec());
    let request = GenerateRequest::new(Input::Chat(chat));
    let Err(EngineError::Invalid { violations }) = engine.generate(request).await else {
        panic!("the chat was accepted");
    };
    assert_eq!(violations[0].field, "messages[2]");
}
