//! `cargo xtask bench`: how fast it is, in the release build.

use anyhow::Result;

use crate::cargo::{cargo, finish, program, target_directory};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// `kernels [FILTER]` for the micro-benchmarks; anything else goes to `maitre bench`, for
    /// example `--target in-process --concurrency 1,4,16`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    match arguments.arguments.split_first() {
        Some((first, filter)) if first == "kernels" => {
            finish(cargo(&["bench", "--locked", "--package", "maitre-benches", "--"]).args(filter))
        }
        _ => {
            finish(&mut cargo(&[
                "build",
                "--locked",
                "--release",
                "--package",
                "maitre",
            ]))?;
            let maitre = target_directory().join("release").join("maitre");
            finish(program(maitre).arg("bench").args(&arguments.arguments))
        }
    }
}
