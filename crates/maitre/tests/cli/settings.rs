//! Settings that can't work, and settings from a file.

use std::fs;

use maitre::PolicyKind;
use tempfile::TempDir;

use crate::{fails, lacks_emulator, maitre, stderr, stdout};

#[test]
fn settings_that_cannot_work_are_refused_with_ones_that_do() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let too_many = (cores + 1).to_string();
    let within_cores = format!("at least 1 and at most {cores}, the cores this process may use");
    for (arguments, expected) in [
        (
            &["--block-size", "0"][..],
            &["--block-size", "at least 1"][..],
        ),
        (&["--max-seqs", "0"], &["--max-seqs", "at least 1"]),
        (&["--threads", "0"], &["--threads is 0", &within_cores]),
        (
            &["--threads", &too_many],
            &["--threads is", &too_many, &within_cores],
        ),
        (&["--max-queue", "0"], &["--max-queue", "at least 1"]),
        (
            &["--max-batched-tokens", "4", "--max-seqs", "8"],
            &["--max-batched-tokens", "--max-seqs (8)"],
        ),
        (
            &["--max-model-len", "4096"],
            &["--max-model-len", "at most 2048"],
        ),
        (
            &["--block-size", "9223372036854775808"],
            &["--block-size", "at most 65536"],
        ),
        (
            &["--max-queue", "18446744073709551615"],
            &["--max-queue", "at most 16777216"],
        ),
        (
            &["--max-queued-tokens", "0"],
            &["--max-queued-tokens", "at least 1"],
        ),
        (
            &["--itl-target-ms", "0"],
            &["--itl-target-ms", "at least 1"],
        ),
        (
            &["--policy", "fair", "--max-queue-wait-ms", "5"],
            &["--max-queue-wait-ms is 5", "--policy fcfs"],
        ),
        (
            &["--tenant-weight", "acme=3"],
            &["--tenant-weight is acme=3", "--policy fair"],
        ),
        (
            &["--no-prefix-cache", "--host-kv-bytes", "9999999"],
            &["--host-kv-bytes", "0 with --no-prefix-cache"],
        ),
        (
            &["--no-prefix-cache", "--cache-events"],
            &["--cache-events is on", "nothing to tell"],
        ),
        (
            &["--host-kv-bytes", "10"],
            &["--host-kv-bytes is 10", "at least 49152, one page"],
        ),
        (
            &["--host-kv-bytes", "18446744073709551615"],
            &["--host-kv-bytes", "at most"],
        ),
    ] {
        let said = fails(&[&["generate", "--prompt", "x"], arguments].concat(), 2);
        for word in expected {
            assert!(
                said.contains(word),
                "{arguments:?}: {word:?} is missing in: {said}"
            );
        }
    }
    for (arguments, expected) in [
        (
            ["--kv-cache-bytes", "1000"],
            ["--kv-cache-bytes", "at least 7340032"],
        ),
        (
            ["--host-kv-bytes", "100000000000000"],
            ["host KV 99999999983616", "--host-kv-bytes"],
        ),
    ] {
        let said = fails(
            &[&["generate", "--prompt", "x"][..], &arguments].concat(),
            1,
        );
        for word in expected {
            assert!(
                said.contains(word),
                "{arguments:?}: {word:?} is missing in: {said}"
            );
        }
    }
    let works = maitre(&[
        "generate",
        "--prompt",
        "x",
        "--max-tokens",
        "1",
        "--kv-cache-bytes",
        "7340032",
    ]);
    assert!(
        works.status.success(),
        "the value that was named works: {}",
        stderr(&works)
    );
}

#[test]
fn flags_may_come_from_a_file_and_are_checked_alike() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("maitre.toml");
    fs::write(&file, "max-tokens = 2\ntemperature = 0.0\n").unwrap();
    let config = file.to_str().unwrap();
    let output = maitre(&[
        "generate", "--raw", "--prompt", "Once", "--json", "--config", config,
    ]);
    let answer: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(
        answer["usage"]["completion_tokens"],
        2,
        "{}",
        stderr(&output)
    );
    fs::write(&file, "no-such-flag = 2\n").unwrap();
    let said = fails(&["generate", "--prompt", "Once", "--config", config], 2);
    assert!(said.contains("--no-such-flag"), "{said}");
}

/// What the emulator says of itself when an engine starts on it, or `None` after saying that there is none.
fn banner_on_the_emulator(arguments: &[&str]) -> Option<String> {
    let common = [
        "generate",
        "-v",
        "--raw",
        "--device",
        "emulator",
        "--prompt",
        "Once",
        "--max-tokens",
        "2",
    ];
    let small = [
        "--max-seqs",
        "2",
        "--max-model-len",
        "64",
        "--kv-cache-bytes",
        "4000000",
    ];
    let output = maitre(&[&common[..], &small, arguments].concat());
    let said = stderr(&output);
    if lacks_emulator(&output) {
        println!("skipped: {said}");
        return None;
    }
    assert!(output.status.success(), "{said}");
    Some(said)
}

#[test]
fn determinism_is_switched_on_the_command_line_and_in_a_file() {
    let folder = TempDir::new().unwrap();
    let file = |text: &str| {
        let path = folder.path().join("maitre.toml");
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    for (arguments, is_on) in [
        (vec![], true),
        (vec!["--deterministic", "on"], true),
        (vec!["--deterministic", "off"], false),
        (vec!["--deterministic=off"], false),
        (vec!["--config", &file("deterministic = \"off\"")], false),
    ] {
        let Some(said) = banner_on_the_emulator(&arguments) else {
            return;
        };
        assert!(said.contains("emulator (emulator"), "{said}");
        assert_eq!(
            !said.contains("not deterministic"),
            is_on,
            "{arguments:?}: {said}"
        );
    }
    let path = file("deterministic = false");
    let said = banner_on_the_emulator(&["--config", &path]).unwrap();
    assert!(said.contains("not deterministic"), "{said}");
    for (arguments, expected) in [
        (["--deterministic", "maybe"], "on, off"),
        (["--device", "nonsense"], "auto, cpu, cuda, cuda:N"),
    ] {
        let said = fails(
            &[&["generate", "--prompt", "x"][..], &arguments].concat(),
            2,
        );
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn every_policy_has_its_name_on_the_command_line() {
    for policy in PolicyKind::ALL {
        let output = maitre(&[
            "generate",
            "-v",
            "--prompt",
            "Once",
            "--max-tokens",
            "1",
            "--policy",
            policy.name(),
        ]);
        let said = stderr(&output);
        assert!(said.contains(&format!("policy {policy},")), "{said}");
        let help = stdout(&maitre(&["serve", "--help"]));
        assert!(help.contains(&format!("- {policy}:")), "{help}");
    }
    let said = fails(&["generate", "--prompt", "x", "--policy", "lottery"], 2);
    for policy in PolicyKind::ALL {
        assert!(said.contains(policy.name()), "{said}");
    }
}
