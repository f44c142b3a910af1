//! NVIDIA's AIPerf: four users, streams of conversations and of completions.

use anyhow::{Result, ensure};
use serde_json::Value;

use super::row::{Row, Told};
use super::session::{Session, count, empty_folder, json, model_folder, number};
use crate::cargo::program;

const REQUESTS: u64 = 32;

pub(super) fn run(session: &Session) -> Result<Vec<Row>> {
    let python = Session::python("aiperf")?;
    let command = python.with_file_name("aiperf");
    let mut rows = Vec::new();
    for (what, kind) in [("chat", "chat"), ("completions", "completions")] {
        let name = format!("aiperf {what}, 4 users");
        let folder = empty_folder(&name)?;
        let mut command = program(&command);
        // Without HF_HUB_OFFLINE: with it AIPerf takes no folder for a tokenizer.
        command
            .args(["profile", "--model", "bundled", "--url", session.url()])
            .arg("--tokenizer")
            .arg(model_folder())
            .args(["--endpoint-type", kind, "--streaming", "--concurrency", "4"])
            .args(["--request-count", &REQUESTS.to_string()])
            .args(["--synthetic-input-tokens-mean", "64"])
            .args([
                "--output-tokens-mean",
                "32",
                "--extra-inputs",
                "ignore_eos:true",
            ])
            .args(["--use-server-token-count", "--ui", "none"])
            .arg("--output-artifact-dir")
            .arg(&folder);
        rows.push(session.measure(&name, REQUESTS, &folder, &mut command, || {
            let scraped = json(&folder.join("server_metrics_export.json"))?;
            found_metrics(&scraped)?;
            told(&json(&folder.join("profile_export_aiperf.json"))?)
        })?);
    }
    Ok(rows)
}

fn told(results: &Value) -> Result<Told> {
    let answered = count(results, "/request_count/avg")?;
    Ok(Told {
        answered,
        failed: count(results, "/completed_request_count/avg")? - answered,
        prompt_tokens: count(results, "/total_usage_prompt_tokens/avg")?,
        generated_tokens: count(results, "/total_osl/avg")?,
        speed: Some((
            number(results, "/output_token_throughput/avg")?,
            number(results, "/time_to_first_token/p50")?,
        )),
    })
}

/// Whether the metrics were scraped that AIPerf knows of vLLM.
fn found_metrics(scraped: &Value) -> Result<()> {
    for name in [
        "num_requests_running",
        "generation_tokens",
        "kv_cache_usage_perc",
    ] {
        let found = scraped["metrics"].get(format!("vllm:{name}"));
        ensure!(found.is_some(), "AIPerf found no vllm:{name}");
    }
    Ok(())
}
