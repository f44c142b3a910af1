//! Lesson 1: two phases and a cache.
//!
//! Measures how long a prompt and how long the tokens behind it take, holds the bytes of keys and values against the formula, shows
//! what a long prompt does to those who are reading, and keeps the two phases apart in the simulator. Run it with
//! `cargo run --release --example lesson01_ttft_tps_kv`; the page is `docs/src/lessons/lesson01_ttft_tps_kv.md`.

use std::time::Duration;

use anyhow::{Result, ensure};
use maitre::{Engine, GenerateRequest, Input};
use maitre_examples::picture::{self, Line};
use maitre_examples::timed::{TimedAnswer, ask, ask_all, ms, quantile, read};
use maitre_examples::traffic::{Traffic, llama_on_h100};
use maitre_examples::{quick, table};
use maitre_model::ModelConfig;
use maitre_sim::Split;

#[tokio::main]
async fn main() -> Result<()> {
    let engine = Engine::builder(maitre::bundled()).build()?;
    phases(&engine).await?;
    cache(&engine)?;
    chunks().await?;
    apart()
}

/// A prompt of so many tokens, which no other begins as, for an answer of exactly so many.
fn request(salt: u32, prompt_tokens: u32, max_tokens: u32) -> GenerateRequest {
    let ids = (0..prompt_tokens).map(|i| 300 + (salt * 131 + i * 7) % 3000);
    let mut request = GenerateRequest::new(Input::Tokens(ids.collect()));
    request.sampling.temperature = Some(0.0);
    request.stopping.max_tokens = Some(max_tokens);
    request.stopping.ignore_eos = true;
    request
}

fn median(values: impl Iterator<Item = Duration>) -> Duration {
    quantile(values.collect(), 0.5)
}

/// One request after the other: the time of its prompt, and of a token of its answer.
async fn phases(engine: &Engine) -> Result<()> {
    let lengths: &[u32] = if quick() {
        &[16, 64]
    } else {
        &[16, 64, 256, 512, 1024, 1536]
    };
    let (answer, times) = if quick() { (4, 1) } else { (64, 5) };
    ask(engine, request(0, 16, answer)).await?;
    let mut rows = Vec::new();
    let (mut prefill, mut decode) = (Vec::new(), Vec::new());
    for &length in lengths {
        let mut answers: Vec<TimedAnswer> = Vec::new();
        for time in 0..times {
            answers.push(ask(engine, request(length + time, length, answer)).await?);
        }
        let ttft = median(answers.iter().map(TimedAnswer::ttft));
        let gap = median(answers.iter().flat_map(TimedAnswer::gaps));
        let per_second = f64::from(length) / ttft.as_secs_f64();
        prefill.push((f64::from(length), ttft.as_secs_f64() * 1e3));
        decode.push((f64::from(length), gap.as_secs_f64() * 1e3));
        rows.push(vec![
            length.to_string(),
            ms(ttft),
            format!("{per_second:.0}"),
            ms(gap),
            format!("{:.0}", 1.0 / gap.as_secs_f64()),
        ]);
    }
    println!("\nOne request at a time, {answer} tokens each\n");
    let header = [
        "prompt",
        "TTFT (ms)",
        "prompt tok/s",
        "ITL (ms)",
        "answer tok/s",
    ];
    table::print(&header, &rows);
    let line = |name: &str, points| Line {
        name: name.into(),
        points,
    };
    let path = picture::lines(
        "lesson01_phases",
        "A prompt, and a token behind it",
        "tokens of the prompt",
        "milliseconds",
        &[
            line("time to first token", prefill),
            line("each token behind it", decode),
        ],
    )?;
    println!("picture: {}\n", path.display());
    Ok(())
}

/// What a token leaves in the cache, by the formula and by the engine.
fn cache(engine: &Engine) -> Result<()> {
    let json = maitre_bundled::TARGET.file("config.json");
    let config = ModelConfig::from_json(json.unwrap_or_default())?;
    let (memory, limits) = (engine.info().memory, engine.info().limits);
    let formula = 2 * config.num_layers * config.num_kv_heads * config.head_dim * 2;
    ensure!(
        memory.kv_per_token == formula as u64,
        "the engine says {} bytes a token, the formula {formula}",
        memory.kv_per_token
    );
    let pool = formula * limits.num_blocks * limits.block_size;
    ensure!(memory.kv_cache == pool as u64, "the pool is its blocks");
    println!(
        "KV: 2 x {} layers x {} heads x {} numbers x 2 bytes = {formula} bytes a token; a pool of {} blocks of {} tokens = {pool} bytes, \
         {} whole contexts of {}\n",
        config.num_layers,
        config.num_kv_heads,
        config.head_dim,
        limits.num_blocks,
        limits.block_size,
        limits.kv_tokens() / limits.max_model_len,
        limits.max_model_len
    );
    Ok(())
}

/// Four users read their answers, and one asks with a long prompt.
async fn chunks() -> Result<()> {
    let (long, answer) = if quick() { (64, 8) } else { (1536, 192) };
    let budgets: &[usize] = if quick() {
        &[16, 64]
    } else {
        &[32, 64, 128, 256, 512, 2048]
    };
    let mut rows = Vec::new();
    let (mut gaps, mut waits) = (Vec::new(), Vec::new());
    for &budget in budgets {
        let engine = Engine::builder(maitre::bundled())
            .max_batched_tokens(budget)
            .build()?;
        let readers = (0..4).map(|user| request(user, 16, answer)).collect();
        let reading = tokio::spawn({
            let engine = engine.clone();
            async move { ask_all(&engine, readers).await }
        });
        // The long prompt comes when a reader is in the middle of an answer.
        let asked = std::time::Instant::now();
        let first = engine.generate(request(77, 16, answer / 4)).await?;
        read(asked, first, |_| ()).await?;
        let prompt = ask(&engine, request(99, long, 4)).await?;
        let answers = reading.await??;
        let worst = answers
            .iter()
            .flat_map(TimedAnswer::gaps)
            .max()
            .unwrap_or_default();
        gaps.push((budget as f64, worst.as_secs_f64() * 1e3));
        waits.push((budget as f64, prompt.ttft().as_secs_f64() * 1e3));
        rows.push(vec![
            budget.to_string(),
            long.div_ceil(budget as u32).to_string(),
            ms(median(answers.iter().flat_map(TimedAnswer::gaps))),
            ms(worst),
            ms(prompt.ttft()),
        ]);
    }
    println!("A prompt of {long} tokens beside four answers, by the most tokens of a step\n");
    let header = [
        "budget",
        "chunks, at least",
        "ITL p50 (ms)",
        "ITL max (ms)",
        "TTFT of it (ms)",
    ];
    table::print(&header, &rows);
    let line = |name: &str, points| Line {
        name: name.into(),
        points,
    };
    let path = picture::lines(
        "lesson01_chunks",
        "What a long prompt costs whom",
        "tokens of a step, at most",
        "milliseconds",
        &[
            line("longest gap of the readers", gaps),
            line("time to first token of the prompt", waits),
        ],
    )?;
    println!("picture: {}\n", path.display());
    Ok(())
}

/// The same eight GPUs, all of which do both phases, or each one of them.
fn apart() -> Result<()> {
    let (rates, seconds, prompt, output): (&[f64], _, _, _) = match quick() {
        // Debug builds check every block after every step.
        true => (&[8.0], 1.0, (20, 60), (5, 15)),
        false => (&[20.0, 40.0, 80.0, 90.0], 60.0, (1500, 3000), (100, 300)),
    };
    let mut rows = Vec::new();
    for &rate in rates {
        for prefill in [None, Some(3), Some(4), Some(5)] {
            let mut simulation = llama_on_h100()?;
            simulation.replicas = 8;
            simulation.split = prefill.map(|prefill| Split {
                prefill,
                decode: 8 - prefill,
                link_bytes_per_second: 50e9,
            });
            let mut traffic = Traffic::varying(|_| rate, rate, seconds, prompt, output, 3);
            let report = simulation.run(&mut traffic)?;
            let p99 = |it: Option<maitre_sim::Percentiles>| it.map_or(0.0, |it| it.p99);
            rows.push(vec![
                format!("{rate:.0}"),
                prefill.map_or("8 for both".into(), |n| format!("{n} + {}", 8 - n)),
                format!("{:.0}", p99(report.ttft_ms)),
                format!("{:.1}", report.tpot_ms.map_or(0.0, |it| it.p50)),
                format!("{:.1}", p99(report.tpot_ms)),
                format!("{:.1}", p99(report.itl_ms)),
            ]);
        }
    }
    println!(
        "Eight H100s, Llama 3.1 8B: prompts and answers on the same ones, or apart (simulated)\n"
    );
    let header = [
        "req/s",
        "GPUs",
        "TTFT p99 (ms)",
        "TPOT p50",
        "TPOT p99",
        "ITL p99",
    ];
    table::print(&header, &rows);
    Ok(())
}
