//! `maitre gpu-check`: everything on the emulator, and what is said where there is nothing to check.

use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use crate::{fails, lacks_emulator, maitre, stderr, stdout};

/// Rows that every run has.
const CHECKS: [&str; 26] = [
    "rms_norm_f32",
    "add_rms_norm_bf16",
    "add_normed_bf16",
    "rms_norm_columns",
    "encode_bf16",
    "gather_rows",
    "embed_int4",
    "linear_bf16",
    "linear_fast_bf16",
    "linear_silu_mul_int8",
    "linear_silu_mul_fast_int4",
    "linear_gelu_mul_bf16",
    "linear_with_peaks_fast_int8",
    "linear_with_peaks_int4",
    "invariant_linear_bf16",
    "rope_and_store_int8",
    "paged_attention_bf16",
    "paged_attention_bf16_window",
    "rope_and_store_f32_other_head_dim",
    "invariant_chunks_f32",
    "copy_blocks_bf16",
    "host_swaps_int8",
    "sample_rows",
    "recorded_steps",
    "engine_by_default",
    "soak",
];

const SPEEDS: [&str; 14] = [
    "copy_rate",
    "matmul_rate",
    "attention_2x40_strict",
    "sampling_greedy",
    "linear_64x32_bf16_18r_strict",
    "gated_64x32_int4_1r_fast",
    "add_rms_norm_32_1r",
    "rope_and_store_18r",
    "launch",
    "load_tiny_bf16",
    "decode_tiny_bf16_1u_strict",
    "decode_tiny_bf16_1u_strict_unrecorded",
    "prefill_tiny_bf16_16t_fast",
    "engine_tiny_bf16_2u_strict",
];

fn row<'r>(report: &'r Value, list: &str, id: &str) -> &'r Value {
    let rows = report[list].as_array().unwrap();
    let row = rows.iter().find(|row| row["id"] == id);
    row.unwrap_or_else(|| panic!("no row {id} in {list}"))
}

/// Runs, and reads the report; `None` after saying that there is no emulator.
fn report(arguments: &[&str]) -> Option<(Value, String)> {
    let folder = TempDir::new().unwrap();
    let out = folder.path().to_str().unwrap();
    let common = [
        "gpu-check",
        "--shape",
        "tiny",
        "--threads",
        "1",
        "--out",
        out,
    ];
    let output = maitre(&[&common, arguments].concat());
    let said = stderr(&output);
    if lacks_emulator(&output) {
        assert_eq!(output.status.code(), Some(2), "{said}");
        println!("skipped: {said}");
        return None;
    }
    let table = stdout(&output);
    assert!(output.status.success(), "{table}\n{said}");
    let json = fs::read_to_string(folder.path().join("gpu-check.json")).unwrap();
    let page = fs::read_to_string(folder.path().join("gpu-check.md")).unwrap();
    assert!(page.contains(&table));
    Some((serde_json::from_str(&json).unwrap(), table))
}

#[test]
fn the_emulator_passes_and_the_report_has_every_row() {
    let Some((report, table)) = report(&["--device", "emulator"]) else {
        return;
    };
    assert_eq!(report["failures"], 0, "{table}");
    assert_eq!(report["is_complete"], true);
    assert_eq!(report["facts"]["device"], "emulator");
    for id in CHECKS {
        assert_eq!(row(&report, "checks", id)["result"], "passed", "{id}");
    }
    // In a build that has the emulator from elsewhere than this package's features nothing can be made to fail.
    let injected = row(&report, "checks", "injected_failure");
    if cfg!(feature = "fault-injection") {
        failures_were_survived(injected);
    } else {
        assert_eq!(injected["result"], "not run", "{injected}");
        let why = injected["message"].as_str().unwrap();
        assert!(why.contains("--features fault-injection"), "{why}");
    }
    for id in SPEEDS {
        assert_eq!(row(&report, "speeds", id)["result"], "measured", "{id}");
    }
    let decode = row(&report, "speeds", "decode_tiny_bf16_1u_strict");
    for name in ["measured_tokens_per_s", "predicted_tokens_per_s", "ratio"] {
        assert!(decode[name].as_f64().unwrap() > 0.0, "{decode}");
    }
    assert_eq!(decode["figures"]["recorded_kinds_of_steps"], 1.0);
    assert!(
        !table.contains("strict costs"),
        "differences of an emulator's times say nothing: {table}"
    );
    let place = |title: &str| table.find(title).unwrap();
    assert!(
        place("sampling: tokens") < place("greedy tokens")
            && place("greedy tokens") < place("soak")
    );
    assert!(
        table.lines().all(|line| line.chars().count() <= 100),
        "{table}"
    );
}

fn failures_were_survived(injected: &Value) {
    assert_eq!(injected["result"], "passed", "{injected}");
    for (name, count) in [("failures_injected", 4.0), ("answers_wrong", 0.0)] {
        assert_eq!(injected["figures"][name], count, "{injected}");
    }
    // How many requests are alone in a step that fails depends on when they come.
    let failed = injected["figures"]["requests_failed"].as_f64();
    assert!(
        failed.is_some_and(|it| (1.0..=4.0).contains(&it)),
        "{injected}"
    );
}

#[test]
fn what_there_is_no_time_for_is_listed() {
    // A step of the tiny model may take 20 seconds, an operator 40, the soak longer.
    let arguments = ["--device", "cpu", "--time-limit", "19"];
    let (report, table) = report(&arguments).unwrap();
    for (list, id) in [
        ("speeds", "decode_tiny_bf16_1u_strict"),
        ("checks", "linear_bf16"),
        ("checks", "soak"),
    ] {
        let row = row(&report, list, id);
        assert_eq!(row["result"], "not run", "{row}");
        assert_eq!(row["message"], "out of time", "{row}");
    }
    assert!(table.contains("not run: out of time"), "{table}");
}

#[test]
fn without_a_gpu_it_says_what_to_do() {
    if cfg!(feature = "cuda") {
        return;
    }
    for arguments in [&["gpu-check"][..], &["gpu-check", "--device", "auto"]] {
        let said = fails(arguments, 2);
        for part in ["cuda:0", "--features cuda"] {
            assert!(said.contains(part), "{said}");
        }
    }
}

#[test]
fn half_of_the_work_is_done_alone() {
    let arguments = ["--device", "cpu", "--only", "speeds", "--time-limit", "0"];
    let (report, _) = report(&arguments).unwrap();
    assert!(report["checks"].as_array().unwrap().is_empty());
    assert_eq!(row(&report, "speeds", "launch")["result"], "not run");
}
