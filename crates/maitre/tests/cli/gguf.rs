//! GGUF files on the command line: what `inspect` tells of them, and what it refuses.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{fails, maitre, stderr, stdout};

fn fixture(name: &str) -> PathBuf {
    let fixtures =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../maitre-model/tests/fixtures/gguf");
    fixtures.join(format!("{name}.gguf"))
}

fn inspected(path: &Path, more: &[&str]) -> String {
    let path = path.to_str().unwrap();
    let output = maitre(&[&["inspect", "--model", path][..], more].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output)
}

#[test]
fn inspect_tells_formats_and_groups_of_a_file() {
    let text = inspected(&fixture("gemma3-f32-linear"), &[]);
    for line in [
        "gemma3-f32-linear.gguf: Gemma3ForCausalLM",
        "KV groups           1 that read all, 5 that read the last 8 tokens, of up to 1 layers",
        "KV of a group       56 bytes/token (bf16)",
        "embedding       F32             1       0.0 MiB",
        "attention       F32            24       0.0 MiB",
        "MLP             F32            18       0.0 MiB",
        "norms, biases   F32            37       0.0 MiB",
        "all                            80       0.1 MiB",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&inspected(&fixture("gemma3-f32-linear"), &["--json"])).unwrap();
    assert_eq!(json["stored"][0]["used_for"], "embedding");
    assert_eq!(json["stored"][0]["supported"], true);
    assert_eq!(json["kv_groups"][0]["bf16_bytes_per_token"], 56);
}

#[test]
fn a_directory_with_one_file_is_that_file() {
    let directory = tempfile::tempdir().unwrap();
    fs::copy(fixture("qwen2-bf16-yarn"), directory.path().join("m.gguf")).unwrap();
    let text = inspected(directory.path(), &[]);
    assert!(text.contains("m.gguf: Qwen2ForCausalLM"), "{text}");
    assert!(text.contains("BF16"), "{text}");
}

/// What `--dtype auto` keeps of a file of blocks has no other name: a line of its own says what it takes.
#[test]
fn inspect_tells_what_a_file_takes_as_it_is() {
    let text = inspected(&fixture("gemma3-f32-linear"), &[]);
    assert!(!text.contains("\nauto "), "{text}");
    let Some(data) = std::env::var_os("MAITRE_TEST_DATA") else {
        println!("skipped: MAITRE_TEST_DATA is not set");
        return;
    };
    let model = Path::new(&data).join("models/smollm2-135m-instruct-q4_1");
    let json: serde_json::Value = serde_json::from_str(&inspected(&model, &["--json"])).unwrap();
    let bytes = |dtype: &str| json["dtypes"][dtype]["weight_bytes"].as_u64().unwrap();
    // The file's bytes: Q4_1 and Q8_0 take as much in memory, and norms are f32.
    let stored = json["stored"].as_array().unwrap().iter();
    let stored: u64 = stored.map(|row| row["bytes"].as_u64().unwrap()).sum();
    assert_eq!(bytes("auto"), stored);
    assert!(bytes("int4") < stored && stored < bytes("int8"));
    let text = inspected(&model, &[]);
    assert!(text.contains("\nauto "), "{text}");
}

/// Of formats that are not read, all are told, and the reason names one tensor.
#[test]
fn inspect_tells_formats_that_are_not_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("m.gguf");
    let mut file = fs::read(fixture("qwen2-bf16-yarn")).unwrap();
    // The name of a tensor is followed by its dimensions, two sizes, and the number of its format, which becomes I16.
    let name = b"blk.1.attn_output.weight";
    let at = file
        .windows(name.len())
        .position(|part| part == name)
        .unwrap();
    let format = at + name.len() + 4 + 2 * 8;
    assert_eq!(file[format], 30, "BF16");
    file[format] = 25;
    fs::write(&path, file).unwrap();
    let path = path.to_str().unwrap();
    let output = maitre(&["inspect", "--model", path]);
    assert_eq!(output.status.code(), Some(1));
    let text = stdout(&output);
    assert!(
        text.contains("attention       I16             1       0.0 MiB  not supported\n"),
        "{text}"
    );
    assert!(text.contains("attention       BF16           11"), "{text}");
    let said = stderr(&output);
    let expected =
        "the tensor blk.1.attn_output.weight is in the format I16, which is not supported";
    assert!(said.contains(expected), "{said}");
    // A script reads stdout, which has nothing then.
    fails(&["inspect", "--json", "--model", path], 1);
}

#[test]
fn an_unknown_family_is_refused_with_those_there_are() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("m.gguf");
    let mut file = fs::read(fixture("qwen2-bf16-yarn")).unwrap();
    let at = file.windows(5).position(|part| part == b"qwen2").unwrap();
    file[at..at + 5].copy_from_slice(b"qwen9");
    fs::write(&path, file).unwrap();
    let said = fails(&["inspect", "--model", path.to_str().unwrap()], 1);
    let expected = "has the unknown model architecture \"qwen9\" in general.architecture; supported: llama, qwen2, qwen3, \
                    gemma3, gemma2, phi3, olmo2";
    assert!(said.contains(expected), "{said}");
}
