//! `cargo xtask structured`: answers of the bundled model under JSON schemas, each checked by a validator.

use anyhow::Result;

use crate::cargo::{cargo, finish};

/// What is generated and measured.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How many answers, over all schemas.
    #[arg(long, default_value_t = 1200)]
    generations: usize,
    /// Measure instead what constraints cost: masks, and the time between tokens for 16 users.
    #[arg(long)]
    cost: bool,
}

/// Runs the example that does the work, optimised.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let build = [
        "run",
        "--release",
        "--locked",
        "--package",
        "maitre-benches",
    ];
    let mut command = cargo(&build);
    command.args(["--example", "structured", "--"]);
    match arguments.cost {
        true => command.arg("--cost"),
        false => command.args(["--generations", &arguments.generations.to_string()]),
    };
    finish(&mut command)
}
