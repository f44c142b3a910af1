//! The `maitre` binary: parse, dispatch, map the outcome to an exit code.
//!
//! Exit codes: 0 done, 1 failed, 2 bad usage, 130 and 143 stopped by SIGINT and SIGTERM before it was done.
//! Logs go to stderr, results to stdout.

mod cli;

use std::process::ExitCode;

use clap::Parser;
use cli::logs::{self, Verbosity};
use cli::signals::Signals;
use cli::{Cli, Command};
use maitre::server::Startup;

/// The step loop, the publisher, the ones that wait for signals, the one that loads, the tokenizer's, and some that
/// wait for files and names.
const OTHER_THREADS: usize = 10;

fn main() -> ExitCode {
    let cli = parse();
    logs::begin(match &cli {
        Ok(cli) => Verbosity::of(&cli.command, cli.verbose),
        Err(_) => Verbosity::QUIET,
    });
    match cli.and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", cli::report::report(error.as_ref()));
            if is_bad_usage(&error) {
                ExitCode::from(2)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// What is asked for. Bad usage ends the process here, with exit code 2.
fn parse() -> anyhow::Result<Cli> {
    let arguments = cli::config_file::expand(std::env::args_os().collect())?;
    Ok(Cli::parse_from(arguments))
}

/// A flag whose value only the engine can judge.
fn is_bad_usage(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        matches!(
            cause.downcast_ref(),
            Some(maitre::StartError::Setting { .. })
        )
    })
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let cores = maitre::usable_cores().count;
    // The workers, the rest of the compute team, those for requests in the making, and what there are a few of.
    maitre::require_threads(cores + cores - 1 + maitre::Offload::threads() + OTHER_THREADS)?;
    let startup = Startup::new("starting");
    // Before any work: a process with the id 1 hears no signal that it has not asked for.
    let signals = Signals::install(&startup)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores)
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(async {
        match cli.command {
            Command::Serve(args) => cli::serve::run(args, &startup, &signals).await,
            Command::Chat(args) => cli::chat::run(args, &startup, &signals).await,
            Command::Generate(args) => cli::generate::run(args, &startup).await,
            Command::Bench(args) => cli::bench::run(*args, &startup, &signals).await,
            Command::Simulate(args) => cli::simulate::run(args, &startup).await,
            Command::Plan(args) => cli::plan::run(args, &startup).await,
            Command::Inspect(args) => cli::inspect::run(args, &startup).await,
            Command::List(args) => cli::list::run(&args),
            Command::GpuCheck(args) => {
                startup.doing("checking the GPU");
                cli::gpu_check::run(args).await
            }
        }
    });
    // A blocking task that still loads a model must not hold up the exit.
    runtime.shutdown_background();
    outcome
}
