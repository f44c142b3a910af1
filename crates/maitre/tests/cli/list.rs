//! Short names, and the models that are in the cache.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::{fails, maitre, stderr, stdout};

#[test]
fn a_short_name_that_is_none_is_answered_with_near_ones() {
    for (name, expected) in [
        (
            "qwen3:8b",
            "there is no model of the short name qwen3:8b; near are qwen3:0.6b, qwen3:1.7b, qwen3:4b; `maitre list --available` \
             tells all",
        ),
        (
            "smollm2",
            "smollm2 does not exist here; near are smollm2:135m",
        ),
        (
            "tea:pot",
            "there is no model of the short name tea:pot; `maitre list --available` tells those there are",
        ),
        ("tea", "model directory tea does not exist"),
    ] {
        let said = fails(&["inspect", "--model", name], 1);
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn what_is_available_is_listed_for_scripts_too() {
    let all: serde_json::Value =
        serde_json::from_str(&stdout(&maitre(&["list", "--available", "--json"]))).unwrap();
    let all = all.as_array().unwrap();
    let table = stdout(&maitre(&["list", "--available"]));
    assert_eq!(table.lines().count(), all.len() + 1);
    for model in all {
        let file = format!(
            "{}:{}",
            model["repository"].as_str().unwrap(),
            model["file"].as_str().unwrap()
        );
        assert!(table.contains(&file), "{file}");
        assert_eq!(model["revision"], "main");
        assert!(!model["licence"].as_str().unwrap().is_empty());
    }
}

#[cfg(feature = "hub")]
#[test]
fn complete_models_of_the_cache_are_listed() {
    let cache = tempfile::tempdir().unwrap();
    let list = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_maitre"));
        command
            .env("HF_HUB_CACHE", cache.path())
            .arg("list")
            .args(more);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output)
    };
    assert_eq!(list(&[]), "--model  size\n");
    let commit = "0".repeat(40);
    let repository = |name: &str, files: &[(&str, usize)]| {
        let root = cache.path().join(name);
        let write = |path: &Path, bytes: &[u8]| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        write(&root.join("refs/main"), commit.as_bytes());
        for (file, bytes) in files {
            write(
                &root.join("snapshots").join(&commit).join(file),
                &vec![0; *bytes],
            );
        }
    };
    repository(
        "models--tea--leaf",
        &[
            ("config.json", 24),
            ("model.safetensors", 1000),
            ("tokenizer.json", 0),
        ],
    );
    repository("models--tea--half", &[("config.json", 2)]);
    repository(
        "models--tea--pot",
        &[
            ("pot-Q4_K_M.gguf", 2048),
            ("b/pot-Q8_0-00001-of-00002.gguf", 100),
            ("b/pot-Q8_0-00002-of-00002.gguf", 100),
            ("pot-F16-00001-of-00002.gguf", 100),
            ("mmproj-pot.gguf", 100),
        ],
    );
    repository("datasets--tea--cups", &[("config.json", 2)]);
    assert_eq!(
        list(&[]),
        "--model         size\ntea/leaf        1.00 KiB\ntea/pot:Q8_0    200 B\ntea/pot:Q4_K_M  2.00 KiB\n"
    );
    let json: serde_json::Value = serde_json::from_str(&list(&["--json"])).unwrap();
    assert_eq!(json[0]["model"], "tea/leaf");
    assert_eq!(json[0]["bytes"], 1024);
    let path = json[1]["path"].as_str().unwrap();
    assert!(path.ends_with("b/pot-Q8_0-00001-of-00002.gguf"), "{path}");
}
