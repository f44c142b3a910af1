//! `cargo xtask tools`: what the tools that people measure servers with make of ours.
//!
//! Serves the bundled model on a free port and runs the tools against it as their users do, with the versions in
//! `xtask/tools`; each has a Python of its own under the target directory (needs their registry the first time). What a
//! tool says of a run must be what the server counted, and nothing may have failed. lm-evaluation-harness must find the
//! perplexity that the example `heldout_perplexity` computes without a server. `--times` holds what GuideLLM and AIPerf say of one server
//! against what `maitre bench` says.

mod aiperf;
mod counts;
mod guidellm;
mod lm_eval;
mod row;
mod session;
mod times;
mod vllm;

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::cargo::{cargo, finish, target_directory};
use row::Row;
use session::Session;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Which ones [default: all but vllm, whose packages take 6 GB].
    #[arg(value_enum)]
    tools: Vec<Tool>,
    /// Use the programs in this folder, such as target/release, instead of building them.
    #[arg(long, value_name = "FOLDER")]
    built: Option<PathBuf>,
    /// Hold what GuideLLM and AIPerf say of one server against what `maitre bench` says, on a quiet machine, instead.
    #[arg(long, conflicts_with = "tools")]
    times: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Tool {
    Guidellm,
    Aiperf,
    LmEval,
    Vllm,
}

const BY_DEFAULT: [Tool; 3] = [Tool::Guidellm, Tool::Aiperf, Tool::LmEval];

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let built = match &arguments.built {
        Some(folder) => std::path::absolute(folder)?,
        None => build()?,
    };
    if arguments.times {
        return times::run(&built);
    }
    let tools = match &arguments.tools[..] {
        [] => &BY_DEFAULT[..],
        named => named,
    };
    beside_counts(tools, built)
}

/// Runs the tools against a server and holds what they say against what it counts.
fn beside_counts(tools: &[Tool], built: PathBuf) -> Result<()> {
    let session = Session::start(built)?;
    let (mut rows, mut problems, mut perplexities) = (Vec::new(), Vec::new(), String::new());
    for tool in tools {
        match tool {
            Tool::Guidellm => rows.extend(guidellm::run(&session)?),
            Tool::Aiperf => rows.extend(aiperf::run(&session)?),
            Tool::Vllm => rows.extend(vllm::run(&session)?),
            Tool::LmEval => {
                let evaluated = lm_eval::run(&session)?;
                perplexities = evaluated.table();
                problems.extend(evaluated.problems());
                rows.extend(evaluated.into_rows());
            }
        }
    }
    println!("\n{perplexities}\n{}", row::table(&rows));
    problems.extend(rows.iter().flat_map(Row::problems));
    if problems.is_empty() {
        println!("all requests answered, all counts equal");
        return Ok(());
    }
    bail!("{}", problems.join("\n"))
}

/// Builds what users run, and the example that computes a perplexity; returns their folder.
fn build() -> Result<PathBuf> {
    let build = ["build", "--locked", "--release"];
    finish(cargo(&build).args(["--package", "maitre", "--bin", "maitre"]))?;
    let example = [
        "--package",
        "maitre-examples",
        "--example",
        lm_eval::EXAMPLE,
    ];
    finish(cargo(&build).args(example))?;
    let server = ["--package", "maitre-benches", "--example", times::SERVER];
    finish(cargo(&build).args(server))?;
    Ok(target_directory().join("release"))
}
