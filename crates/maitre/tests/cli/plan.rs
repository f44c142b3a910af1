//! `maitre plan`: the text, the JSON, and what is said of questions that have no answer.

use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use crate::{fails, maitre, stderr, stdout};

/// A small model and a slow machine, which debug builds plan for in a moment.
struct Small {
    folder: TempDir,
}

impl Small {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let model = "name = \"small\"\nlayers = 2\nhidden = 128\nheads = 4\nkv_heads = 4\nhead_dim = 32\nffn = 341\n\
                     vocabulary = 1000\nbytes_per_kv_number = 1.0\ncontext = 2048\n";
        fs::write(folder.path().join("model.toml"), model).unwrap();
        let machine = r#"{"name": "slow", "memory_bytes": 2e6, "read_bytes_per_second": 4e8, "bf16_ops_per_second": 4e9,
            "kernel_seconds": 1e-6, "sequence_seconds": 1e-6}"#;
        fs::write(folder.path().join("machine.json"), machine).unwrap();
        Self { folder }
    }

    fn arguments(&self, flags: &[&str]) -> Vec<String> {
        let file = |name: &str| self.folder.path().join(name).to_str().unwrap().to_owned();
        let on = [
            "plan",
            "--model",
            &file("model.toml"),
            "--hardware",
            &file("machine.json"),
        ];
        let lengths = [
            "--input-tokens",
            "28",
            "--output-tokens",
            "4",
            "--max-seqs",
            "16",
        ];
        let all = on.iter().chain(&lengths).chain(flags);
        all.map(|&it| it.to_owned()).collect()
    }

    fn plan(&self, flags: &[&str]) -> String {
        let arguments = self.arguments(flags);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let output = maitre(&arguments);
        assert!(output.status.success(), "{flags:?}: {}", stderr(&output));
        assert!(stderr(&output).is_empty(), "{}", stderr(&output));
        stdout(&output)
    }

    /// Plans for the trace of this text.
    fn plan_of_trace(&self, text: &str, flags: &[&str]) -> String {
        let file = self.folder.path().join("trace.csv");
        fs::write(&file, text).unwrap();
        let arguments = self.arguments(&[]);
        let on: Vec<&str> = arguments.iter().map(String::as_str).take(5).collect();
        let trace = ["--trace", file.to_str().unwrap()];
        let output = maitre(&[&on[..], &SLO, &QUICK, &trace, flags].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output)
    }

    fn fails(&self, flags: &[&str], code: i32) -> String {
        let arguments = self.arguments(flags);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        fails(&arguments, code)
    }
}

const SLO: [&str; 2] = ["--slo", "ttft=400ms,tpot=40ms"];
const QUICK: [&str; 3] = ["--judged", "40", "--no-techniques"];

/// The columns of a trace.
const COLUMNS: &str = "TIMESTAMP,ContextTokens,GeneratedTokens\n";

/// Rows of a trace: 40 requests in 9 seconds.
fn rows() -> String {
    let rows = (0..40).map(|row| format!("2023-11-16 18:15:{:02}.00,24,6\n", row / 4));
    rows.collect()
}

#[test]
fn a_plan_is_the_same_each_time_and_has_its_formulas() {
    let small = Small::new();
    let flags = [
        &SLO[..],
        &QUICK,
        &[
            "--users",
            "100",
            "--think-time",
            "200ms",
            "--price-per-hour",
            "3",
        ],
    ]
    .concat();
    let text = small.plan(&flags);
    assert_eq!(small.plan(&flags), text);
    for said in [
        "small on 1 × slow: 100 users need",
        "392,960 in layers × 2 bytes + 2 × 1000 × 128 × 2 bytes",
        "simulated: of",
        "limit: ",
        "per million output tokens",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
    let json = small.plan(&[&flags[..], &["--json"]].concat());
    let plan: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(plan["schema"], "maitre.plan/1");
    assert_eq!(
        (&plan["unit"], &plan["load"]),
        (&"users".into(), &100.0.into())
    );
    let boxes = (100.0 / plan["load_per_box"].as_f64().unwrap()).ceil();
    assert_eq!(plan["boxes"].as_f64().unwrap(), boxes);
    let figures = plan["figures"].as_array().unwrap();
    assert!(
        figures
            .iter()
            .all(|it| it["formula"].as_str().is_some_and(|it| !it.is_empty()))
    );
    assert!(plan["techniques"].as_array().unwrap().is_empty());
}

#[test]
fn a_plan_tells_what_techniques_gain() {
    let small = Small::new();
    let flags = [&SLO[..], &["--rate", "50", "--judged", "20", "--json"]].concat();
    let plan: Value = serde_json::from_str(&small.plan(&flags)).unwrap();
    let techniques = plan["techniques"].as_array().unwrap();
    let named = |name: &str| techniques.iter().filter(|it| it["name"] == name).count();
    assert_eq!(
        (named("batch"), named("chunk"), named("share prefixes")),
        (2, 2, 1)
    );
    let devices = techniques
        .iter()
        .find(|it| it["name"] == "tensor parallel")
        .unwrap();
    assert!(
        devices["impossible"]
            .as_str()
            .unwrap()
            .contains("link_bytes_per_second"),
        "{devices}"
    );
    let served = techniques
        .iter()
        .filter(|it| it["serves"]["times"].as_f64().is_some());
    assert!(served.count() >= 5, "{techniques:?}");
}

#[test]
fn a_plan_reads_traces() {
    let text = format!("{COLUMNS}{}", rows());
    let json = Small::new().plan_of_trace(&text, &["--json"]);
    let plan: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(plan["unit"], "requests/s");
    assert!(
        (plan["load"].as_f64().unwrap() - 40.0 / 9.0).abs() < 1e-6,
        "{plan}"
    );
    assert_eq!(plan["skipped_lines"], 0);
}

#[test]
fn a_plan_counts_lines_out_of_the_order_of_time() {
    let small = Small::new();
    let late = "2023-11-17 00:00:00.00,24,6\n";
    let text = format!("{COLUMNS}{late}nothing\n{}", rows());
    let json = small.plan_of_trace(&text, &["--skip-bad", "--json"]);
    let plan: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(plan["skipped_lines"], 2);
    assert_eq!(plan["lines_out_of_order"], 1);
    assert!(
        (plan["load"].as_f64().unwrap() - 40.0 / 9.0).abs() < 1e-6,
        "{plan}"
    );
    let text = small.plan_of_trace(&text, &["--skip-bad"]);
    assert!(
        text.contains("skipped lines       2, 1 of them out of the order of time\n"),
        "{text}"
    );
}

#[test]
fn a_plan_without_an_answer_says_why() {
    let small = Small::new();
    let said = small.fails(
        &[&QUICK[..], &["--slo", "ttft=1us", "--users", "5"]].concat(),
        1,
    );
    assert!(
        said.contains("cannot be reached: with a load of 1 users the best is ttft="),
        "{said}"
    );
    let said = small.fails(
        &[&QUICK[..], &["--slo", "tpot=40ms", "--users", "5"]].concat(),
        1,
    );
    assert!(said.contains("a bound of ttft or e2e too"), "{said}");

    let on = |model: &str, hardware: &str, more: &[&str]| {
        let on = [
            "plan",
            "--model",
            model,
            "--hardware",
            hardware,
            "--users",
            "10",
        ];
        fails(&[&on[..], &SLO, more].concat(), 1)
    };
    let said = on("llama-3.1-70b", "h100", &[]);
    assert!(
        said.contains("llama-3.1-70b does not fit on 1 × h100") && said.contains("are missing"),
        "{said}"
    );
    assert!(
        said.contains("weights in int4, or 2 devices a box, or b200"),
        "{said}"
    );
    let said = on("qwen3-8b", "abacus", &[]);
    assert!(
        said.contains("abacus is not known") && said.contains("gb10, cpu"),
        "{said}"
    );
    let said = on("no-such-model", "h100", &[]);
    assert!(
        said.contains("is none of qwen3-0.6b") && said.contains("gpt-oss-120b"),
        "{said}"
    );
    let said = on("qwen3-8b", "a100", &["--dtype", "fp8"]);
    assert!(said.contains("fp8 on a100"), "{said}");
    let said = on("qwen3-8b", "h100", &["--trace", "no-such.csv"]);
    assert!(
        said.contains("--trace: no-such.csv cannot be opened"),
        "{said}"
    );
}

#[test]
fn a_mixture_is_read_from_its_directory() {
    let folder = TempDir::new().unwrap();
    let config = r#"{"model_type": "qwen3_moe", "num_hidden_layers": 48, "hidden_size": 2048, "num_attention_heads": 32,
        "num_key_value_heads": 4, "head_dim": 128, "intermediate_size": 6144, "moe_intermediate_size": 768,
        "num_experts": 128, "num_experts_per_tok": 8, "vocab_size": 151936, "max_position_embeddings": 40960}"#;
    fs::write(folder.path().join("config.json"), config).unwrap();
    let directory = folder.path().to_str().unwrap();
    let on = [
        "plan",
        "--model",
        directory,
        "--hardware",
        "l4",
        "--users",
        "1",
    ];
    let said = fails(&[&on[..], &SLO].concat(), 1);
    // 30.53 billion weights in bf16.
    assert!(said.contains("its weights take 6106"), "{said}");
}

#[test]
fn a_plan_tries_speculation_where_an_acceptance_is_given() {
    let small = Small::new();
    let flags = [&SLO[..], &["--rate", "50", "--judged", "20"]].concat();
    let plain = small.plan(&flags);
    assert!(!plain.contains("speculate"), "{plain}");
    assert!(plain.contains("prefill apart"), "{plain}");
    let drafts = ["--speculate", "2", "--acceptance", "0.9,0.9"];
    let text = small.plan(&[&flags[..], &drafts].concat());
    for said in [
        "speculate         at most 1 draft a step",
        "speculate         at most 2 drafts a step",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
    let said = small.fails(&[&flags[..], &drafts, &["--no-techniques"]].concat(), 1);
    assert!(said.contains("--no-techniques leaves them out"), "{said}");
    let said = small.fails(&[&flags[..], &["--link-bytes-per-second", "0"]].concat(), 1);
    assert!(said.contains("the rate of the link is 0"), "{said}");
}

#[test]
fn a_plan_refuses_flags_that_do_not_go_together() {
    let on = ["plan", "--model", "qwen3-8b", "--hardware", "h100"];
    for (flags, expected) in [
        (&["--users", "1"][..], "--slo <BOUNDS>"),
        (&["--slo", "ttft=1s"], "--users <N>"),
        (
            &["--slo", "ttft=1s", "--users", "1", "--rate", "2"],
            "cannot be used with",
        ),
        (
            &["--slo", "ttft=1s", "--rate", "2", "--think-time", "1s"],
            "cannot be used with",
        ),
        (
            &["--slo", "ttft", "--users", "1"],
            "such as ttft=500ms,tpot=50ms",
        ),
        (
            &["--slo", "ttft=1s", "--users", "1", "--dtype", "int3"],
            "int4",
        ),
        (
            &["--slo", "ttft=1s", "--users", "1", "--speculate", "2"],
            "--acceptance <LIST|FILE>",
        ),
        (
            &["--slo", "ttft=1s", "--users", "1", "--kv-dtype", "int4"],
            "fp8, int8",
        ),
        (
            &["--slo", "ttft=1s", "--users", "1", "--tensor-parallel", "0"],
            "0 is not in 1..=64",
        ),
        (
            &[
                "--slo",
                "ttft=1s",
                "--trace",
                "a.csv",
                "--input-tokens",
                "5",
            ],
            "cannot be used with",
        ),
    ] {
        let said = fails(&[&on[..], flags].concat(), 2);
        assert!(said.contains(expected), "{flags:?}: {said}");
    }
}
