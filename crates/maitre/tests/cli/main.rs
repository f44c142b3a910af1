//! The binary as scripts see it: results on stdout, logs on stderr, exit codes, and at start a
//! message for every mistake that says what happened, what was expected and what to do.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod bench;
mod bench_loads;
mod chat;
mod chat_terminal;
mod device_fit;
mod generate;
mod gguf;
mod gpu_check;
mod list;
mod logs;
mod model_files;
mod pages;
mod plan;
mod settings;
mod simulate;
mod speculation;
mod surroundings;
mod text_files;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use maitre::CpuPath;
use tempfile::TempDir;

pub(crate) fn maitre(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_maitre"))
        .args(arguments)
        .output()
        .unwrap()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Whether a run failed because the emulator is not in this build, or could not be built.
pub(crate) fn lacks_emulator(output: &Output) -> bool {
    let said = stderr(output);
    let is_not_built = said.contains("--features cuda-emulator");
    assert!(!(is_not_built && cfg!(feature = "cuda-emulator")), "{said}");
    !output.status.success() && (is_not_built || said.contains("C++ compiler"))
}

/// Runs, expects failure with this exit code, and returns what was said.
pub(crate) fn fails(arguments: &[&str], code: i32) -> String {
    let output = maitre(arguments);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    assert!(
        output.stdout.is_empty(),
        "results only on stdout: {}",
        stdout(&output)
    );
    assert!(!said.contains("panicked"), "{said}");
    said
}

#[test]
fn generate_prints_one_json_object() {
    let output = maitre(&[
        "generate",
        "--raw",
        "--prompt",
        "Once upon a time",
        "--max-tokens",
        "5",
        "--temperature",
        "0",
        "--json",
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    let answer: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(answer["token_ids"].as_array().unwrap().len(), 5);
    assert_eq!(answer["finish_reason"], "length");
    assert_eq!(answer["usage"]["completion_tokens"], 5);
    assert!(
        answer["text"].as_str().unwrap().starts_with(','),
        "{answer}"
    );
}

#[test]
fn the_same_seed_gives_the_same_answer() {
    let run = |seed: &str| {
        stdout(&maitre(&[
            "generate",
            "--prompt",
            "Once",
            "--max-tokens",
            "12",
            "--temperature",
            "1",
            "--seed",
            seed,
        ]))
    };
    assert_eq!(run("7"), run("7"));
    assert_ne!(run("7"), run("8"));
}

#[test]
fn slow_kernels_are_announced_and_fast_ones_are_not() {
    let said = |path: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_maitre"));
        command.env_remove("MAITRE_CPU");
        if let Some(path) = path {
            command.env("MAITRE_CPU", path);
        }
        let arguments = ["generate", "-v", "--prompt", "Once", "--max-tokens", "1"];
        let output = command.args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        stderr(&output)
    };
    let caveat = "the portable kernels";
    assert_eq!(said(Some("portable")).matches(caveat).count(), 1);
    let fastest = said(None);
    assert_eq!(fastest.contains(caveat), fastest.contains("(portable)"));
}

#[test]
fn each_path_of_the_processor_can_be_forced_and_others_are_refused() {
    let run = |path: CpuPath, batched: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_maitre"));
        command.env("MAITRE_CPU", path.to_string());
        let prompt = "Once upon a time there was a dog who lived in a house by the sea";
        let sizes = ["--max-seqs", "1", "--max-batched-tokens", batched];
        let arguments = ["generate", "-v", "--dtype", "bf16", "--prompt", prompt];
        let greedy = ["--temperature", "0", "--max-tokens", "24"];
        command.args(arguments).args(sizes).args(greedy);
        command.output().unwrap()
    };
    for path in CpuPath::ALL {
        // A step of 40 tokens takes the prompt whole, steps of three are other blocks of rows.
        let whole = run(path, "40");
        if CpuPath::available().all(|available| available != path) {
            assert!(!whole.status.success());
            let refused = stderr(&whole);
            let is_named = refused.contains("MAITRE_CPU") && refused.contains(&path.to_string());
            assert!(is_named, "{refused}");
            continue;
        }
        let said = stderr(&whole);
        assert!(said.contains(&format!("({path})")), "{said}");
        assert!(!stdout(&whole).is_empty());
        assert_eq!(stdout(&whole), stdout(&run(path, "3")), "{path}");
    }
}

#[test]
fn inspect_counts_parameters_and_bytes() {
    let facts: serde_json::Value =
        serde_json::from_str(&stdout(&maitre(&["inspect", "--json"]))).unwrap();
    assert_eq!(facts["parameters"], 5_771_264);
    // 6 layers, keys and values, 2 heads of 64, 2 bytes.
    assert_eq!(
        facts["dtypes"]["bf16"]["kv_bytes_per_token"],
        6 * 2 * 2 * 64 * 2
    );
    let text = stdout(&maitre(&["inspect"]));
    assert!(
        text.contains("Qwen3ForCausalLM") && text.contains("5.77 M"),
        "{text}"
    );
}

#[test]
fn inspect_counts_the_cache_in_the_dtype_asked_for() {
    let heads = 6 * 2 * 2;
    for (asked, beside_f32, beside_int4) in [
        ("auto", ("f32", heads * 64 * 4), ("bf16", heads * 64 * 2)),
        ("f32", ("f32", heads * 64 * 4), ("f32", heads * 64 * 4)),
        ("bf16", ("bf16", heads * 64 * 2), ("bf16", heads * 64 * 2)),
        // A scale for each key and each value.
        (
            "int8",
            ("int8", heads * (64 + 4)),
            ("int8", heads * (64 + 4)),
        ),
    ] {
        let output = maitre(&["inspect", "--json", "--kv-dtype", asked]);
        let facts: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
        for (weights, (kv, bytes)) in [("f32", beside_f32), ("int4", beside_int4)] {
            let entry = &facts["dtypes"][weights];
            assert_eq!(entry["kv_dtype"], kv, "{asked}, {weights}");
            assert_eq!(entry["kv_bytes_per_token"], bytes, "{asked}, {weights}");
        }
    }
    let text = stdout(&maitre(&["inspect", "--kv-dtype", "int8"]));
    assert_eq!(text.matches("int8              1632").count(), 5, "{text}");
    let refused = maitre(&["inspect", "--kv-dtype", "int2"]);
    assert!(stderr(&refused).contains("[possible values: auto, f32, bf16, int8]"));
    assert!(stdout(&maitre(&["inspect", "--help"])).contains("--kv-dtype"));
}

#[test]
fn bad_usage_is_exit_code_2() {
    for (arguments, expected) in [
        (&["serve", "--no-such-flag"][..], "--no-such-flag"),
        (&["serve", "--dtype", "int3"], "int3"),
        (&["serve", "--device", "cuda"], "built without CUDA"),
        (&["serve", "--grpc-addr", "nowhere"], "--grpc-addr"),
        (&["serve", "--drain-timeout=-1"], "--drain-timeout"),
        (&["generate"], "--prompt"),
        (&["bench", "--target", "carrier-pigeon"], "carrier-pigeon"),
        (&["bench", "--concurrency", "1,zero"], "zero"),
        (&["nonsense"], "nonsense"),
    ] {
        let said = fails(arguments, 2);
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
}

/// A directory with a bundled model's files, to be spoiled.
pub(crate) fn model_directory(model: &maitre_bundled::BundledModel) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, bytes) in model.files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

/// A trace in a folder, with three requests, a row out of the order of time and a line that is no row.
pub(crate) fn unordered_trace(folder: &TempDir) -> String {
    let file = folder.path().join("trace.jsonl");
    let line = |at: u64| format!(r#"{{"timestamp": {at}, "input_length": 9, "output_length": 3}}"#);
    let lines = [
        line(0),
        line(90_000_000),
        "nothing".to_owned(),
        line(20),
        line(30),
    ];
    fs::write(&file, lines.join("\n")).unwrap();
    file.to_str().unwrap().to_owned()
}

pub(crate) fn edit(path: &Path, change: impl FnOnce(String) -> String) {
    fs::write(path, change(fs::read_to_string(path).unwrap())).unwrap();
}

type Spoil = fn(&Path);

#[test]
fn a_model_that_cannot_be_used_is_refused_by_name() {
    let cases: &[(Spoil, &[&str])] = &[
        (
            |m| fs::remove_file(m.join("config.json")).unwrap(),
            &["config.json"],
        ),
        (
            |m| fs::write(m.join("config.json"), "{").unwrap(),
            &["config.json", "JSON"],
        ),
        (
            |m| fs::remove_file(m.join("tokenizer.json")).unwrap(),
            &["tokenizer.json"],
        ),
        (
            |m| fs::write(m.join("tokenizer.json"), "[]").unwrap(),
            &["tokenizer"],
        ),
        (
            |m| fs::remove_file(m.join("model.safetensors")).unwrap(),
            &["model.safetensors"],
        ),
        (
            |m| {
                let bytes = fs::read(m.join("model.safetensors")).unwrap();
                fs::write(m.join("model.safetensors"), &bytes[..bytes.len() / 2]).unwrap();
            },
            &["model.safetensors", "truncated"],
        ),
        (
            |m| {
                edit(&m.join("config.json"), |c| {
                    c.replace("\"intermediate_size\": 768", "\"intermediate_size\": 512")
                })
            },
            &["mlp", "768", "512"],
        ),
        (
            |m| {
                edit(&m.join("config.json"), |c| {
                    c.replace("Qwen3ForCausalLM", "MambaForCausalLM")
                        .replace("\"qwen3\"", "\"mamba\"")
                })
            },
            &["Mamba"],
        ),
        (
            |m| {
                edit(&m.join("config.json"), |c| {
                    c.replace("\"rope_type\": \"default\"", "\"rope_type\": \"dynamic\"")
                })
            },
            &["dynamic", "default", "llama3"],
        ),
        (
            |m| {
                edit(&m.join("config.json"), |c| {
                    c.replace(
                        "\"sliding_window\": null",
                        "\"quantization_config\": {\"quant_method\": \"awq\"}",
                    )
                })
            },
            &["quantization_config"],
        ),
        (
            |m| {
                edit(&m.join("config.json"), |c| {
                    c.replace(
                        "\"use_sliding_window\": false",
                        "\"use_sliding_window\": true",
                    )
                    .replace("\"sliding_window\": null", "\"sliding_window\": 128")
                })
            },
            &["sliding_window"],
        ),
        (
            |m| {
                edit(&m.join("tokenizer.json"), |t| {
                    t.replacen("\"id\": 6,", "\"id\": 6000,", 1)
                        .replacen("\"id\":6,", "\"id\":6000,", 1)
                        .replacen("\"</think>\":6", "\"</think>\":6000", 1)
                        .replacen("\"</think>\": 6", "\"</think>\": 6000", 1)
                });
            },
            &["6000", "4096", "another model"],
        ),
    ];
    let defaults: &[(Spoil, &[&str])] = &[
        (
            |m| fs::write(m.join("generation_config.json"), r#"{"temperature": -1}"#).unwrap(),
            &["generation_config.json", "temperature", "-1"],
        ),
        (
            |m| {
                fs::write(
                    m.join("generation_config.json"),
                    r#"{"eos_token_id": 99999}"#,
                )
                .unwrap()
            },
            &["generation_config.json", "eos_token_id", "99999"],
        ),
    ];
    for (index, (spoil, expected)) in cases.iter().chain(defaults).enumerate() {
        let folder = model_directory(&maitre_bundled::TARGET);
        spoil(folder.path());
        let said = fails(
            &[
                "generate",
                "--prompt",
                "x",
                "--model",
                folder.path().to_str().unwrap(),
            ],
            1,
        );
        for word in *expected {
            assert!(
                said.contains(word),
                "case {index}: {word:?} is missing in: {said}"
            );
        }
    }
    let said = fails(
        &["generate", "--prompt", "x", "--model", "./no/such/model"],
        1,
    );
    assert!(
        said.contains("no/such/model") && said.contains("does not exist"),
        "{said}"
    );
}

#[test]
fn a_model_is_made_up_from_its_configuration_alone() {
    let folder = TempDir::new().unwrap();
    let config = maitre_bundled::TARGET.file("config.json").unwrap();
    fs::write(folder.path().join("config.json"), config).unwrap();
    let model = folder.path().to_str().unwrap();
    let run = |seed: &str| {
        maitre(&[
            "generate",
            "--prompt",
            "x",
            "--max-tokens",
            "8",
            "--temperature",
            "0",
            "--ignore-eos",
            "--json",
            "--load-format",
            "random",
            "--seed",
            seed,
            "--model",
            model,
        ])
    };
    let tokens = |output: Output| {
        assert!(output.status.success(), "{}", stderr(&output));
        let answer: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
        answer["token_ids"].clone()
    };
    assert_eq!(tokens(run("1")), tokens(run("1")));
    assert_ne!(tokens(run("1")), tokens(run("2")));
}
