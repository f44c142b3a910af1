//! `maitre inspect --device`: whether a model fits a device, by the rules of a start.

use std::fs;

use maitre::available_memory;
use serde_json::Value;
use tempfile::TempDir;

use crate::{edit, fails, lacks_emulator, maitre, stderr, stdout};

/// What is printed; `None` after saying that there is no emulator.
fn inspect(arguments: &[&str]) -> Option<String> {
    let output = maitre(&[&["inspect"][..], arguments].concat());
    if lacks_emulator(&output) {
        println!("skipped: {}", stderr(&output));
        return None;
    }
    assert!(output.status.success(), "{}", stderr(&output));
    Some(stdout(&output))
}

fn facts(printed: &str) -> Value {
    serde_json::from_str(printed).unwrap()
}

#[test]
fn nothing_is_said_of_a_device_unless_it_is_asked_for() {
    let plain = inspect(&[]).unwrap();
    let asked = inspect(&["--device", "cpu"]).unwrap();
    assert!(!plain.contains("fits"), "{plain}");
    let added = asked.lines().count() - plain.lines().count();
    assert_eq!(added, 8, "{asked}");
    let plain = facts(&inspect(&["--json"]).unwrap());
    let mut asked = facts(&inspect(&["--json", "--device", "cpu"]).unwrap());
    assert!(plain.get("device").is_none(), "{plain}");
    assert!(asked.as_object_mut().unwrap().remove("device").is_some());
    let names = |facts: &Value| -> Vec<String> {
        let facts = facts.as_object().unwrap();
        facts.keys().cloned().collect()
    };
    assert_eq!(names(&plain), names(&asked));
}

#[test]
fn the_parts_add_up_on_every_device() {
    for device in ["cpu", "emulator"] {
        let small = ["--dtype", "int8", "--max-model-len", "512"];
        let arguments = [&["--device", device][..], &small].concat();
        let Some(text) = inspect(&arguments) else {
            return;
        };
        let title = format!("device              {device} (");
        for line in [
            title.as_str(),
            "weights             5.5 MiB (int8), draft 0.9 MiB",
            "sequences of 512 tokens",
            "fits                yes",
        ] {
            assert!(text.contains(line), "{line} is missing in {text}");
        }
        assert_eq!(text.contains("activations"), device == "emulator", "{text}");
        let facts = facts(&inspect(&[&arguments[..], &["--json"]].concat()).unwrap());
        let fit = &facts["device"];
        let number = |name: &str| {
            fit[name]
                .as_u64()
                .unwrap_or_else(|| panic!("{name}: {fit}"))
        };
        assert!(fit["fits"] == true && fit["problem"].is_null(), "{fit}");
        assert_eq!(fit["activation_bytes"].is_u64(), device == "emulator");
        assert!(number("weight_bytes") > number("draft_weight_bytes"));
        assert!(number("left_for_kv_bytes") < number("free_bytes"), "{fit}");
        assert!(number("kv_cache_bytes") <= number("left_for_kv_bytes"));
        // Of the model and of its draft: layers, keys and values, heads of 64, 2 bytes.
        let per_token = (6 * 2 + 2) * 2 * 64 * 2;
        assert_eq!(number("kv_bytes_per_token"), per_token);
        assert_eq!(number("kv_tokens"), number("kv_cache_bytes") / per_token);
        assert_eq!(number("whole_sequences"), number("kv_tokens") / 512);
    }
}

#[test]
fn a_model_that_is_too_large_is_told_with_the_numbers() {
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("config.json");
    fs::write(&config, maitre_bundled::TARGET.file("config.json").unwrap()).unwrap();
    edit(&config, |text| {
        let small = "\"intermediate_size\": 768";
        assert!(text.contains(small), "{text}");
        text.replace(small, "\"intermediate_size\": 1000000000")
    });
    let model = folder.path().to_str().unwrap();
    for device in ["cpu", "emulator"] {
        if device == "cpu" && available_memory().is_none() {
            continue;
        }
        let Some(text) = inspect(&["--model", model, "--device", device]) else {
            return;
        };
        let verdict = "fits                no: the engine would need ";
        assert!(text.contains(verdict), "{text}");
        let facts = facts(&inspect(&["--json", "--model", model, "--device", device]).unwrap());
        let fit = &facts["device"];
        assert_eq!(fit["fits"], false, "{fit}");
        let problem = fit["problem"].as_str().unwrap();
        assert!(problem.contains("a smaller model"), "{problem}");
    }
}

#[test]
fn what_a_start_on_the_device_refuses_is_refused() {
    for (arguments, expected) in [
        (&["--device", "nonsense"][..], "auto, cpu, cuda, cuda:N"),
        (&["--dtype", "int8"], "--device"),
        (&["--max-model-len", "512"], "--device"),
        (
            &["--device", "cpu", "--max-model-len", "99999"],
            "at most 2048",
        ),
    ] {
        let said = fails(&[&["inspect"][..], arguments].concat(), 2);
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
    if !cfg!(feature = "cuda") {
        let said = fails(&["inspect", "--device", "cuda"], 2);
        assert!(said.contains("built without CUDA"), "{said}");
    }
    let output = maitre(&["inspect", "--device", "emulator", "--dtype", "f16"]);
    if !lacks_emulator(&output) {
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains("f16"), "{}", stderr(&output));
    }
}
