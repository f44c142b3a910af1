//! `cargo xtask bench`: how fast it is, in the release build. `cargo xtask bench regression` is the gate; the others only tell.

mod bootstrap;
mod contestant;
mod kept;
mod kernels;
mod pairs;
mod peers;
mod regression;
mod replay;
mod roofline;
mod served;
mod simulated_workloads;
mod simulator;
mod speculation;
mod streams;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;

use crate::cargo::{cargo, finish, program, target_directory};
use crate::inlined;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// `kernels [--full] [FILTER]` holds the kernels against the limits of this machine; `peers`
    /// holds Maitre against another engine (see `peers --help`); `speculation` holds what drafts gain
    /// against what they should (see `speculation --help`); `streams` measures what text, sampling and HTTP
    /// cost (see `streams --help`); `simulator` holds what `maitre simulate` foresees against what is measured (see
    /// `simulator --help`); `replay` plays recorded requests under several loads and every scheduling policy, measured and simulated (see
    /// `replay --help`); `regression` is the gate of speed: it fails if serving, the scheduler or a kernel is slower than the ratios that are
    /// stored for this kind of processor (see `regression --help`); anything else goes to `maitre bench`, for example
    /// `--target in-process --concurrency 1,4,16`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let words = &arguments.arguments;
    match words.first().map(String::as_str) {
        Some("kernels") => kernels::run(&kernels::Arguments::parse_from(words)),
        Some("speculation") => speculation::run(&speculation::Arguments::parse_from(words)),
        Some("regression") => regression::run(&regression::Arguments::parse_from(words)),
        Some("replay") => replay::run(&replay::Arguments::parse_from(words)),
        Some("simulator") => simulator::run(&simulator::Arguments::parse_from(words)),
        Some("streams") => streams::run(&words[1..]),
        Some("peers") => peers::run(&peers::Arguments::parse_from(words)),
        _ => finish(program(build_maitre()?).arg("bench").args(words)),
    }
}

/// Builds the release binary and tells where it is.
fn build_maitre() -> Result<PathBuf> {
    finish(&mut cargo(&[
        "build",
        "--locked",
        "--release",
        "--package",
        "maitre",
    ]))?;
    let release = target_directory().join("release");
    inlined::check(&release)?;
    Ok(release.join("maitre"))
}
