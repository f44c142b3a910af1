//! `maitre simulate`: how a model on some hardware would serve some requests, with the scheduler that serves, in
//! simulated time.

mod fleet;
pub(super) mod machine;
mod requests;
pub(super) mod speculation;

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use maitre::PolicyKind;
use maitre::server::Startup;
use maitre_sim::{EngineSettings, Hardware, ModelShape, ProductFormat, Report, Simulation, Slo};

use self::fleet::FleetArgs;
use self::machine::MachineArgs;
use self::requests::{Asked, RequestArgs};
use self::speculation::SpeculationArgs;
use super::model::policies;

#[derive(Debug, Args)]
pub(crate) struct SimulateArgs {
    #[command(flatten)]
    machine: MachineArgs,
    #[command(flatten)]
    requests: RequestArgs,
    #[command(flatten)]
    fleet: FleetArgs,
    #[command(flatten)]
    speculation: SpeculationArgs,
    /// What a good answer keeps to, such as ttft=500ms,tpot=50ms,e2e=30s [default: nothing].
    #[arg(long, value_name = "BOUNDS")]
    slo: Option<Slo>,
    #[command(flatten)]
    engine: EngineArgs,
    /// Take steps that only repeat each other one by one: the same report, later.
    #[arg(long)]
    every_step: bool,
    /// Print the JSON report instead of the table.
    #[arg(long)]
    json: bool,
}

/// The settings of each replica's engine, as `maitre serve` has them.
#[derive(Debug, Args)]
struct EngineArgs {
    /// Most sequences in a step.
    #[arg(long, default_value_t = 256, value_name = "N")]
    max_seqs: usize,
    /// Most tokens in a step.
    #[arg(long, default_value_t = 2048, value_name = "TOKENS")]
    max_batched_tokens: usize,
    /// Most tokens of a prompt and its answer together [default: the model's].
    #[arg(long, value_name = "TOKENS")]
    max_model_len: Option<usize>,
    /// Tokens per KV block.
    #[arg(long, default_value_t = 16, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    block_size: u32,
    /// Bytes of the KV cache, a draft model's keys and values included [default: what the weights leave of the hardware's memory].
    #[arg(long, value_name = "BYTES")]
    kv_cache_bytes: Option<u64>,
    /// Do not share KV blocks between requests that begin alike.
    #[arg(long)]
    no_prefix_cache: bool,
    /// Which request is admitted first.
    #[arg(long, default_value = "fcfs", value_name = "POLICY", value_parser = policies())]
    policy: PolicyKind,
    /// Most sequences that may wait.
    #[arg(long, default_value_t = 1024, value_name = "N")]
    max_queue: usize,
    /// Most prompt tokens that may wait, over all sequences.
    #[arg(long, default_value_t = 1 << 20, value_name = "TOKENS")]
    max_queued_tokens: usize,
    /// Refuse at once what would wait longer for its first step (--policy fcfs only) [default: nothing].
    #[arg(long, value_name = "MS")]
    max_queue_wait_ms: Option<u64>,
    /// How long a step may take while a request waits for its next token [default: no limit but
    /// --max-batched-tokens].
    #[arg(long, value_name = "MS")]
    itl_target_ms: Option<u64>,
    /// Steps that are planned before the oldest of them has ended: 1 as on a CPU, 2 as on a GPU.
    #[arg(long, default_value_t = 1, value_name = "N")]
    steps_in_flight: usize,
}

/// What products with weights are computed in.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum ProductsArg {
    Bf16,
    Fp8,
    Int8,
}

impl From<ProductsArg> for ProductFormat {
    fn from(products: ProductsArg) -> Self {
        match products {
            ProductsArg::Bf16 => Self::Bf16,
            ProductsArg::Fp8 => Self::Fp8,
            ProductsArg::Int8 => Self::Int8,
        }
    }
}

impl EngineArgs {
    fn settings(
        &self,
        shape: &ModelShape,
        draft: Option<&ModelShape>,
        hardware: &Hardware,
    ) -> Result<EngineSettings> {
        let block_size = self.block_size;
        let kv_blocks = match self.kv_cache_bytes {
            Some(bytes) => shape.kv_blocks_in(bytes as f64, draft, block_size),
            None => EngineSettings::kv_blocks_with(shape, draft, hardware, 1, block_size)?,
        };
        let max_model_len = self.max_model_len.unwrap_or(shape.context as usize);
        let millis = |millis: Option<u64>| millis.map(Duration::from_millis);
        Ok(EngineSettings {
            max_seqs: self.max_seqs,
            max_batched_tokens: self.max_batched_tokens,
            block_size,
            kv_groups: shape.kv_groups().specs,
            prefix_cache: !self.no_prefix_cache,
            policy: self.policy,
            max_queue: self.max_queue,
            max_queued_tokens: self.max_queued_tokens,
            max_queue_wait: millis(self.max_queue_wait_ms),
            itl_target: millis(self.itl_target_ms),
            steps_in_flight: self.steps_in_flight,
            ..EngineSettings::new(kv_blocks, max_model_len)
        })
    }
}

pub(crate) async fn run(args: SimulateArgs, startup: &Startup) -> Result<()> {
    startup.doing("");
    let (shape, hardware) = args.machine.read(startup).await?;
    let cost = hardware.cost(args.machine.products())?;
    let speculation = args.speculation.read(startup).await?;
    let draft = speculation.as_ref().and_then(|it| it.drafter.model());
    let engine = args.engine.settings(&shape, draft, &hardware)?;
    let mut simulation = Simulation::with_cost(&shape, hardware.name, cost, engine)?;
    let Asked {
        mut arrivals,
        told,
        skipped,
        out_of_order,
    } = args.requests.read()?;
    simulation.workload = told;
    simulation.skipped_lines = skipped;
    simulation.lines_out_of_order = out_of_order;
    simulation.seed = args.requests.seed();
    args.fleet.apply(&mut simulation);
    simulation.speculation = speculation;
    simulation.slo = args.slo.unwrap_or_default();
    simulation.every_step = args.every_step;

    let began = Instant::now();
    // On a thread where computing for minutes holds up nothing.
    let simulated = tokio::task::spawn_blocking(move || simulation.run(&mut *arrivals));
    let report = simulated.await.context("the simulation broke off")??;
    tell_speed(&report, began.elapsed());
    let mut out = std::io::stdout().lock();
    match args.json {
        true => writeln!(out, "{}", report.to_json())?,
        false => write!(out, "{report}")?,
    }
    Ok(())
}

/// Not in the report, which is the same on every machine.
fn tell_speed(report: &Report, took: Duration) {
    let seconds = took.as_secs_f64();
    tracing::info!(
        "simulated {:.1} s in {seconds:.1} s, {:.0} steps/s",
        report.duration_s,
        report.steps.count as f64 / seconds
    );
}
