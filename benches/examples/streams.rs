//! Many streams over OpenAI's API at once; `cargo xtask bench streams` builds the server and runs this.
#![allow(clippy::print_stdout, reason = "a command-line tool talks on stdout")]

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};
use maitre_benches::streams::{self, BOUNDS, Part, Settings};

#[derive(Debug, Parser)]
struct Arguments {
    /// The server's program.
    #[arg(long, value_name = "FILE")]
    maitre: PathBuf,
    /// Tokens of each answer.
    #[arg(long, value_name = "N", default_value_t = 400)]
    tokens: usize,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// How long a token takes from the end of its step to the socket.
    Delivery {
        /// Streams at once, one measurement for each number.
        #[arg(long, value_delimiter = ',', default_values_t = [16, 256, 1000])]
        streams: Vec<usize>,
        /// Flags for `maitre serve`.
        #[arg(last = true)]
        flags: Vec<String>,
    },
    /// What a JSON schema adds to the time between tokens.
    Constrained {
        /// Users at once.
        #[arg(long, default_value_t = 16)]
        streams: usize,
        /// Measurements without and with it.
        #[arg(long, default_value_t = 6)]
        pairs: usize,
        /// Flags for `maitre serve`.
        #[arg(last = true)]
        flags: Vec<String>,
    },
    /// Which part of the server's processor time text, sampling and HTTP take (needs Linux's `perf`).
    Costs {
        /// Streams at once.
        #[arg(long, default_value_t = 256)]
        streams: usize,
        /// How long the profiler looks.
        #[arg(long, default_value_t = 30.0)]
        seconds: f64,
        /// Flags for `maitre serve`.
        #[arg(last = true)]
        flags: Vec<String>,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let Arguments {
        maitre,
        tokens,
        what,
    } = Arguments::parse();
    let settings = |flags| Settings {
        maitre: maitre.clone(),
        flags,
        tokens,
    };
    match what {
        What::Delivery { streams, flags } => show_delivery(&settings(flags), &streams).await,
        What::Constrained {
            streams,
            pairs,
            flags,
        } => show_constrained(&settings(flags), streams, pairs).await,
        What::Costs {
            streams,
            seconds,
            flags,
        } => show_costs(&settings(flags), streams, seconds).await,
    }
}

async fn show_delivery(settings: &Settings, streams: &[usize]) -> Result<()> {
    let ms = BOUNDS.map(|bound| format!("≤ {} ms", 1e3 * bound));
    println!(
        "| streams | answered | refused | tokens/s | mean, ms | {} |",
        ms.join(" | ")
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for row in streams::delivery(settings, streams).await? {
        let shares = row.within.map(|share| format!("{:.2} %", 100.0 * share));
        println!(
            "| {} | {} | {} | {:.0} | {:.3} | {} |",
            row.streams,
            row.counts.answered,
            row.counts.refused,
            (row.counts.answered * settings.tokens) as f64 / row.counts.seconds,
            1e3 * row.mean,
            shares.join(" | ")
        );
    }
    Ok(())
}

async fn show_constrained(settings: &Settings, streams: usize, pairs: usize) -> Result<()> {
    ensure!(pairs > 0, "--pairs must be at least 1");
    println!("| pair | free, ms | with a schema, ms | ratio | masks late |\n|---|---|---|---|---|");
    let measured = streams::constrained(settings, streams, pairs).await?;
    let mut ratios = Vec::new();
    for (number, pair) in measured.iter().enumerate() {
        let ratio = pair.constrained / pair.free;
        ratios.push(ratio);
        println!(
            "| {} | {:.3} | {:.3} | {ratio:.3} | {:.0} |",
            number + 1,
            1e3 * pair.free,
            1e3 * pair.constrained,
            pair.late
        );
    }
    ratios.sort_by(f64::total_cmp);
    let middle = ratios.len() / 2;
    let median = match ratios.len() % 2 {
        0 => (ratios[middle - 1] + ratios[middle]) / 2.0,
        _ => ratios[middle],
    };
    println!("| median | | | {median:.3} | |");
    Ok(())
}

async fn show_costs(settings: &Settings, streams: usize, seconds: f64) -> Result<()> {
    let length = Duration::from_secs_f64(seconds);
    let profile = streams::costs(settings, streams, length).await?;
    let total = profile.samples(|_| true) as f64;
    let step_loop = profile.samples(Part::is_of_the_step_loop) as f64;
    let row = |name: &str, samples: u64| {
        let (of_all, of_loop) = (100.0 / total, 100.0 / step_loop);
        let samples = samples as f64;
        println!(
            "| {name} | {:.1} % | {:.1} % |",
            of_all * samples,
            of_loop * samples
        );
    };
    println!("{total} samples\n\n| what | share of the processor time | beside the step loop's |");
    println!("|---|---|---|");
    for part in Part::ALL {
        row(part.name(), profile.samples(|it| it == part));
    }
    row(
        "text, sampling and HTTP",
        profile.samples(Part::is_beside_the_model),
    );
    Ok(())
}
