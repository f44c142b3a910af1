//! What speculation gains, in raw pairs of measurements as JSON; `cargo xtask bench speculation` runs this and
//! makes tables of it.
#![allow(clippy::print_stderr, reason = "progress, for the user who waits")]

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use maitre_benches::speculation::{Settings, Shape, measure};
use maitre_engine::WeightFormat;

#[derive(Debug, Parser)]
struct Arguments {
    /// `large` (the shape of Qwen3-0.6B, random weights), `tiny`, `bundled`, or a directory.
    #[arg(long, default_value = "large", value_parser = shape)]
    model: Shape,
    /// Dtype of the weights.
    #[arg(long)]
    dtype: Option<String>,
    /// Threads of the compute team [default: one per core].
    #[arg(long)]
    threads: Option<usize>,
    /// Pairs of measurements with the synthetic drafter; 0 leaves them out.
    #[arg(long)]
    pairs: Option<usize>,
    /// Passages of recorded text; 0 leaves them out.
    #[arg(long)]
    passages: Option<usize>,
    /// The most drafts.
    #[arg(long)]
    most_drafts: Option<usize>,
    /// A little of everything on the tiny shape.
    #[arg(long)]
    quick: bool,
    /// Where to write what was measured.
    #[arg(long)]
    out: PathBuf,
}

fn shape(text: &str) -> Result<Shape, String> {
    Ok(match text {
        "large" => Shape::Large,
        "tiny" => Shape::Tiny,
        "bundled" => Shape::Bundled,
        path => Shape::Directory(path.into()),
    })
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = arguments.threads.unwrap_or(cores);
    let mut settings = if arguments.quick {
        Settings::quick(threads)
    } else {
        Settings {
            shape: arguments.model,
            ..Settings::full(threads)
        }
    };
    if let Some(dtype) = &arguments.dtype {
        let format: WeightFormat = dtype.parse()?;
        settings.dtype = Some(format);
    }
    settings.pairs = arguments.pairs.unwrap_or(settings.pairs);
    settings.passages = arguments.passages.unwrap_or(settings.passages);
    settings.most_drafts = arguments.most_drafts.unwrap_or(settings.most_drafts);
    let started = Instant::now();
    let progress = |what: &str| eprintln!("{:>6.0} s  {what}", started.elapsed().as_secs_f64());
    let record = measure(&settings, &progress)?;
    let path = &arguments.out;
    let text = serde_json::to_string_pretty(&record)? + "\n";
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
