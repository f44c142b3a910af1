//! Lesson 3: how many sequences fit into the KV cache.
//!
//! Computes what a token costs, compares it with what the engine reports, and finds how many sequences a
//! pool holds before the first one is preempted: by the formula, by the scheduler alone, and by serving. Run
//! it with `cargo run --release --example lesson03_kv_cache`; the page is
//! `docs/src/lessons/lesson03_kv_cache.md`.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use maitre::{Engine, GenerateRequest, Input, KvFormat};
use maitre_examples::dry_run::DryRun;
use maitre_examples::picture::{self, Line};
use maitre_examples::timed::{TimedAnswer, ask, ask_in_order, ms};
use maitre_examples::{quick, table};
use maitre_model::ModelConfig;
use maitre_scheduler::{KvConfig, NewRequest, SchedulerConfig};

const BLOCK_SIZE: usize = 16;

/// Tokens of a prompt and of its answer.
const PROMPT: usize = 33;
const OUTPUT: usize = 96;

/// Whole sequences that the small pool holds.
const FIT: usize = 8;

/// Positions of a sequence that are ever written: nothing is computed from its last token.
const POSITIONS: usize = PROMPT + OUTPUT - 1;
const BLOCKS_EACH: usize = POSITIONS.div_ceil(BLOCK_SIZE);

#[tokio::main]
async fn main() -> Result<()> {
    let json = maitre_bundled::TARGET.file("config.json");
    let config = ModelConfig::from_json(json.unwrap_or_default())?;
    let pools = bytes_per_token(&config)?;
    capacity(&pools)?;
    let limit = first_preemption()?;
    serve(limit).await
}

/// The pool of an engine with one of the formats.
struct Pool {
    name: &'static str,
    bytes_per_token: u64,
    bytes: u64,
}

/// What a token takes, by the formula and by the engine.
fn bytes_per_token(config: &ModelConfig) -> Result<Vec<Pool>> {
    let (layers, heads, dim) = (config.num_layers, config.num_kv_heads, config.head_dim);
    println!(
        "\nBytes of keys and values per token: 2 x {layers} layers x {heads} KV heads x bytes of {dim} numbers\n"
    );
    let mut pools = Vec::new();
    let mut rows = Vec::new();
    for (name, format, vector) in [
        ("f32", KvFormat::F32, 4 * dim),
        ("bf16", KvFormat::Bf16, 2 * dim),
        // And a scale, in f32.
        ("int8", KvFormat::Int8, dim + 4),
    ] {
        let formula = (2 * layers * heads * vector) as u64;
        let engine = Engine::builder(maitre::bundled())
            .kv_dtype(Some(format))
            .build()?;
        let (memory, limits) = (engine.info().memory, engine.info().limits);
        ensure!(
            memory.kv_per_token == formula,
            "{name}: the engine says {} bytes a token, the formula {formula}",
            memory.kv_per_token
        );
        let pool = formula * (limits.num_blocks * limits.block_size) as u64;
        ensure!(
            memory.kv_cache == pool,
            "{name}: the engine says {} bytes, its blocks make {pool}",
            memory.kv_cache
        );
        rows.push(vec![
            name.into(),
            vector.to_string(),
            formula.to_string(),
            limits.num_blocks.to_string(),
            format!("{:.1}", pool as f64 / f64::from(1 << 20)),
            (limits.kv_tokens() / limits.max_model_len).to_string(),
        ]);
        pools.push(Pool {
            name,
            bytes_per_token: formula,
            bytes: pool,
        });
    }
    table::print(
        &[
            "KV dtype",
            "bytes of a head",
            "bytes a token",
            "blocks",
            "pool (MiB)",
            "whole contexts",
        ],
        &rows,
    );
    Ok(pools)
}

/// Sequences of a length that fit into the same memory in each format.
fn capacity(pools: &[Pool]) -> Result<()> {
    let bytes = pools.iter().map(|pool| pool.bytes).min().unwrap_or(0);
    let fit = |pool: &Pool, length: usize| {
        let blocks = bytes / (pool.bytes_per_token * BLOCK_SIZE as u64);
        blocks as f64 / length.div_ceil(BLOCK_SIZE) as f64
    };
    let line = |pool: &Pool| Line {
        name: pool.name.into(),
        points: [128, 256, 384, 512, 768, 1024, 1536, 2048]
            .map(|length| (length as f64, fit(pool, length).floor()))
            .to_vec(),
    };
    let title = format!("Sequences that fit into {} MiB", bytes >> 20);
    let lines: Vec<Line> = pools.iter().map(line).collect();
    let path = picture::lines(
        "lesson03_capacity",
        &title,
        "tokens of a sequence",
        "sequences",
        &lines,
    )?;
    println!("picture: {}\n", path.display());
    Ok(())
}

/// The smallest number of sequences of which one is preempted, found by trying.
fn first_preemption() -> Result<usize> {
    println!(
        "A pool of {} blocks; prompts of {PROMPT} and answers of {OUTPUT} tokens fill {BLOCKS_EACH} blocks each\n",
        FIT * BLOCKS_EACH
    );
    for sequences in 1.. {
        let kv = KvConfig {
            prefix_cache: false,
            ..KvConfig::new((FIT * BLOCKS_EACH) as u32, BLOCK_SIZE as u32)
        };
        let mut dry_run = DryRun::new(SchedulerConfig::new(64, 4096, PROMPT + OUTPUT, kv))?;
        for id in 0..sequences {
            let prompt = vec![id as u32; PROMPT];
            dry_run
                .scheduler
                .add(NewRequest::new(id as u64, prompt, OUTPUT))?;
        }
        while dry_run.scheduler.has_work() {
            dry_run.step()?;
        }
        if dry_run.scheduler.counts().preemptions > 0 {
            ensure!(
                sequences == FIT + 1,
                "the first preemption comes with {sequences} sequences, the formula says {}",
                FIT + 1
            );
            return Ok(sequences);
        }
    }
    Ok(0)
}

/// So many sequences at once, served by the engine.
struct Crowd {
    sequences: usize,
    preemptions: u64,
    took: Duration,
    answers: Vec<TimedAnswer>,
}

fn request(user: usize) -> GenerateRequest {
    let ids = (0..PROMPT).map(|i| 300 + ((user * 131 + i * 7) % 3000) as u32);
    let mut request = GenerateRequest::new(Input::Tokens(ids.collect()));
    request.sampling.temperature = Some(0.0);
    request.stopping.max_tokens = Some(OUTPUT as u32);
    request.stopping.ignore_eos = true;
    request
}

/// An engine whose pool has space for [`FIT`] whole sequences and not a block more.
fn small_engine() -> Result<Engine> {
    let standard = Engine::builder(maitre::bundled()).build()?;
    let bytes = standard.info().memory.kv_per_token * (FIT * BLOCKS_EACH * BLOCK_SIZE) as u64;
    let engine = Engine::builder(maitre::bundled())
        .max_model_len(Some(PROMPT + OUTPUT))
        .block_size(BLOCK_SIZE)
        .kv_cache_bytes(Some(bytes))
        .prefix_cache(false)
        .max_seqs(32)
        .build()?;
    let blocks = engine.info().limits.num_blocks;
    ensure!(blocks == FIT * BLOCKS_EACH, "the pool has {blocks} blocks");
    Ok(engine)
}

async fn serve(limit: usize) -> Result<()> {
    let counts: &[usize] = if quick() {
        &[1, FIT, FIT + 1]
    } else {
        &[1, 4, FIT, FIT + 1, FIT + 2, 12, 16, 24]
    };
    let engine = small_engine()?;
    ask(&engine, request(0)).await?;
    let mut crowds: Vec<Crowd> = Vec::new();
    let mut before = engine.load().preemptions;
    for &sequences in counts {
        let began = Instant::now();
        let answers = ask_in_order(&engine, (0..sequences).map(request).collect()).await?;
        let took = began.elapsed();
        // Passes through the step loop, so that what it says next is said after the last step.
        engine.reset_prefix_cache().await?;
        let after = engine.load().preemptions;
        crowds.push(Crowd {
            sequences,
            preemptions: after - before,
            took,
            answers,
        });
        before = after;
    }
    for crowd in &crowds {
        ensure!(
            crowd.sequences >= limit || crowd.preemptions == 0,
            "{} sequences fit, and {} were preempted",
            crowd.sequences,
            crowd.preemptions
        );
    }
    if let Some(last) = crowds.last() {
        let same = |crowd: &Crowd| {
            crowd
                .answers
                .iter()
                .zip(&last.answers)
                .all(|(a, b)| a.ids == b.ids)
        };
        ensure!(
            crowds.iter().all(same),
            "a preempted answer is the same as one that is not"
        );
    }
    print(&crowds);
    draw(&crowds)
}

fn print(crowds: &[Crowd]) {
    let rows: Vec<Vec<String>> = crowds
        .iter()
        .map(|crowd| {
            let tokens: usize = crowd.answers.iter().map(|answer| answer.ids.len()).sum();
            let queue = crowd
                .answers
                .iter()
                .map(|answer| answer.end.timings.queue)
                .max();
            let worst = crowd.answers.iter().flat_map(TimedAnswer::gaps).max();
            vec![
                crowd.sequences.to_string(),
                format!("{:.0} %", 100.0 * crowd.sequences as f64 / FIT as f64),
                crowd.preemptions.to_string(),
                format!("{:.0}", tokens as f64 / crowd.took.as_secs_f64()),
                ms(queue.unwrap_or_default()),
                ms(worst.unwrap_or_default()),
            ]
        })
        .collect();
    table::print(
        &[
            "sequences",
            "of what fits",
            "preemptions",
            "tokens/s",
            "longest wait (ms)",
            "longest gap (ms)",
        ],
        &rows,
    );
}

fn draw(crowds: &[Crowd]) -> Result<()> {
    let points = crowds
        .iter()
        .map(|crowd| (crowd.sequences as f64, crowd.preemptions as f64));
    let line = Line {
        name: "preemptions".into(),
        points: points.collect(),
    };
    let title = format!("Preemptions, where {FIT} whole sequences fit");
    let path = picture::lines(
        "lesson03_preemptions",
        &title,
        "sequences at once",
        "preemptions",
        &[line],
    )?;
    println!("picture: {}", path.display());
    Ok(())
}
