//! vLLM's own `vllm bench serve`: eight users, random prompts, over both kinds of streams.

use anyhow::Result;
use serde_json::Value;

use super::row::{Row, Told};
use super::session::{Session, count, empty_folder, json, model_folder, number, sources};
use crate::cargo::program;

const REQUESTS: u64 = 32;

pub(super) fn run(session: &Session) -> Result<Vec<Row>> {
    let python = Session::python("vllm")?;
    let backends = [
        ("openai", "/v1/completions"),
        ("openai-chat", "/v1/chat/completions"),
    ];
    let mut rows = Vec::new();
    for (backend, route) in backends {
        let name = format!("vllm bench serve {backend}");
        let folder = empty_folder(&name)?;
        let mut command = program(&python);
        command
            .env("HF_HUB_OFFLINE", "1")
            .arg(sources("vllm").join("command.py"))
            .args(["bench", "serve", "--backend", backend, "--endpoint", route])
            .args(["--base-url", session.url(), "--model", "bundled"])
            .arg("--tokenizer")
            .arg(model_folder())
            .args(["--dataset-name", "random", "--random-input-len", "64"])
            .args(["--random-output-len", "32", "--ignore-eos"])
            .args(["--num-prompts", &REQUESTS.to_string()])
            .args(["--max-concurrency", "8", "--save-result"])
            .args(["--result-filename", "results.json", "--result-dir"])
            .arg(&folder);
        rows.push(session.measure(&name, REQUESTS, &folder, &mut command, || {
            told(&json(&folder.join("results.json"))?)
        })?);
    }
    Ok(rows)
}

fn told(results: &Value) -> Result<Told> {
    Ok(Told {
        answered: count(results, "/completed")?,
        failed: count(results, "/failed")?,
        prompt_tokens: count(results, "/total_input_tokens")?,
        generated_tokens: count(results, "/total_output_tokens")?,
        speed: Some((
            number(results, "/output_throughput")?,
            number(results, "/median_ttft_ms")?,
        )),
    })
}
