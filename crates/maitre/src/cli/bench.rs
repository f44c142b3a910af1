//! `maitre bench`: measure a server over gRPC or OpenAI's API, or the engine in this process.

mod calibrate;
mod capacity;
mod line_by_line;
mod load;
mod progress;

use std::convert::Infallible;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use clap::Args;
use maitre::bench::workload::Slo;
use maitre::bench::{
    Address, Comparison, GrpcTarget, InProcessTarget, MonotonicClock, OpenAiOptions, OpenAiTarget,
    Questions, Report, Settings, Stop, Target, measure,
};
use maitre::server::{Startup, install_recorder, render_metrics};

use self::calibrate::CalibrateArgs;
use self::capacity::CapacityArgs;
use self::load::LoadArgs;
use self::progress::Bar;
use super::model::ModelArgs;
use super::signals::Signals;

/// Where clients of OpenAI look for their key.
const API_KEY: &str = "OPENAI_API_KEY";

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// `grpc://HOST:PORT`, `http://HOST:PORT/v1` for any server with OpenAI's API (an API key comes from
    /// OPENAI_API_KEY), or `in-process` for an engine in this process (then the model flags apply).
    #[arg(long, default_value = "in-process", value_name = "TARGET")]
    target: Address,
    /// Which of an HTTP server's models to ask [default: the first it lists].
    #[arg(long, value_name = "NAME")]
    served_model: Option<String>,
    /// Random prompts have token ids below this [default: what the server says; vLLM does not].
    #[arg(long, value_name = "N")]
    vocab_size: Option<usize>,
    /// Where a server shows what it counts [default: /metrics beside /v1; over gRPC its load alone].
    #[arg(long, value_name = "URL")]
    metrics_url: Option<String>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    load: LoadArgs,
    /// What a good answer keeps to, such as ttft=500ms,tpot=50ms,e2e=30s: the report tells the share of good answers.
    #[arg(long, value_name = "BOUNDS")]
    slo: Option<Slo>,
    #[command(flatten)]
    capacity: CapacityArgs,
    #[command(flatten)]
    calibrate: CalibrateArgs,
    /// Compare two reports that --out wrote, instead of measuring: the second against the first, with 95 % intervals.
    #[arg(long, num_args = 2, value_names = ["FIRST", "SECOND"])]
    compare: Option<Vec<PathBuf>>,
    /// Requests before each run that are not counted.
    #[arg(long, default_value_t = 1, value_name = "N")]
    warmup_requests: usize,
    /// Print the JSON report instead of the table.
    #[arg(long)]
    json: bool,
    /// Read what to measure from stdin and answer line by line: `USERS INPUT_TOKENS OUTPUT_TOKENS`
    /// with `SECONDS TOKENS`, `limits` with those of the machine. For programs that compare engines.
    #[arg(long, hide = true)]
    line_by_line: bool,
    /// Also write report.json, report.md, report.html and a picture into this directory; with --find-capacity
    /// capacity.json, with --calibrate hardware.json.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// A TOML file of flags; flags given by hand override it.
    #[arg(long, value_name = "FILE")]
    #[allow(dead_code, reason = "read before parsing, see config_file")]
    config: Option<PathBuf>,
}

pub(crate) async fn run(args: BenchArgs, startup: &Startup, signals: &Signals) -> Result<()> {
    startup.doing("");
    if let Some([first, second]) = args.compare.as_deref() {
        return compare(first, second);
    }
    if args.calibrate.is_asked() {
        return args.calibrate(startup, signals).await;
    }
    let files = args.load.files()?;
    let target = args.target(startup).await?;
    let questions = args.load.questions(files, target.as_ref()).await?;
    if args.line_by_line {
        let prompts = match questions {
            Questions::InTurn(prompts) => Some(prompts),
            Questions::Random => None,
            _ => bail!("--line-by-line takes no --trace"),
        };
        return line_by_line::run(target.as_ref(), prompts, args.model.threads()).await;
    }
    let settings = Settings {
        workload: args.load.workload(args.model.seed.unwrap_or(0)),
        loads: args.load.loads(&questions),
        questions,
        warmup_requests: args.warmup_requests,
        slo: args.slo.unwrap_or_default(),
    };
    if let Some(dimension) = args.capacity.dimension() {
        let (target, json, out) = (target.as_ref(), args.json, args.out.as_deref());
        return args
            .capacity
            .find(target, &settings, dimension, signals, json, out)
            .await;
    }
    let report = args.measure(target.as_ref(), &settings, signals).await?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", report.to_json())?;
    } else {
        write!(out, "{report}")?;
    }
    if let Some(directory) = &args.out {
        report.write(directory)?;
        tracing::info!("wrote {}", directory.join("report.json").display());
    }
    ensure!(
        !report.interrupted,
        "interrupted; the report tells what there was until then"
    );
    ensure!(
        report.is_complete(),
        "some requests failed; the report counts them by code"
    );
    Ok(())
}

fn compare(first: &Path, second: &Path) -> Result<()> {
    let comparison = Comparison::of(&Report::read(first)?, &Report::read(second)?);
    write!(std::io::stdout().lock(), "{comparison}")?;
    ensure!(
        !comparison.differences.is_empty(),
        "the reports have no load in common; measure both with the same flags"
    );
    Ok(())
}

/// Runs to the end, or until SIGINT, which ends it with what there is.
async fn until_interrupt<T>(
    signals: &Signals,
    stop: &Stop,
    measured: impl Future<Output = T>,
) -> T {
    let mut interrupts = signals.interrupts();
    let interrupted = async {
        interrupts.next().await;
        stop.stop();
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        measured = measured => measured,
        never = interrupted => match never {},
    }
}

impl BenchArgs {
    async fn target(&self, startup: &Startup) -> Result<Box<dyn Target>> {
        let is_http = matches!(self.target, Address::OpenAi(_));
        ensure!(
            is_http || (self.served_model.is_none() && self.vocab_size.is_none()),
            "--served-model and --vocab-size go with --target http://HOST:PORT/v1; other targets say what they serve"
        );
        let metrics = self.metrics_url.as_deref();
        ensure!(
            metrics.is_none() || self.target != Address::InProcess,
            "--metrics-url goes with a server as --target"
        );
        Ok(match &self.target {
            Address::Grpc(authority) => {
                let target = GrpcTarget::connect(authority).await?;
                Box::new(match metrics {
                    Some(metrics) => target.with_metrics(metrics)?,
                    None => target,
                })
            }
            Address::OpenAi(address) => {
                let options = OpenAiOptions {
                    model: self.served_model.clone(),
                    api_key: std::env::var(API_KEY).ok(),
                    vocab_size: self.vocab_size,
                };
                let target = OpenAiTarget::connect(address, options).await?;
                Box::new(match metrics {
                    Some(metrics) => target.with_metrics(metrics)?,
                    None => target,
                })
            }
            Address::InProcess => {
                // What an engine counts before there is a recorder is lost.
                let is_counted = install_recorder();
                let target = InProcessTarget::new(self.model.engine(startup).await?);
                Box::new(match is_counted {
                    true => target.with_counts(render_metrics),
                    false => target,
                })
            }
        })
    }

    async fn measure(
        &self,
        target: &dyn Target,
        settings: &Settings,
        signals: &Signals,
    ) -> Result<Report> {
        let (clock, stop, bar) = (MonotonicClock::default(), Stop::default(), Bar::new());
        let measured = measure(target, &clock, settings, &stop, |progress| {
            bar.show(&progress)
        });
        Ok(until_interrupt(signals, &stop, measured).await?)
    }
}
