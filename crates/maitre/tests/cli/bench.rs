//! `maitre bench`: reports, one line at a time, prompts from a file, lines of a trace that are left out.

use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::{fails, maitre, stderr, stdout, unordered_trace};

#[test]
fn bench_reports_in_json_and_into_a_directory() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().to_str().unwrap();
    let output = maitre(&[
        "bench",
        "--concurrency",
        "1,2",
        "--input-tokens",
        "4",
        "--output-tokens",
        "4",
        "--requests",
        "2",
        "--json",
        "--out",
        out,
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    let report: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(report["runs"].as_array().unwrap().len(), 2);
    assert!(
        report["runs"][1]["output_tokens_per_second"]
            .as_f64()
            .unwrap()
            > 0.0
    );
    assert_eq!(report["runs"][1]["output_tokens"], 8);
    let written = fs::read_to_string(folder.path().join("report.json")).unwrap();
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&written).unwrap(),
        report
    );
}

/// A warm engine that is asked `lines`.
fn bench_line_by_line(lines: &str) -> Output {
    bench_line_by_line_with(&[], lines)
}

fn bench_line_by_line_with(flags: &[&str], lines: &str) -> Output {
    let mut engine = Command::new(env!("CARGO_BIN_EXE_maitre"))
        .args(["bench", "--line-by-line", "--threads", "1"])
        .args(flags)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut requests = engine.stdin.take().unwrap();
    requests.write_all(lines.as_bytes()).unwrap();
    drop(requests);
    engine.wait_with_output().unwrap()
}

#[test]
fn bench_answers_line_by_line() {
    let output = bench_line_by_line("2 4 3\nlimits\n1 8 1\n");
    assert!(output.status.success(), "{}", stderr(&output));
    let answers = stdout(&output);
    let answers: Vec<&str> = answers.lines().collect();
    let [ready, first, limits, second] = answers[..] else {
        panic!("{answers:?}");
    };
    assert_eq!(ready, "ready");
    for (answer, tokens) in [(first, "6"), (second, "1")] {
        let [seconds, generated, prompts] = answer.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{answer}");
        };
        let [seconds, prompts] = [seconds, prompts].map(|it| it.parse::<f64>().unwrap());
        assert!(0.0 < prompts && prompts <= seconds, "{answer}");
        assert_eq!(generated, tokens);
    }
    let names: Vec<&str> = limits
        .split(' ')
        .map(|pair| {
            let (name, rate) = pair.split_once('=').unwrap();
            assert!(rate.parse::<f64>().unwrap() > 0.0, "{pair}");
            name
        })
        .collect();
    assert_eq!(names, ["read", "f32", "bf16", "int8"]);
}

#[test]
fn bench_asks_the_prompts_of_a_file() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("prompts.jsonl");
    fs::write(
        &file,
        "\"Hello\"\n{\"prompt\": \"A table for two, please.\"}\n",
    )
    .unwrap();
    let file = file.to_str().unwrap();
    let flags = [
        "--concurrency",
        "1",
        "--output-tokens",
        "3",
        "--requests",
        "4",
    ];
    let output = maitre(&[&["bench", "--json", "--prompts", file][..], &flags].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let report: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(report["prompts"], 2);
    assert_eq!(report["runs"][0]["output_tokens"], 12);

    let output = bench_line_by_line_with(&["--prompts", file], "2 0 3\n1 0 4\n");
    assert!(output.status.success(), "{}", stderr(&output));
    let answers = stdout(&output);
    let tokens: Vec<&str> = answers
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .collect();
    assert_eq!(tokens, ["6", "4"]);
}

#[test]
fn bench_counts_lines_out_of_the_order_of_time() {
    let folder = TempDir::new().unwrap();
    let file = unordered_trace(&folder);
    let trace = ["--trace", &file, "--skip-bad"];
    let on = ["bench", "--json", "--threads", "1"];
    let output = maitre(&[&on[..], &trace].concat());
    let said = stderr(&output);
    assert!(output.status.success(), "{said}");
    let expected =
        "left out 2 lines of the trace that are no requests, 1 of them out of the order of time\n";
    assert!(said.contains(expected), "{said}");
    let report: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(report["runs"][0]["completed"], 3);
    assert_eq!(report["skipped_lines"], 2);
    assert_eq!(report["lines_out_of_order"], 1);
}

#[test]
fn bench_says_what_is_wrong_with_prompts() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("prompts.jsonl");
    let path = file.to_str().unwrap();
    let said = fails(&["bench", "--prompts", path], 1);
    assert!(
        said.contains(path) && said.contains("No such file"),
        "{said}"
    );
    for (text, expected) in [
        ("", "it is empty"),
        (
            "\"a\"\n{\"text\": \"b\"}\n",
            "line 2: the object has no `prompt`",
        ),
        ("a", "line 1: no JSON"),
    ] {
        fs::write(&file, text).unwrap();
        let said = fails(&["bench", "--prompts", path], 1);
        assert!(said.contains(expected), "{text}: {said}");
    }
    let said = fails(&["bench", "--prompts", path, "--input-tokens", "3"], 2);
    assert!(said.contains("--input-tokens"), "{said}");
}

#[test]
fn bench_says_which_line_it_cannot_answer() {
    for (line, expected) in [
        ("2 4", "`2 4`: expected `USERS INPUT_TOKENS OUTPUT_TOKENS`"),
        ("one 4 3", "`one 4 3`: expected"),
        ("1 4 0", "output-tokens is 0"),
        ("1 1000000 1", "context holds"),
    ] {
        let output = bench_line_by_line(line);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{line}: {said}");
        assert!(said.contains(expected), "{line}: {said}");
    }
}

#[test]
fn bench_says_what_is_wrong_with_a_target() {
    // What cannot be parsed ends with 2, what is not there with 1.
    for (code, words, parts) in [
        (
            2,
            &["--target", "https://h:80/v1"][..],
            &["`https://h:80/v1`", "http://HOST:PORT/v1"][..],
        ),
        (
            1,
            &["--target", "http://127.0.0.1:1/v1"],
            &["http://127.0.0.1:1/v1", "refused"],
        ),
        (
            2,
            &["--vocab-size", "9"],
            &["--vocab-size", "--target http://HOST:PORT/v1"],
        ),
    ] {
        let message = fails(&[&["bench"], words].concat(), code);
        for part in parts {
            assert!(message.contains(part), "{words:?}: {message}");
        }
    }
}
