//! `maitre bench` beyond users who wait: open loops, traces, conversations, bounds, the capacity, comparisons.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::{fails, maitre, stderr, stdout};

/// Few tokens of the bundled model on one thread.
const SMALL: [&str; 7] = [
    "bench",
    "--threads",
    "1",
    "--output-tokens",
    "3",
    "--warmup-requests",
    "0",
];

/// The same without the length of answers.
const OF_TRACE: [&str; 5] = ["bench", "--threads", "1", "--warmup-requests", "0"];

#[track_caller]
fn report(flags: &[&str]) -> Value {
    // A trace says how long answers are.
    let small = match flags.contains(&"--trace") {
        true => &OF_TRACE[..],
        false => &SMALL,
    };
    let output = maitre(&[small, &["--json"], flags].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_str(&stdout(&output)).unwrap()
}

fn file(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    path
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn an_open_loop_takes_the_words_of_the_simulator() {
    let found = report(&[
        "--rate",
        "200",
        "--requests",
        "6",
        "--input-tokens",
        "2..9",
        "--slo",
        "e2e=60s",
    ]);
    let run = &found["runs"][0];
    assert_eq!(
        (&run["load"], &run["completed"]),
        (&"poisson:200".into(), &6.into())
    );
    assert_eq!(run["goodput"]["share"], 1.0);
    assert_eq!(found["workload"]["input_tokens"], "2..9");
    assert!(run["server"]["steps"].as_f64().unwrap() > 0.0, "{run}");
    let found = report(&["--arrivals", "steps:100x0.05,0x0.05,100x0.05"]);
    assert!(found["runs"][0]["offered_per_second"].is_number());
    let said = fails(&["bench", "--rate", "5", "--concurrency", "2"], 2);
    assert!(said.contains("--concurrency"), "{said}");
    let said = fails(&["bench", "--arrivals", "steps:3"], 2);
    assert!(said.contains("ramp:FROM..TO,SECONDS"), "{said}");
}

#[test]
fn a_trace_is_played_and_bad_lines_are_told_by_number() {
    let folder = TempDir::new().unwrap();
    let row = |at: u32, input: u32| {
        format!(
            "{{\"timestamp\": {at}, \"input_length\": {input}, \"output_length\": 20, \"hash_ids\": [7]}}\n"
        )
    };
    let trace = file(
        &folder,
        "trace.jsonl",
        &[row(0, 500), row(30, 500), row(60, 99_999_999)].concat(),
    );
    let replay = [
        "--trace",
        text(&trace),
        "--length-scale",
        "0.1",
        "--speed",
        "2",
    ];
    let said = fails(&[&OF_TRACE[..], &replay].concat(), 1);
    assert!(said.contains("context holds"), "{said}");
    let found = report(&[&replay[..], &["--skip-bad"]].concat());
    assert_eq!(found["runs"][0]["completed"], 2);
    assert_eq!(found["runs"][0]["load"], "trace x 2");

    let bad = file(
        &folder,
        "bad.jsonl",
        &[row(0, 5), "{}\n".to_owned()].concat(),
    );
    let said = fails(&[&OF_TRACE[..], &["--trace", text(&bad)]].concat(), 1);
    assert!(
        said.contains("line 2: ") && said.contains("--skip-bad"),
        "{said}"
    );
    let found = report(&[
        "--trace",
        text(&bad),
        "--skip-bad",
        "--concurrency",
        "1",
        "--requests",
        "2",
    ]);
    assert_eq!(found["runs"][0]["input_tokens"], 10);
}

#[test]
fn conversations_are_recorded_or_drawn() {
    let folder = TempDir::new().unwrap();
    let chat = r#"{"conversations": [{"from": "human", "value": "Hello!"}, {"from": "gpt", "value": "Good morning."},
        {"from": "human", "value": "A table for two."}, {"from": "gpt", "value": "Gladly."}]}"#;
    let chats = file(&folder, "chats.jsonl", &chat.replace('\n', " "));
    let found = report(&["--trace", text(&chats), "--concurrency", "1"]);
    assert_eq!(found["runs"][0]["completed"], 2);
    // One of them has turns for all requests, but each user needs one.
    let both = format!("{0}\n{0}\n", chat.replace('\n', " "));
    let both = file(&folder, "both.jsonl", &both);
    let users = ["--concurrency", "2", "--requests", "2"];
    let found = report(&[&["--trace", text(&both)][..], &users].concat());
    assert_eq!(found["runs"][0]["completed"], 2);
    let found = report(&[
        "--turns",
        "2",
        "--concurrency",
        "1",
        "--requests",
        "4",
        "--input-tokens",
        "40",
        "--think-time",
        "1ms",
    ]);
    let run = &found["runs"][0];
    assert_eq!(run["completed"], 4);
    assert!(run["cached_tokens"].as_u64().unwrap() > 0, "{run}");
}

#[test]
fn reports_are_pages_and_are_compared() {
    let folder = TempDir::new().unwrap();
    let out = |name: &str| folder.path().join(name);
    for name in ["a", "b"] {
        report(&[
            "--concurrency",
            "1,2",
            "--out",
            text(&out(name)),
            "--slo",
            "ttft=1us",
        ]);
    }
    let markdown = fs::read_to_string(out("a").join("report.md")).unwrap();
    assert!(
        markdown.contains("| users | done |")
            && markdown.contains("no request of any run met the SLO"),
        "{markdown}"
    );
    let html = fs::read_to_string(out("a").join("report.html")).unwrap();
    assert!(html.starts_with("<!doctype html>") && html.matches("<svg").count() == 9);
    assert!(
        !html.contains("src=") && !html.contains("href="),
        "it needs no other file"
    );

    let (a, b) = (out("a").join("report.json"), out("b").join("report.json"));
    let output = maitre(&["bench", "--compare", text(&a), text(&b)]);
    assert!(output.status.success(), "{}", stderr(&output));
    let said = stdout(&output);
    assert!(
        said.contains("2 users") && said.contains("TTFT p99"),
        "{said}"
    );
    let same = maitre(&["bench", "--compare", text(&a), text(&a)]);
    assert!(!stdout(&same).contains("better") && stdout(&same).contains("no difference seen"));
    // The second server refused most of the requests, and answered the others soon: that is no better server.
    let mut refusing: Value = serde_json::from_str(&fs::read_to_string(&b).unwrap()).unwrap();
    for run in refusing["runs"].as_array_mut().unwrap() {
        run["requests"] = serde_json::json!(run["completed"].as_u64().unwrap() * 10);
        run["errors"] = serde_json::json!({"RESOURCE_EXHAUSTED": 9});
        for name in ["ttft_ms", "e2e_ms"] {
            for value in run["samples"][name].as_array_mut().unwrap() {
                *value = serde_json::json!(value.as_f64().unwrap() / 100.0);
            }
        }
    }
    let refusing = file(&folder, "refusing.json", &refusing.to_string());
    let said = stdout(&maitre(&["bench", "--compare", text(&a), text(&refusing)]));
    assert!(
        said.contains("the second report has") && said.contains("9 RESOURCE_EXHAUSTED"),
        "{said}"
    );
    assert!(said.contains("so none is called better or worse"), "{said}");
    let metrics = ["output tok/s", "TTFT", "E2E"];
    let mut lines = said.lines().filter(|line| {
        let name = line.trim_start();
        metrics.iter().any(|metric| name.starts_with(metric))
    });
    assert!(
        lines.all(|line| line.ends_with("other shares answered")),
        "{said}"
    );
    let none = file(&folder, "none.json", "{}");
    let said = fails(&["bench", "--compare", text(&a), text(&none)], 1);
    assert!(
        said.contains("none.json") && said.contains("no schema"),
        "{said}"
    );
}

#[test]
fn flags_that_would_do_nothing_are_refused() {
    // Each with the flag that the message names. Nothing is there to be measured, so that what is not refused fails with 1.
    const SERVER: [&str; 2] = ["--target", "grpc://127.0.0.1:1"];
    for (flags, named) in [
        (
            &["--trace", "f", "--output-tokens", "3"][..],
            "--output-tokens",
        ),
        (&["--trace", "f", "--input-tokens", "3"], "--input-tokens"),
        (&["--trace", "f", "--turns", "2"], "--turns"),
        (&["--trace", "f", "--prompts", "g"], "--prompts"),
        (&["--prompts", "f", "--input-tokens", "3"], "--input-tokens"),
        (&["--prompts", "f", "--turns", "3"], "--turns"),
        (&["--speed", "2"], "--trace"),
        (&["--length-scale", "2"], "--trace"),
        (&["--skip-bad"], "--trace"),
        (&["--trace", "f", "--speed", "2", "--rate", "1"], "--speed"),
        (
            &["--trace", "f", "--speed", "2", "--concurrency", "1"],
            "--speed",
        ),
        (&["--rate", "1", "--arrivals", "poisson:1"], "--arrivals"),
        (
            &["--arrivals", "poisson:1", "--concurrency", "1"],
            "--concurrency",
        ),
        (&["--rate", "1", "--think-time", "1s"], "--think-time"),
        (
            &["--arrivals", "poisson:1", "--think-time", "1s"],
            "--think-time",
        ),
        (
            &[
                "--find-capacity=rate",
                "--slo",
                "ttft=1s",
                "--think-time",
                "1s",
            ],
            "--think-time",
        ),
        (
            &["--find-capacity", "--slo", "ttft=1s", "--concurrency", "1"],
            "--concurrency",
        ),
        (
            &["--find-capacity", "--slo", "ttft=1s", "--rate", "1"],
            "--rate",
        ),
        (&["--find-capacity"], "--slo"),
        (&["--slo-share", "0.9"], "--find-capacity"),
        (&["--calibrate-seconds", "1"], "--calibrate"),
        (&["--calibrate", "--input-tokens", "3"], "--input-tokens"),
        (
            &["--calibrate", "--warmup-requests", "3"],
            "--warmup-requests",
        ),
        (&["--calibrate", "--timeout", "3s"], "--timeout"),
        (&["--calibrate", "--speculate", "auto"], "--speculate"),
        (
            &["--calibrate", "--draft-model", "bundled"],
            "--draft-model",
        ),
        (&["--calibrate", "--draft-tokens", "2"], "--draft-tokens"),
        (&["--calibrate", "--accept", "rejection"], "--accept"),
        (&["--calibrate", "--max-queue", "9"], "--max-queue"),
        (
            &["--calibrate", "--max-queued-tokens", "9"],
            "--max-queued-tokens",
        ),
        (
            &["--calibrate", "--max-queue-wait-ms", "9"],
            "--max-queue-wait-ms",
        ),
        (&["--calibrate", "--itl-target-ms", "9"], "--itl-target-ms"),
        (
            &["--metrics-url", "http://127.0.0.1:1/metrics"],
            "--metrics-url",
        ),
        (&["--served-model", "m"], "--served-model"),
        (&["--vocab-size", "9"], "--vocab-size"),
        (
            &[&SERVER[..], &["--served-model", "m"]].concat(),
            "--served-model",
        ),
        (&[&SERVER[..], &["--max-seqs", "8"]].concat(), "--max-seqs"),
        (&[&SERVER[..], &["--model", "bundled"]].concat(), "--model"),
        (
            &[&SERVER[..], &["--no-prefix-cache"]].concat(),
            "--no-prefix-cache",
        ),
        (
            &[&SERVER[..], &["--speculate", "off"]].concat(),
            "--speculate",
        ),
        (&[&SERVER[..], &["--threads", "2"]].concat(), "--threads"),
        (&["--compare", "f", "g", "--json"], "--json"),
        (
            &["--compare", "f", "g", "--concurrency", "3"],
            "--concurrency",
        ),
        (&["--compare", "f", "g", "--model", "m"], "--model"),
        (&["--line-by-line", "--concurrency", "3"], "--concurrency"),
        (
            &["--line-by-line", "--output-tokens", "3"],
            "--output-tokens",
        ),
        (&["--line-by-line", "--json"], "--json"),
        (&["--line-by-line", "--trace", "f"], "--trace"),
    ] {
        let said = fails(&[&["bench"], flags].concat(), 2);
        assert!(said.contains(named), "{flags:?}: {said}");
    }
    // What counts passes, and fails by what is not there.
    for flags in [
        &["--trace", "none.csv", "--rate", "1", "--think-time", "1s"][..],
        &[
            "--trace",
            "none.csv",
            "--find-capacity",
            "--slo",
            "ttft=1s",
            "--think-time",
            "1s",
        ],
        &["--compare", "none.json", "none.json", "-v"],
        &["--calibrate", "--speculate", "off", "--max-model-len", "8"],
        &[&SERVER[..], &["--seed", "3", "--timeout", "1s"]].concat(),
        &[
            &SERVER[..],
            &["--line-by-line", "--threads", "1", "--seed", "3"],
        ]
        .concat(),
    ] {
        fails(&[&["bench"], flags].concat(), 1);
    }
}

#[test]
fn what_a_trace_cannot_use_is_refused_once_it_is_read() {
    let folder = TempDir::new().unwrap();
    let chat = r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}"#;
    let chats = file(&folder, "chats.jsonl", chat);
    let row = r#"{"timestamp": 0, "input_length": 5, "output_length": 2, "hash_ids": [7]}"#;
    let rows = file(&folder, "rows.jsonl", row);
    for (trace, flag, value) in [
        (&chats, "--speed", "2"),
        (&chats, "--length-scale", "2"),
        (&rows, "--think-time", "1s"),
    ] {
        let said = fails(
            &[&OF_TRACE[..], &["--trace", text(trace), flag, value]].concat(),
            1,
        );
        assert!(said.contains(&format!("{flag} goes with")), "{said}");
    }
    // Before the target is looked for, which is not there.
    let search = [
        "bench",
        "--target",
        "grpc://127.0.0.1:1",
        "--find-capacity",
        "--slo",
        "ttft=1s",
        "--trace",
        text(&chats),
    ];
    let said = fails(&search, 1);
    assert!(
        said.contains("--find-capacity asks more conversations"),
        "{said}"
    );
}

#[test]
fn the_capacity_is_none_where_nothing_meets_the_bounds() {
    let flags = ["--find-capacity", "--slo", "ttft=1us", "--requests", "16"];
    let output = maitre(&[&SMALL[..], &flags].concat());
    assert_eq!(output.status.code(), Some(1));
    let said = stdout(&output);
    assert!(said.contains("is not met even by the least load"), "{said}");
    assert!(
        said.contains("what bends first: ") && said.contains("a step takes"),
        "{said}"
    );
    let said = fails(&["bench", "--find-capacity"], 2);
    assert!(said.contains("--slo"), "{said}");
}

#[test]
fn a_calibration_writes_hardware_and_a_command_that_runs() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("of this machine");
    let flags = [
        "bench",
        "--calibrate",
        "--calibrate-seconds",
        "0",
        "--max-seqs",
        "2",
        "--max-model-len",
        "64",
        "--threads",
        "1",
        "--out",
    ];
    let output = maitre(&[&flags[..], &[text(&out)]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let said = stdout(&output);
    assert!(said.contains("median error"), "{said}");
    let command = said.lines().last().unwrap();
    let words: Vec<&str> = command.split('\'').collect();
    assert_eq!(words[3], text(&out.join("hardware.json")));
    let further = words[4]
        .split_whitespace()
        .chain(["--requests", "8", "--json"]);
    let mut simulate = vec!["simulate", "--model", "bundled", "--hardware", words[3]];
    simulate.extend(further);
    simulate.extend(["--input-tokens", "8", "--output-tokens", "4"]);
    let output = maitre(&simulate);
    assert!(output.status.success(), "{}", stderr(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["requests"]["completed"], 8);
}

#[test]
fn a_calibration_that_cannot_be_is_refused_before_it_begins() {
    let calibrate = ["bench", "--calibrate", "--calibrate-seconds", "0"];
    for (flags, code, expected) in [
        (
            &["--max-model-len", "8"][..],
            1,
            "give a larger --max-model-len",
        ),
        (
            &["--target", "grpc://127.0.0.1:1"][..],
            1,
            "leave --target out",
        ),
        (&["--concurrency", "4"][..], 2, "--concurrency"),
        (&["--trace", "none.csv"][..], 2, "--trace"),
        (
            &["--out", "/proc/nowhere"][..],
            1,
            "cannot make /proc/nowhere",
        ),
    ] {
        let said = fails(&[&calibrate[..], flags].concat(), code);
        assert!(said.contains(expected), "{said}");
    }
}
