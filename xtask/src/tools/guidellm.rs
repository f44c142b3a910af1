//! GuideLLM: a constant rate of conversations, and a sweep over completions.

use anyhow::{Context, Result};
use serde_json::Value;

use super::row::{Row, Told};
use super::session::{Session, count, empty_folder, json, model_folder, number};
use crate::cargo::program;

/// Requests of each part of a run.
const REQUESTS: u64 = 32;
/// Parts of a sweep: one user, all at once, and rates between.
const SWEEP: u64 = 4;

pub(super) fn run(session: &Session) -> Result<Vec<Row>> {
    let python = Session::python("guidellm")?;
    let command = python.with_file_name("guidellm");
    let tokenizer = format!("kind=huggingface_auto,model={}", model_folder().display());
    let sweep = format!("kind=sweep,sweep_size={SWEEP}");
    let runs = [
        (
            "chat, 8 a second",
            "/v1/chat/completions",
            "kind=constant,rate=8",
            1,
        ),
        (
            "completions, sweep",
            "/v1/completions",
            sweep.as_str(),
            SWEEP,
        ),
    ];
    let mut rows = Vec::new();
    for (what, route, profile, parts) in runs {
        let name = format!("guidellm {what}");
        let folder = empty_folder(&name)?;
        let results = folder.join("results.json");
        let backend = format!(
            "kind=openai_http,target={},request_format={route}",
            session.url()
        );
        let mut command = program(&command);
        command
            .env("HF_HUB_OFFLINE", "1")
            .args(["run", "--backend", &backend, "--profile", profile])
            .args([
                "--constraint",
                &format!("kind=max_requests,count={REQUESTS}"),
            ])
            .args(["--tokenizer", &tokenizer])
            .args([
                "--data",
                "kind=synthetic_text,prompt_tokens=64,output_tokens=32",
            ])
            .args(["--output", &format!("kind=json,path={}", results.display())])
            .args(["--output", "kind=console", "--disable-progress"]);
        rows.push(
            session.measure(&name, parts * REQUESTS, &folder, &mut command, || {
                told(&json(&results)?)
            })?,
        );
    }
    Ok(rows)
}

/// The sum over the parts of a run; the speed is the fastest part's.
fn told(results: &Value) -> Result<Told> {
    let parts = results["benchmarks"].as_array().context("no benchmarks")?;
    let sum = |pointer: &str| -> Result<u64> {
        let counts = parts.iter().map(|part| count(part, pointer));
        counts.sum()
    };
    let mut speed = None;
    for part in parts {
        let tokens = number(part, "/metrics/output_tokens_per_second/successful/mean")?;
        let first = number(part, "/metrics/time_to_first_token_ms/successful/median")?;
        if speed.is_none_or(|(fastest, _)| tokens > fastest) {
            speed = Some((tokens, first));
        }
    }
    let totals = "/metrics/request_totals";
    Ok(Told {
        answered: sum(&format!("{totals}/successful"))?,
        failed: sum(&format!("{totals}/errored"))? + sum(&format!("{totals}/incomplete"))?,
        prompt_tokens: sum("/metrics/prompt_token_count/successful/total_sum")?,
        generated_tokens: sum("/metrics/output_token_count/successful/total_sum")?,
        speed,
    })
}
