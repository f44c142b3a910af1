//! `maitre bench`: measure a server over gRPC or OpenAI's API, or the engine in this process.

mod calibrate;
mod capacity;
mod line_by_line;
mod load;
mod progress;
mod refused;

use std::convert::Infallible;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use clap::Args;
use maitre::bench::workload::Slo;
use maitre::bench::{
    Address, Comparison, GrpcTarget, InProcessTarget, MonotonicClock, OpenAiOptions, OpenAiTarget,
    Report, Settings, Stop, Target, Workload, measure,
};
use maitre::server::{Startup, install_recorder, render_metrics};

use self::calibrate::CalibrateArgs;
use self::capacity::CapacityArgs;
use self::load::LoadArgs;
use self::progress::Bar;
use self::refused::Refused;
use super::model::ModelArgs;
use super::signals::Signals;
use super::trace_file::time;

/// Where clients of OpenAI look for their key.
const API_KEY: &str = "OPENAI_API_KEY";

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    // The first: those after it take what they parse away.
    #[command(flatten)]
    _refused: Refused,
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
    /// How long a request may bring no token, such as 30s: then it is given up and counted as failed (TIMEOUT).
    #[arg(long, default_value = "600s", value_name = "TIME", value_parser = time)]
    timeout: Duration,
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
    if args.capacity.dimension().is_some() {
        files.check_for_search()?;
    }
    if let Some(directory) = &args.out {
        // What can't be written is told before anything has been measured.
        let made = fs::create_dir_all(directory);
        made.with_context(|| format!("cannot make {}", directory.display()))?;
    }
    let target = args.target(startup).await?;
    let questions = args.load.questions(files, target.as_ref()).await?;
    if args.line_by_line {
        let asked = Settings {
            questions,
            timeout: args.timeout,
            ..Settings::closed_loop(args.workload(), &[])
        };
        return line_by_line::run(target.as_ref(), asked, args.model.threads()).await;
    }
    let settings = Settings {
        workload: args.workload(),
        loads: match args.capacity.dimension() {
            Some(_) => Vec::new(),
            None => args.load.loads(&questions)?,
        },
        questions,
        warmup_requests: args.warmup_requests,
        slo: args.slo.unwrap_or_default(),
        timeout: args.timeout,
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
    warn(&report.warnings);
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

/// What may make figures mean something else than they seem to, where it is seen even if the report goes to a file.
fn warn(warnings: &[String]) {
    for warning in warnings {
        tracing::warn!("{warning}");
    }
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
    /// A server that runs already may know the prompts of an earlier measurement: without a seed it is asked others, of the same
    /// lengths and at the same times.
    fn workload(&self) -> Workload {
        let is_new = self.target == Address::InProcess;
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = since.map_or(0, |since| since.as_millis() as u64);
        Workload {
            prompt_seed: match self.model.seed {
                None if !is_new => now,
                _ => 0,
            },
            ..self.load.workload(self.model.seed.unwrap_or(0))
        }
    }

    async fn target(&self, startup: &Startup) -> Result<Box<dyn Target>> {
        let metrics = self.metrics_url.as_deref();
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
