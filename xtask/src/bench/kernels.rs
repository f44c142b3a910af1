//! `cargo xtask bench kernels`: every kernel's speed beside the limit of the machine.

use anyhow::Result;

use crate::cargo::{cargo, finish};

/// The kernels, held against the limits of this machine.
#[derive(Debug, clap::Parser)]
#[command(name = "cargo xtask bench kernels")]
pub(crate) struct Arguments {
    /// All shapes and longer measurements: several minutes instead of one.
    #[arg(long)]
    full: bool,
    /// Only kernels whose name contains this, for example `linear/bf16`.
    filter: Option<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut bench = cargo(&["bench", "--locked", "--package", "maitre-benches"]);
    bench.args(["--bench", "kernels", "--"]);
    bench.args(&arguments.filter);
    if arguments.full {
        // Criterion owns the command line of a benchmark.
        bench.env("MAITRE_BENCH", "full");
    }
    finish(&mut bench)
}
