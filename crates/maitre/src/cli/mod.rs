//! The command line: one file per command, and what several of them share.

pub(crate) mod bench;
pub(crate) mod chat;
pub(crate) mod clients;
pub(crate) mod config_file;
pub(crate) mod form;
pub(crate) mod generate;
pub(crate) mod gpu_check;
pub(crate) mod hub_name;
pub(crate) mod inspect;
pub(crate) mod list;
pub(crate) mod listen;
pub(crate) mod loading;
pub(crate) mod logs;
pub(crate) mod model;
pub(crate) mod plan;
pub(crate) mod report;
pub(crate) mod sampling;
pub(crate) mod serve;
pub(crate) mod short_names;
pub(crate) mod signals;
pub(crate) mod simulate;
pub(crate) mod source;
pub(crate) mod speculation;
pub(crate) mod trace_file;

use clap::{ArgAction, Parser, Subcommand};

/// An LLM serving engine: one command serves a model over gRPC.
#[derive(Debug, Parser)]
#[command(name = "maitre", version, args_override_self = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Log what is done (-v) and how (-vv), beside warnings and errors. RUST_LOG overrides it.
    #[arg(short, long, global = true, action = ArgAction::Count, display_order = 1000)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve a model over gRPC and over HTTP as OpenAI does, with metrics and health.
    Serve(serve::ServeArgs),
    /// Talk to a model in the terminal.
    Chat(chat::ChatArgs),
    /// Generate one answer and print it.
    Generate(generate::GenerateArgs),
    /// Measure a server, or the engine in this process.
    Bench(Box<bench::BenchArgs>),
    /// Foresee how a model on some hardware would serve some requests, in simulated time.
    Simulate(simulate::SimulateArgs),
    /// Find how many boxes serve some traffic within an SLO, what bounds them and what would move that.
    Plan(plan::PlanArgs),
    /// Show a model's parameters and what it needs in memory.
    Inspect(inspect::InspectArgs),
    /// List the models that were downloaded, or those that have a short name.
    List(list::ListArgs),
    /// Verify and time the GPU backend in one run.
    GpuCheck(gpu_check::GpuCheckArgs),
}
