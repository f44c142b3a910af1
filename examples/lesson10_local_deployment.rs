//! Lesson 10: a model on your own machine.
//!
//! What a model takes and how fast it can be at most, computed before it runs and measured afterwards, for each
//! format its weights may have: `cargo run --release --example lesson10_local_deployment` with the bundled model, and
//! with `-- MODEL ...` for directories or GGUF files. The page is `docs/src/lessons/lesson10_local_deployment.md`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use maitre::{Engine, Speculate};
use maitre_examples::local::{source, tokens_per_second};
use maitre_examples::{quick, table};
use maitre_model::ModelSource;
use maitre_tensor::Limits;

/// Formats of the weights: as the files store them, and this engine's.
const FORMATS: [&str; 4] = ["stored", "bf16", "int8", "int4"];

/// Users at once, of the two speeds that are measured.
const MANY: u32 = 16;

fn main() -> Result<()> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let budget = Duration::from_millis(if quick() { 10 } else { 500 });
    let limits = Limits::measure(threads, budget)?;
    println!("\n  {threads} threads; the machine: {limits}");
    let paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let mut models = Vec::new();
    for path in &paths {
        models.push(source(path)?);
    }
    if models.is_empty() {
        models.push(maitre::bundled());
    }
    for model in &models {
        measure(model, &limits)?;
    }
    Ok(())
}

/// A table of one model's formats.
fn measure(model: &ModelSource, limits: &Limits) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let new_tokens = if quick() { 4 } else { 64 };
    let mut rows = Vec::new();
    for format in FORMATS {
        let dtype = match format {
            "stored" => None,
            name => Some(name.parse()?),
        };
        let began = Instant::now();
        // Guesses would make several tokens of one reading.
        let engine = Engine::builder(model.clone()).speculate(Speculate::Off);
        let engine = engine.dtype(dtype).build()?;
        let ready = began.elapsed();
        let (info, memory) = (engine.info(), &engine.info().memory);
        if rows.iter().any(|row: &Vec<String>| row[0] == info.dtype) {
            // Files that store this format.
            continue;
        }
        if rows.is_empty() {
            println!(
                "\n  {}: {}, {:.1} M parameters, {} of KV per token\n",
                info.model,
                info.architecture,
                info.parameters as f64 / 1e6,
                kib(memory.kv_per_token),
            );
        }
        // A token of one user reads all weights once. Its keys and values are few as long as the text is short.
        let most = limits.read_bytes_per_s / memory.weights as f64;
        let one = runtime.block_on(tokens_per_second(&engine, 1, new_tokens))?;
        let many = runtime.block_on(tokens_per_second(&engine, MANY, new_tokens))?;
        rows.push(vec![
            info.dtype.clone(),
            format!("{:.1}", memory.weights as f64 / f64::from(1 << 20)),
            fits(memory.available, memory.weights, memory.kv_per_token),
            format!("{:.2}", ready.as_secs_f64()),
            format!("{most:.0}"),
            format!("{one:.0}"),
            format!("{:.0} %", 100.0 * one / most),
            format!("{many:.0}"),
        ]);
    }
    let header = [
        "weights",
        "MiB",
        "tokens that fit",
        "ready (s)",
        "bound (tok/s)",
        "1 user (tok/s)",
        "of the bound",
        "16 users (tok/s)",
    ];
    table::print(&header, &rows);
    Ok(())
}

/// Tokens, of all users together, whose keys and values fit beside the weights.
fn fits(available: Option<u64>, weights: u64, kv_per_token: u64) -> String {
    let Some(available) = available else {
        return "unknown".into();
    };
    let tokens = available.saturating_sub(weights) / kv_per_token.max(1);
    format!("{:.1} M", tokens as f64 / 1e6)
}

fn kib(bytes: u64) -> String {
    format!("{:.1} KiB", bytes as f64 / 1024.0)
}
