//! `maitre plan`: what hardware serves some traffic within an SLO, what bounds it, and what would move that.

mod traffic;

use std::io::Write;

use anyhow::{Context, Result, ensure};
use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use maitre::server::Startup;
use maitre_sim::plan::Question;
use maitre_sim::{KvDtype, Slo, WeightDtype};

use self::traffic::{Asked, TrafficArgs};
use super::simulate::machine::{hardware, model};
use super::simulate::speculation::SpeculationArgs;

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// A model by name (such as qwen3-8b, llama-3.1-70b, gpt-oss-20b; an unknown one lists all), a directory with a config.json,
    /// a GGUF file, `bundled`, or a .json or .toml file with the sizes of a model.
    #[arg(long, value_name = "MODEL")]
    model: String,
    /// Each device of a box by name (a100, h100, h200, b200, l4, gb10, cpu), or a .json or .toml file with its figures.
    #[arg(long, value_name = "NAME|FILE")]
    hardware: String,
    /// What weights are kept in [default: the model's format].
    #[arg(long, value_name = "FORMAT", value_parser = weights())]
    dtype: Option<WeightDtype>,
    /// What keys and values are kept in.
    #[arg(long, default_value = "bf16", value_name = "FORMAT", value_parser = kv())]
    kv_dtype: KvDtype,
    /// Devices of a box, each with a part of every matrix.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    tensor_parallel: u32,
    /// What answers keep to, such as ttft=500ms,tpot=50ms,e2e=30s.
    #[arg(long, value_name = "BOUNDS")]
    slo: Slo,
    /// The share of the answers that keep to it.
    #[arg(long, default_value_t = maitre_sim::plan::SLO_SHARE, value_name = "SHARE")]
    slo_share: f64,
    #[command(flatten)]
    traffic: TrafficArgs,
    /// Leading tokens that all prompts have in common.
    #[arg(
        long,
        default_value_t = 0,
        value_name = "TOKENS",
        conflicts_with = "trace"
    )]
    shared_prefix: u32,
    /// Most sequences in a step.
    #[arg(long, default_value_t = 256, value_name = "N")]
    max_seqs: usize,
    /// Most tokens in a step.
    #[arg(long, default_value_t = 2048, value_name = "TOKENS")]
    max_batched_tokens: usize,
    /// What speculation is tried among the techniques.
    #[command(flatten)]
    speculation: SpeculationArgs,
    /// Bytes a second over the link between boxes, where the techniques set prefill and decode apart.
    #[arg(long, default_value_t = maitre_sim::plan::LINK_BYTES_PER_SECOND, value_name = "BYTES")]
    link_bytes_per_second: f64,
    /// What a box costs in an hour, in any currency.
    #[arg(long, value_name = "PRICE")]
    price_per_hour: Option<f64>,
    /// Do not search what techniques would gain, which takes most of the time.
    #[arg(long)]
    no_techniques: bool,
    /// Answers by which a load is judged, at least: more of them take longer and are more certain.
    #[arg(long, default_value_t = maitre_sim::plan::JUDGED, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    judged: u64,
    /// Print JSON instead of the text.
    #[arg(long)]
    json: bool,
}

fn weights() -> impl TypedValueParser<Value = WeightDtype> {
    let names = WeightDtype::ALL.map(|dtype| PossibleValue::new(dtype.name()));
    PossibleValuesParser::new(names).try_map(|name| name.parse::<WeightDtype>())
}

fn kv() -> impl TypedValueParser<Value = KvDtype> {
    let names = KvDtype::ALL.map(|dtype| PossibleValue::new(dtype.name()));
    PossibleValuesParser::new(names).try_map(|name| name.parse::<KvDtype>())
}

pub(crate) async fn run(args: PlanArgs, startup: &Startup) -> Result<()> {
    startup.doing("");
    let model = args
        .kv_dtype
        .applied_to(&model(&args.model, startup).await?);
    let hardware = hardware(&args.hardware)?;
    let Asked {
        traffic,
        skipped,
        out_of_order,
    } = args.traffic.read()?;
    let may_speculate = args.speculation.read(startup).await?;
    ensure!(
        may_speculate.is_none() || !args.no_techniques,
        "--speculate is tried among the techniques, and --no-techniques leaves them out; expected one of the two"
    );
    let mut question = Question {
        devices: args.tensor_parallel,
        slo_share: args.slo_share,
        skipped_lines: skipped,
        lines_out_of_order: out_of_order,
        shared_prefix: args.shared_prefix,
        max_seqs: args.max_seqs,
        max_batched_tokens: args.max_batched_tokens,
        may_speculate,
        link_bytes_per_second: args.link_bytes_per_second,
        price_per_hour: args.price_per_hour,
        judged: args.judged,
        techniques: !args.no_techniques,
        seed: args.traffic.seed(),
        ..Question::new(model, hardware, args.slo, traffic)
    };
    if let Some(dtype) = args.dtype {
        question.set_weights(dtype);
    }
    // On a thread where computing for long holds up nothing.
    let planned = tokio::task::spawn_blocking(move || question.plan());
    let plan = planned.await.context("the search broke off")??;
    let mut out = std::io::stdout().lock();
    match args.json {
        true => writeln!(out, "{}", plan.to_json())?,
        false => write!(out, "{plan}")?,
    }
    Ok(())
}
