//! `maitre generate`: a chat by default, the bare prompt with `--raw`, and a word about an empty answer.

use std::fs;
use std::path::Path;

use super::{edit, fails, maitre, model_directory, stderr, stdout};

fn generate(arguments: &[&str]) -> (String, String) {
    let fixed = ["generate", "--temperature", "0", "--max-tokens", "24"];
    let output = maitre(&[&fixed, arguments].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    (stdout(&output), stderr(&output))
}

#[test]
fn a_plain_sentence_is_a_users_message() {
    let prompt = [
        "--prompt",
        "I would like to order a large latte with oat milk.",
    ];
    let (answer, said) = generate(&prompt);
    assert!(!answer.trim().is_empty(), "{said}");
    assert!(!said.contains("WARN"), "{said}");
    assert_eq!(generate(&[&prompt[..], &["--chat"]].concat()).0, answer);
    let (story, _) = generate(&["--raw", "--prompt", "Once upon a time"]);
    assert!(story.starts_with(','), "{story}");
    let both = fails(&["generate", "--raw", "--chat", "--prompt", "x"], 2);
    assert!(both.contains("--raw") && both.contains("--chat"), "{both}");
}

#[test]
fn an_empty_answer_says_why_it_is() {
    // The model's story goes on with a comma.
    let story = ["--raw", "--prompt", "Once upon a time"];
    let (answer, said) = generate(&[&story[..], &["--stop", ","]].concat());
    assert_eq!(answer, "\n");
    assert!(
        said.contains("WARN the answer is empty; the stop string \",\" came before"),
        "{said}"
    );
    let (answer, said) = generate(&[&story[..], &["--stop", ",", "--json"]].concat());
    assert!(answer.contains("\"text\":\"\""), "{answer}");
    assert!(said.contains("the answer is empty"), "{said}");
    // The bundled chat model takes a bare sentence for a whole text.
    let sentence = "I would like to order a large latte with oat milk.";
    let (answer, said) = generate(&["--raw", "--prompt", sentence]);
    assert_eq!(answer, "\n");
    let expected = "its first token is token 2 (\"<|im_end|>\"), which ends an answer: if the prompt is a message, leave out --raw";
    assert!(said.contains(expected), "{said}");
}

pub(crate) fn without_template(model: &Path) {
    let _ = fs::remove_file(model.join("chat_template.jinja"));
    edit(&model.join("tokenizer_config.json"), |config| {
        let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
        config.as_object_mut().unwrap().remove("chat_template");
        config.to_string()
    });
}

#[test]
fn a_model_without_a_template_goes_on_from_the_prompt_and_says_so() {
    let folder = model_directory(&maitre_bundled::DRAFT);
    without_template(folder.path());
    let model = [
        "--prompt",
        "Once upon a time",
        "--model",
        folder.path().to_str().unwrap(),
    ];
    let (answer, said) = generate(&model);
    assert!(
        said.contains("WARN the model has no chat template"),
        "{said}"
    );
    let (raw, said) = generate(&[&model[..], &["--raw"]].concat());
    assert_eq!(raw, answer);
    assert!(!said.contains("no chat template"), "{said}");
    let refused = fails(&[&["generate", "--chat"][..], &model].concat(), 1);
    assert!(refused.contains("no chat template"), "{refused}");
}
