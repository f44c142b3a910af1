//! Text files of a model directory that are incomplete or at odds: the model is served, and the log says
//! what will not work.

use std::fs;
use std::path::Path;

use maitre_bundled::TARGET;
use serde_json::{Value, json};

use crate::{edit, fails, maitre, model_directory, stderr};

/// Changes a JSON file.
fn set(file: &Path, change: impl FnOnce(&mut Value)) {
    edit(file, |text| {
        let mut json = serde_json::from_str(&text).unwrap();
        change(&mut json);
        json.to_string()
    });
}

/// What the log says of a model that is served all the same.
fn served(spoil: impl FnOnce(&Path), prompt: &str) -> String {
    let folder = model_directory(&TARGET);
    spoil(folder.path());
    let model = folder.path().to_str().unwrap();
    let output = maitre(&[
        "generate",
        "--model",
        model,
        "--prompt",
        prompt,
        "--max-tokens",
        "2",
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    stderr(&output)
}

fn assert_warns(said: &str, words: &[&str]) {
    let warnings = said.lines().filter(|line| line.contains("WARN"));
    let found = warnings
        .into_iter()
        .any(|line| words.iter().all(|word| line.contains(word)));
    assert!(found, "no warning with {words:?} in: {said}");
}

#[test]
fn a_template_of_several_that_cannot_be_used_is_a_warning() {
    let said = served(
        |model| {
            let folder = model.join("additional_chat_templates");
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("tool_use.jinja"), "{% for x in %}").unwrap();
            fs::write(folder.join("notes.txt"), "{% for x in %}").unwrap();
            fs::write(
                model.join("chat_template.jinja"),
                "{{ messages[0].content }}",
            )
            .unwrap();
        },
        "x",
    );
    assert_warns(&said, &["chat template", "\"tool_use\"", "refused"]);
    assert!(!said.contains("notes"), "{said}");
}

#[test]
fn a_model_without_an_end_of_sequence_is_a_warning() {
    let nothing = |model: &Path| {
        for file in ["config.json", "generation_config.json"] {
            set(&model.join(file), |json| json["eos_token_id"] = Value::Null);
        }
        set(&model.join("tokenizer_config.json"), |json| {
            json["eos_token"] = Value::Null
        });
    };
    let said = served(nothing, "x");
    assert_warns(
        &said,
        &[
            "end-of-sequence",
            "max_tokens",
            "eos_token_id",
            "generation_config.json",
        ],
    );
    let said = served(
        |model| {
            nothing(model);
            let map = json!({"eos_token": {"content": "<|im_end|>"}});
            fs::write(model.join("special_tokens_map.json"), map.to_string()).unwrap();
        },
        "x",
    );
    assert!(!said.contains("end-of-sequence"), "{said}");
    let said = served(
        |model| {
            set(&model.join("tokenizer_config.json"), |json| {
                json["eos_token"] = json!("<|absent|>")
            })
        },
        "x",
    );
    assert_warns(&said, &["eos_token", "<|absent|>", "vocabulary"]);
}

#[test]
fn a_padding_token_beyond_the_embedding_is_a_warning_and_refused_in_a_prompt() {
    let pad = |model: &Path| {
        set(&model.join("tokenizer.json"), |json| {
            let token = json!({"id": 4096, "content": "<pad>", "special": true, "normalized": false,
                               "single_word": false, "lstrip": false, "rstrip": false});
            json["added_tokens"].as_array_mut().unwrap().push(token);
        });
    };
    let said = served(pad, "x");
    assert_warns(&said, &["4097 tokens", "4096", "<pad>", "never generated"]);
    let folder = model_directory(&TARGET);
    pad(folder.path());
    let model = folder.path().to_str().unwrap();
    let said = fails(
        &[
            "generate",
            "--raw",
            "--model",
            model,
            "--prompt",
            "a <pad>",
            "--max-tokens",
            "2",
        ],
        1,
    );
    assert!(said.contains("<pad>") && said.contains("4096"), "{said}");
}
