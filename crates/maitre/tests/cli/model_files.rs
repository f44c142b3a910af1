//! A model's file that cannot be used: one message, the same from every command, its cause said once.

use std::fs;
use std::path::Path;

use crate::fails;

/// A directory with the small bundled model and one file changed.
fn write_model(directory: &Path, file: &str, content: &str) {
    for (name, bytes) in maitre_bundled::DRAFT.files {
        fs::write(directory.join(name), bytes).unwrap();
    }
    fs::write(directory.join(file), content).unwrap();
}

/// What follows the level of the last line that was logged.
fn message(logged: &str) -> String {
    let line = logged.lines().last().unwrap();
    line.split_once("ERROR ").unwrap().1.to_owned()
}

#[test]
fn every_command_names_the_file_and_says_the_cause_once() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 78\n";
    for (file, content, cause) in [
        ("config.json", "{", "line 1 column 1"),
        ("config.json", pointer, "git-LFS pointer"),
        (
            "generation_config.json",
            "{\"top_p\": 1.05}",
            "top_p is 1.05",
        ),
        ("tokenizer_config.json", "[", "line 1 column 1"),
        ("model.safetensors", "", "is empty"),
        ("model.safetensors", pointer, "git-LFS pointer"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        write_model(directory.path(), file, content);
        let path = directory.path().to_str().unwrap();
        let started = message(&fails(&["generate", "--model", path, "--prompt", "x"], 1));
        assert!(started.contains(file), "{started}");
        assert_eq!(started.matches(cause).count(), 1, "{started}");
        let inspected = message(&fails(&["inspect", "--model", path], 1));
        assert_eq!(inspected, started);
        if !file.starts_with("generation") && !file.starts_with("tokenizer") {
            let draft = ["inspect", "--draft-model", path];
            let expected = format!("the draft model (--draft-model) can't be used: {started}");
            assert_eq!(message(&fails(&draft, 1)), expected);
        }
    }
}
