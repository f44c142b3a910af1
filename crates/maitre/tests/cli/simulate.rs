//! `maitre simulate`: reports, and what is said of traces, models and hardware that are of no use.

use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use crate::{fails, maitre, stderr, stdout, unordered_trace};

/// A small pool, which debug builds check after each step.
const SMALL: [&str; 4] = ["--kv-cache-bytes", "50000000", "--max-model-len", "256"];

/// A few short requests.
const FEW: [&str; 8] = [
    "--arrivals",
    "poisson:20",
    "--input-tokens",
    "20..40",
    "--output-tokens",
    "4",
    "--requests",
    "12",
];

fn simulate(flags: &[&str]) -> String {
    let on = ["simulate", "--model", "qwen3-0.6b", "--hardware", "l4"];
    let output = maitre(&[&on, &SMALL[..], flags].concat());
    assert!(output.status.success(), "{flags:?}: {}", stderr(&output));
    assert!(stderr(&output).is_empty(), "{}", stderr(&output));
    stdout(&output)
}

fn json(flags: &[&str]) -> Value {
    serde_json::from_str(&simulate(&[flags, &["--json"][..]].concat())).unwrap()
}

#[test]
fn simulate_reports_the_same_bytes_each_time() {
    let flags = [&FEW[..], &["--slo", "ttft=500ms,tpot=50ms", "--seed", "3"]].concat();
    let report = json(&flags);
    assert_eq!(report["schema"], "maitre.simulate/1");
    assert_eq!(report["requests"]["completed"], 12);
    assert_eq!(report["tokens"]["output"], 48);
    assert_eq!(report["goodput"]["share"], 1.0);
    assert_eq!(report["seed"], 3);
    assert!(report["ttft_ms"]["p95"].as_f64().unwrap() > 0.0);
    assert_eq!(json(&flags), report);
    let table = simulate(&flags);
    assert_eq!(simulate(&flags), table);
    assert!(table.contains("kept to ttft=500ms,tpot=50ms"), "{table}");
    assert_ne!(json(&FEW), report, "another seed, other arrivals");
}

#[test]
fn an_slo_that_no_answer_meets_says_so() {
    let table = simulate(&[&FEW[..], &["--slo", "ttft=1us"]].concat());
    assert!(table.contains("no request kept to ttft=1µs"), "{table}");
}

#[test]
fn simulate_runs_fleets_users_and_traces() {
    let fleet = json(&[&FEW[..], &["--replicas", "3", "--routing", "least-loaded"]].concat());
    assert_eq!(fleet["per_replica"].as_array().unwrap().len(), 3);
    let users = ["--users", "2", "--think-time", "20ms", "--requests", "6"];
    let users = json(&[&users[..], &["--output-tokens", "2", "--input-tokens", "9"]].concat());
    assert_eq!(users["requests"]["completed"], 6);

    let folder = TempDir::new().unwrap();
    let file = folder.path().join("trace.jsonl");
    let lines = [
        r#"{"timestamp": 0, "input_length": 90, "output_length": 3, "hash_ids": [1]}"#,
        r#"{"timestamp": 900, "input_length": 90, "output_length": 3, "hash_ids": [1]}"#,
        "nothing",
    ];
    fs::write(&file, lines.join("\n")).unwrap();
    let file = file.to_str().unwrap();
    let played = json(&["--trace", file, "--skip-bad", "--speed", "2"]);
    assert_eq!(played["requests"]["arrived"], 2);
    assert_eq!(played["requests"]["skipped_lines"], 1);
    assert_eq!(played["requests"]["lines_out_of_order"], 0);
    assert_eq!(played["tokens"]["cached"], 80, "its five full blocks");
    let drawn = ["--trace", file, "--skip-bad", "--arrivals", "constant:50"];
    let drawn = json(&[&drawn[..], &["--requests", "5"]].concat());
    assert_eq!(drawn["tokens"]["prompt"], 450);
}

#[test]
fn a_report_counts_lines_out_of_the_order_of_time() {
    let folder = TempDir::new().unwrap();
    let file = unordered_trace(&folder);
    let trace = ["--trace", &file, "--skip-bad"];
    let played = json(&trace);
    assert_eq!(played["requests"]["arrived"], 3);
    assert_eq!(played["requests"]["skipped_lines"], 2);
    assert_eq!(played["requests"]["lines_out_of_order"], 1);
    let table = simulate(&trace);
    assert!(
        table.contains("skipped lines   2, 1 of them out of the order of time"),
        "{table}"
    );
    let on = ["simulate", "--model", "qwen3-0.6b", "--hardware", "l4"];
    let said = fails(&[&on[..], &trace[..2]].concat(), 1);
    assert!(
        said.contains("line 2: it comes 89999.98 s after line 4"),
        "{said}"
    );
}

#[test]
fn simulate_scales_fails_and_splits_fleets() {
    let scaling = [
        "--autoscale",
        "queue:0.5",
        "--max-replicas",
        "3",
        "--cold-start",
        "0s",
    ];
    let more = [
        "--scale-every",
        "10ms",
        "--mtbf",
        "200ms",
        "--repair-time",
        "50ms",
    ];
    let flags = [&FEW[..], &scaling, &more, &["--on-failure", "reroute"]].concat();
    let fleet = json(&flags);
    assert_eq!(fleet["scaling"]["by"], "queue:0.5");
    assert!(fleet["scaling"]["started"].as_u64().unwrap() > 0);
    assert!(fleet["failures"]["count"].as_u64().unwrap() > 0);
    assert_eq!(fleet["requests"]["failed"], 0);
    assert_eq!(json(&flags), fleet);
    let singly = json(&[&flags[..], &["--every-step"]].concat());
    assert_eq!(singly, fleet);
    let table = simulate(&flags);
    assert!(
        table.contains("replica-seconds") && table.contains("failures"),
        "{table}"
    );

    let split = ["--prefill-replicas", "1", "--decode-replicas", "2"];
    let link = ["--link-bytes-per-second", "1e9"];
    let split = json(&[&FEW[..], &split, &link].concat());
    assert_eq!(split["split"]["transfers"], 12);
    assert_eq!(split["per_replica"].as_array().unwrap().len(), 3);
}

#[test]
fn a_model_and_hardware_are_read_from_files() {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let model = write(
        "model.toml",
        "name = \"small\"\nlayers = 2\nhidden = 64\nheads = 4\nkv_heads = 2\nhead_dim = 16\nffn = 128\n\
         vocabulary = 1000\ncontext = 256\n",
    );
    let machine = write(
        "machine.json",
        r#"{"name": "mine", "memory_bytes": 1e7, "read_bytes_per_second": 5e10, "bf16_ops_per_second": 1e12,
            "step_seconds": 0.01}"#,
    );
    let run = |model: &str, machine: &str, more: &[&str]| {
        let on = [
            "simulate",
            "--model",
            model,
            "--hardware",
            machine,
            "--json",
        ];
        maitre(&[&on[..], &FEW, more].concat())
    };
    let output = run(&model, &machine, &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(
        (&report["model"], &report["hardware"]),
        (&"small".into(), &"mine".into())
    );
    // (1e7 · 0.9 bytes - 403,456 of weights) / (256 · 16 bytes of a block).
    assert_eq!(report["kv"]["blocks"], 2098);
    assert!(report["itl_ms"]["p50"].as_f64().unwrap() >= 10.0);

    let bundled = run("bundled", "l4", &SMALL);
    assert!(bundled.status.success() || stderr(&bundled).contains("no bundled model"));

    let wrong = write("wrong.toml", "name = \"small\"\nlayers = 2\nwidth = 3\n");
    let said = fails(
        &[
            &["simulate", "--model", &wrong, "--hardware", "l4"][..],
            &FEW,
        ]
        .concat(),
        1,
    );
    assert!(
        said.contains("wrong.toml") && said.contains("width"),
        "{said}"
    );
}

#[test]
fn simulate_drafts_by_recorded_acceptance() {
    let drafts = ["--speculate", "3", "--acceptance"];
    let longer = ["--arrivals", "poisson:20", "--requests", "12"];
    let longer = [
        &longer[..],
        &["--input-tokens", "20", "--output-tokens", "40"],
    ]
    .concat();
    let listed = json(&[&longer[..], &drafts, &["0.8,0.5,1"]].concat());
    let counts = &listed["speculation"];
    assert_eq!(counts["acceptance"], serde_json::json!([0.8, 0.5, 1.0]));
    assert!(counts["accepted"].as_u64().unwrap() > 0);
    assert!(counts["tokens_per_step"].as_f64().unwrap() > 1.5);
    assert_eq!(listed["tokens"]["output"], 480);

    // The same shares as engines record them: of all drafts, not of those that were accepted before.
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("metrics.txt");
    let mut metrics = String::new();
    for (position, accepted) in [80, 40, 40].into_iter().enumerate() {
        metrics += &format!(
            "maitre_drafted_tokens_by_position_total{{position=\"{position}\"}} 100\n\
             maitre_accepted_tokens_by_position_total{{position=\"{position}\"}} {accepted}\n"
        );
    }
    fs::write(&file, &metrics).unwrap();
    let file = file.to_str().unwrap();
    let recorded = json(&[&longer[..], &drafts, &[file]].concat());
    assert_eq!(recorded["speculation"], *counts);

    let model = [&drafts[..], &[file, "--draft-model", "qwen3-0.6b"]].concat();
    let model = simulate(&[&longer[..], &model].concat());
    assert!(
        model.contains("drafts of qwen3-0.6b") && model.contains(", drafts "),
        "{model}"
    );
    let seconds = [&drafts[..], &[file, "--draft-seconds", "0.002"]].concat();
    let seconds = json(&[&longer[..], &seconds].concat());
    assert!(seconds["steps"]["seconds"]["drafts"].as_f64().unwrap() > 0.1);

    let rising = metrics.replace("} 40\n", "} 90\n");
    let rising = rising.replace("} 80\n", "} 40\n");
    fs::write(file, rising).unwrap();
    let on = ["simulate", "--model", "qwen3-0.6b", "--hardware", "l4"];
    let with = |flags: &[&str]| fails(&[&on[..], &longer, &drafts, flags].concat(), 1);
    let said = with(&[file]);
    assert!(
        said.contains("0.9000 of all drafts at position 1"),
        "{said}"
    );
    let said = with(&["0.8,0.5"]);
    assert!(said.contains("is 3; expected at most 2"), "{said}");
    let said = with(&["no-such-file"]);
    assert!(
        said.contains("no-such-file is no file here and no list of shares"),
        "{said}"
    );
    let said = with(&["0.8,0.5,1", "--draft-model", "abacus"]);
    assert!(said.contains("--draft-model: abacus is none of"), "{said}");
    let said = with(&["0.8,0.5,1", "--draft-model", "llama-3.1-8b"]);
    assert!(
        said.contains("the vocabulary of the draft model is 128256 tokens (llama-3.1-8b)"),
        "{said}"
    );
}

#[test]
fn a_draft_model_takes_its_part_of_the_kv_cache_bytes() {
    let drafts = ["--speculate", "2", "--acceptance", "0.8,0.5"];
    // 50,000,000 bytes in blocks of 16 tokens of 114,688 bytes; a draft model of the same sizes needs as many beside them.
    let alone = json(&[&FEW[..], &drafts].concat());
    assert_eq!(alone["kv"]["blocks"], 27);
    let model = ["--draft-model", "qwen3-0.6b"];
    let beside = json(&[&FEW[..], &drafts, &model].concat());
    assert_eq!(beside["kv"]["blocks"], 13);
}

#[test]
fn the_lengths_of_a_trace_are_multiplied() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("trace.csv");
    let rows = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,50,8\n2023-11-16 18:15:47,31,1\n";
    fs::write(&file, rows).unwrap();
    let trace = ["--trace", file.to_str().unwrap(), "--length-scale", "0.5"];
    let played = json(&trace);
    assert_eq!(played["tokens"]["prompt"], 25 + 16);
    assert_eq!(played["tokens"]["output"], 4 + 1);
    assert!(
        played["workload"]
            .as_str()
            .unwrap()
            .ends_with(", 0.5 times as long"),
        "{played}"
    );
    let on = ["simulate", "--model", "qwen3-8b", "--hardware", "h100"];
    let wrong = [&on[..], &trace[..2], &["--length-scale", "0"]].concat();
    let said = fails(&wrong, 1);
    assert!(
        said.contains("--length-scale is 0; expected a number above 0"),
        "{said}"
    );
}

#[test]
fn simulate_says_what_is_wrong() {
    let on = ["simulate", "--model", "qwen3-8b", "--hardware", "h100"];
    let with = |flags: &[&str]| fails(&[&on[..], flags].concat(), 1);
    let said = with(&["--trace", "no-such.csv"]);
    assert!(
        said.contains("--trace: no-such.csv cannot be opened"),
        "{said}"
    );

    let folder = TempDir::new().unwrap();
    let file = folder.path().join("trace.csv");
    fs::write(
        &file,
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,5,x\n",
    )
    .unwrap();
    let said = with(&["--trace", file.to_str().unwrap()]);
    assert!(said.contains("line 2: GeneratedTokens is `x`"), "{said}");
    assert!(said.contains("--skip-bad leaves bad lines out"), "{said}");

    let said = with(&["--arrivals", "constant:1", "--requests", "0"]);
    assert!(said.contains("--requests is 0"), "{said}");
    let said = with(&["--arrivals", "constant:1", "--replicas", "0"]);
    assert!(
        said.contains("the number of replicas is 0; expected at least 1"),
        "{said}"
    );

    let large = ["simulate", "--model", "llama-3.1-70b", "--hardware", "h100"];
    let said = fails(&[&large[..], &FEW].concat(), 1);
    assert!(
        said.contains("the weights of llama-3.1-70b take 141"),
        "{said}"
    );
    let unknown = ["simulate", "--model", "qwen3-8b", "--hardware", "abacus"];
    let said = fails(&[&unknown[..], &FEW].concat(), 1);
    assert!(
        said.contains("abacus is not known") && said.contains("h100, h200"),
        "{said}"
    );
    let unknown = ["simulate", "--model", "no-such-model", "--hardware", "h100"];
    let said = fails(&[&unknown[..], &FEW].concat(), 1);
    assert!(said.contains("is none of qwen3-0.6b, qwen3-1.7b"), "{said}");
    let a100 = [
        "simulate",
        "--model",
        "qwen3-8b",
        "--hardware",
        "a100",
        "--products",
        "fp8",
    ];
    let said = fails(&[&a100[..], &FEW].concat(), 1);
    assert!(said.contains("fp8 on a100"), "{said}");
}

#[test]
fn simulate_refuses_flags_that_do_not_go_together() {
    let on = ["simulate", "--model", "qwen3-8b", "--hardware", "h100"];
    for (flags, expected) in [
        (&[][..], "--trace <FILE>"),
        (
            &["--arrivals", "poisson:x"][..],
            "expected constant:RATE, poisson:RATE, gamma:RATE,VARIATION, steps:",
        ),
        (
            &["--arrivals", "poisson:1", "--users", "2"],
            "cannot be used with",
        ),
        (&["--users", "2", "--speed", "2"], "cannot be used with"),
        (
            &["--arrivals", "poisson:1", "--routing", "best"],
            "session-sticky",
        ),
        (
            &["--arrivals", "poisson:1", "--slo", "itl=3ms"],
            "such as ttft=500ms,tpot=50ms",
        ),
        (
            &["--arrivals", "poisson:1", "--input-tokens", "5..2"],
            "a range such as 100..200",
        ),
        (
            &["--users", "1", "--think-time", "5"],
            "such as 500ms or 5s",
        ),
        (
            &["--trace", "a.csv", "--input-tokens", "5"],
            "cannot be used with",
        ),
        (&["--arrivals", "poisson:1", "--skip-bad"], "--trace <FILE>"),
        (
            &["--arrivals", "poisson:1", "--autoscale", "queue:2"],
            "--max-replicas",
        ),
        (
            &["--arrivals", "poisson:1", "--autoscale", "load:2"],
            "such as queue:4",
        ),
        (
            &["--arrivals", "poisson:1", "--prefill-replicas", "2"],
            "--decode-replicas",
        ),
        (
            &["--arrivals", "poisson:1", "--repair-time", "5s"],
            "--mtbf",
        ),
        (
            &["--arrivals", "poisson:1", "--speculate", "2"],
            "--acceptance <LIST|FILE>",
        ),
        (
            &["--arrivals", "poisson:1", "--draft-model", "qwen3-0.6b"],
            "--speculate <K>",
        ),
        (
            &["--arrivals", "poisson:1", "--length-scale", "2"],
            "--trace <FILE>",
        ),
    ] {
        let said = fails(&[&on[..], flags].concat(), 2);
        assert!(said.contains(expected), "{flags:?}: {said}");
    }
}
