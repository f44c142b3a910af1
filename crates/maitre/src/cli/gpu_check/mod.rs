//! `maitre gpu-check`: verify and time a GPU in one run, and print one table that tells all.
//!
//! ```text
//! supervisor   starts a worker, gathers its rows, writes the report after each
//!     │            a worker that dies or hangs costs the item it was at; the next worker goes on behind it
//! worker       the same program with --from N: items N, N + 1, ... of one fixed list, each a row
//!     │
//! checks/      is every result right?      speeds/   how fast, beside what bytes and operations allow
//! ```
//!
//! A device error can leave a GPU's context unusable for the rest of a process; hence the two processes.

mod checks;
mod item;
mod numbers;
mod prediction;
mod report;
mod sequences;
mod service;
mod shape;
mod site;
mod sizes;
mod speeds;
mod supervisor;
mod table;
mod worker;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use maitre::DeviceName;

#[derive(Debug, Clone, Args)]
pub(crate) struct GpuCheckArgs {
    /// What to check: cuda[:N], auto, which is cuda:0, or emulator, the same kernels run on the processor (with `--shape tiny`; its
    /// speeds mean nothing). `cpu` checks the processor against itself.
    #[arg(long, default_value = "cuda:0", value_name = "DEVICE")]
    device: DeviceName,
    /// Do one half of the work.
    #[arg(long)]
    only: Option<Half>,
    /// Do only rows whose name in the JSON contains this, such as `decode_8b` or `attention`; may be given several times.
    #[arg(long, value_name = "PART")]
    row: Vec<String>,
    /// What might take longer than is left of these is listed as not run.
    #[arg(long, default_value_t = 460.0, value_name = "SECONDS", value_parser = super::serve::seconds)]
    time_limit: f64,
    /// What to time: shapes of Qwen3 with made-up weights, or one so tiny that the emulator can run it.
    /// Checks take sizes to match.
    #[arg(long, default_value = "8b")]
    shape: ShapeArg,
    /// Directory of a model whose greedy tokens are compared, beside the bundled one; may be given several times.
    #[arg(long, value_name = "DIR")]
    model: Vec<PathBuf>,
    /// Also write gpu-check.json and gpu-check.md into this directory.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Threads that compute what is right, and pack weights [default: one per core].
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Be a worker that begins with this item.
    #[arg(long, value_name = "ITEM", hide = true)]
    from: Option<usize>,
    /// What a worker before this one measured, in bytes a second.
    #[arg(long, value_name = "RATE", hide = true)]
    copy_rate: Option<f64>,
    /// The same, in operations a second.
    #[arg(long, value_name = "RATE", hide = true)]
    matmul_rate: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Half {
    Checks,
    Speeds,
}

/// What is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ShapeArg {
    /// Qwen3-8B, and after it Qwen3-0.6B.
    #[value(name = "8b")]
    Large,
    /// Qwen3-0.6B.
    #[value(name = "0.6b")]
    Small,
    /// Two layers of width 32.
    Tiny,
}

impl GpuCheckArgs {
    fn wants(&self, half: Half) -> bool {
        self.only.is_none_or(|only| only == half)
    }

    fn wants_row(&self, id: &str) -> bool {
        self.row.is_empty() || self.row.iter().any(|part| id.contains(part.as_str()))
    }

    fn threads(&self) -> usize {
        self.threads.unwrap_or_else(|| maitre::usable_cores().count)
    }
}

pub(crate) async fn run(args: GpuCheckArgs) -> Result<()> {
    let handle = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || match args.from {
        None => supervisor::run(&args),
        Some(first) => worker::run(&args, first, handle),
    })
    .await?
}
