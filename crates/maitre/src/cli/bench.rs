//! `maitre bench`: measure a server over gRPC or OpenAI's API, or the engine in this process.

mod line_by_line;

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use maitre::bench::{
    Address, GrpcTarget, InProcessTarget, MonotonicClock, OpenAiOptions, OpenAiTarget, PromptFile,
    Settings, Target, Workload, measure, parse_concurrency,
};

use maitre::server::Startup;

use super::model::ModelArgs;

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
    #[command(flatten)]
    model: ModelArgs,
    /// Users at once, one run for each: each sends its next request when the last is answered.
    #[arg(long, default_value = "1,4,16", value_name = "LIST", value_parser = list)]
    concurrency: List,
    /// Tokens of each prompt.
    #[arg(long, default_value_t = 16, value_name = "N")]
    input_tokens: usize,
    /// Prompts to ask in turn instead of random ones of --input-tokens: one JSON text a line, or an
    /// object with a text under `prompt`. Control tokens such as <|im_start|> are parsed.
    #[arg(long, value_name = "FILE", conflicts_with = "input_tokens")]
    prompts: Option<PathBuf>,
    /// Tokens of each answer.
    #[arg(long, default_value_t = 64, value_name = "N")]
    output_tokens: usize,
    /// Requests per run [default: four per user].
    #[arg(long, value_name = "N")]
    requests: Option<usize>,
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
    /// Also write report.json and a picture into this directory.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// A TOML file of flags; flags given by hand override it.
    #[arg(long, value_name = "FILE")]
    #[allow(dead_code, reason = "read before parsing, see config_file")]
    config: Option<PathBuf>,
}

/// A parsed list; a bare `Vec` would make clap take several values.
#[derive(Debug, Clone)]
struct List(Vec<usize>);

fn list(text: &str) -> Result<List, String> {
    parse_concurrency(text)
        .map(List)
        .map_err(|error| error.to_string())
}

pub(crate) async fn run(args: BenchArgs, startup: &Startup) -> Result<()> {
    startup.doing("");
    // A file of no use is told before a model is loaded.
    let prompts = args.prompts.as_deref();
    let prompts = prompts.map(PromptFile::read).transpose()?;
    let is_http = matches!(args.target, Address::OpenAi(_));
    ensure!(
        is_http || (args.served_model.is_none() && args.vocab_size.is_none()),
        "--served-model and --vocab-size go with --target http://HOST:PORT/v1; other targets say what they serve"
    );
    let target: Box<dyn Target> = match &args.target {
        Address::Grpc(authority) => Box::new(GrpcTarget::connect(authority).await?),
        Address::OpenAi(address) => {
            let options = OpenAiOptions {
                model: args.served_model.clone(),
                api_key: std::env::var(API_KEY).ok(),
                vocab_size: args.vocab_size,
            };
            Box::new(OpenAiTarget::connect(address, options).await?)
        }
        Address::InProcess => Box::new(InProcessTarget::new(args.model.engine(startup).await?)),
    };
    let prompts = match &prompts {
        None => None,
        Some(file) => Some(file.tokens(target.as_ref()).await?),
    };
    if args.line_by_line {
        return line_by_line::run(target.as_ref(), prompts, args.model.threads()).await;
    }
    let settings = Settings {
        workload: Workload {
            input_tokens: args.input_tokens,
            output_tokens: args.output_tokens,
            requests: args.requests,
            seed: args.model.seed.unwrap_or(0),
        },
        prompts,
        concurrency: args.concurrency.0.clone(),
        warmup_requests: args.warmup_requests,
    };
    let clock = MonotonicClock::default();
    let report = measure(target.as_ref(), &clock, &settings, |run| {
        tracing::info!(
            "{} user(s): {:.1} output tokens/s",
            run.concurrency,
            run.output_tokens_per_second
        );
    })
    .await?;
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
        report.is_complete(),
        "some requests failed; the report counts them by code"
    );
    Ok(())
}
