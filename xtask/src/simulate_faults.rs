//! `cargo xtask simulate-faults`: scheduler and KV manager through millions of random events.
//!
//! The harness is a test of `maitre-scheduler` (`tests/scheduler/simulation.rs`), run here in the release build
//! for as long as is asked for. Every life has a seed; one that breaks an invariant is shrunk and printed as
//! calls that can be made again with `--replay`.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::cargo::{cargo, finish};

/// How long continuous integration simulates.
pub(crate) const CI_SECONDS: u64 = 60;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How long.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// The seed of the first life; the others follow.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Instead, make the calls of a failure again, as it was printed.
    #[arg(long)]
    replay: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if let Some(path) = &arguments.replay {
        let path = path
            .canonicalize()
            .with_context(|| format!("there is no case in {}", path.display()))?;
        return finish(harness().env("MAITRE_SIMULATE_REPLAY", path));
    }
    ensure!(
        arguments.minutes > 0.0,
        "--minutes is {}; it must be more than 0",
        arguments.minutes
    );
    simulate((60.0 * arguments.minutes).ceil() as u64, arguments.seed)
}

/// Simulates for so many seconds.
pub(crate) fn simulate(seconds: u64, seed: u64) -> Result<()> {
    finish(
        harness()
            .env("MAITRE_SIMULATE_SECONDS", seconds.to_string())
            .env("MAITRE_SIMULATE_SEED", seed.to_string()),
    )
}

fn harness() -> std::process::Command {
    let mut command = cargo(&[
        "test",
        "--locked",
        "--release",
        "--package",
        "maitre-scheduler",
        "--test",
        "scheduler",
        "simulation",
        "--",
        "--nocapture",
    ]);
    // A case fails hundreds of times while it is shrunk.
    command.env("RUST_BACKTRACE", "0");
    command
}
