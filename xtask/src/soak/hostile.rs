//! `cargo xtask soak --hostile`: what the neighbours of a hostile client notice.
//!
//! The example `hostile` of the benchmarks attacks and judges; here the server is built for it.

use anyhow::Result;

use super::build_server;
use crate::cargo::{cargo, finish};

const CLIENTS: usize = 8;

#[derive(Debug, clap::Args)]
pub(super) struct HostileArguments {
    /// Attack the server beside honest clients, and fail if those notice too much.
    #[arg(long, conflicts_with_all = ["requests", "allowed_kib"])]
    pub(super) hostile: bool,
    /// With --hostile: minutes that all attacks take together.
    #[arg(long, value_name = "N", default_value_t = 3.0, requires = "hostile")]
    minutes: f64,
    /// With --hostile: times that each attack is made; memory must not grow in the second half of them.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "hostile")]
    rounds: usize,
    /// With --hostile: only this attack; may be given more than once.
    #[arg(long, value_name = "NAME", requires = "hostile")]
    only: Vec<String>,
    /// With --hostile: name all attacks and stop.
    #[arg(long, requires = "hostile")]
    list: bool,
}

/// `clients`: how many honest ones there are.
pub(super) fn run(arguments: &HostileArguments, clients: Option<usize>) -> Result<()> {
    let mut attack = cargo(&["run", "--locked", "--release", "--package"]);
    attack.args(["maitre-benches", "--example", "hostile", "--"]);
    if arguments.list {
        return finish(attack.arg("list"));
    }
    let clients = clients.unwrap_or(CLIENTS);
    attack.arg("measure").arg("--maitre").arg(build_server()?);
    attack.args(["--minutes", &arguments.minutes.to_string()]);
    attack.args(["--clients", &clients.to_string()]);
    attack.args(["--rounds", &arguments.rounds.to_string()]);
    for name in &arguments.only {
        attack.args(["--only", name]);
    }
    finish(&mut attack)
}
