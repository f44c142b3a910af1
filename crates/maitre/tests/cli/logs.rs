//! What is logged: commands that run once say what went wrong, and more where that is asked for.

use std::process::Command;

use crate::{stderr, stdout};

fn said(arguments: &[&str], log: Option<&str>) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_maitre"));
    command.args(arguments).env_remove("RUST_LOG");
    if let Some(log) = log {
        command.env("RUST_LOG", log);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!stdout(&output).contains("INFO"));
    stderr(&output)
}

const GENERATE: [&str; 7] = [
    "generate",
    "--device",
    "cpu",
    "--prompt",
    "Once",
    "--max-tokens",
    "1",
];

/// Of a processor with fast kernels.
fn without_caveat(said: &str) -> String {
    let lines = said
        .lines()
        .filter(|line| !line.contains("portable kernels"));
    lines.collect()
}

#[test]
fn commands_that_run_once_are_quiet() {
    let bench = [
        "bench",
        "--device",
        "cpu",
        "--concurrency",
        "1",
        "--requests",
        "1",
        "--output-tokens",
        "2",
    ];
    for arguments in [
        &GENERATE[..],
        &bench,
        &["inspect"],
        &["chat", "--device", "cpu"],
    ] {
        let said = said(arguments, None);
        assert_eq!(without_caveat(&said), "", "{arguments:?}");
    }
}

#[test]
fn more_is_logged_where_that_is_asked_for() {
    let verbose = [&GENERATE[..], &["-v"]].concat();
    let more = said(&verbose, None);
    assert!(more.contains("INFO loading bundled"), "{more}");
    assert!(more.contains("INFO loaded the model"), "{more}");
    let before = [&["--verbose"], &GENERATE[..]].concat();
    assert!(said(&before, None).contains("INFO loading bundled"));
    // The environment wins both ways.
    assert!(said(&GENERATE, Some("info")).contains("INFO loading bundled"));
    assert_eq!(without_caveat(&said(&verbose, Some("warn"))), "");
    let greedy = ["--raw", "--stop", ",", "--temperature", "0"];
    let stopped = [&GENERATE[..], &greedy].concat();
    let prompt = [&stopped[..], &["--prompt", "Once upon a time"]].concat();
    assert!(
        said(&prompt, None)
            .trim_start()
            .starts_with("WARN the answer is empty")
    );
    assert_eq!(said(&prompt, Some("error")), "");
}
