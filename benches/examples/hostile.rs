//! Hostile clients beside honest ones, as a table; `cargo xtask soak --hostile` builds the server and runs this.
#![allow(clippy::print_stdout, reason = "a command-line tool talks on stdout")]
#![allow(clippy::print_stderr, reason = "progress, for those who wait")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use maitre_benches::hostile::{Conduct, Settings, Target, all, measure};

#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Name all attacks.
    List,
    /// Make the attacks against a server of their own, and judge it.
    Measure {
        /// The server's program.
        #[arg(long, value_name = "FILE")]
        maitre: PathBuf,
        /// Minutes that all attacks take together.
        #[arg(long, value_name = "N")]
        minutes: f64,
        /// Honest clients.
        #[arg(long, value_name = "N")]
        clients: usize,
        /// Times that each attack is made.
        #[arg(long, value_name = "N", default_value_t = 1)]
        rounds: usize,
        /// Only this attack; may be given more than once.
        #[arg(long, value_name = "NAME")]
        only: Vec<String>,
    },
    /// Make one attack on a server that runs, from this process, and print what it got.
    Attack {
        name: String,
        /// The same work without malice.
        #[arg(long)]
        legal: bool,
        #[arg(long)]
        grpc: SocketAddr,
        #[arg(long)]
        http: SocketAddr,
        #[arg(long)]
        neighbours: usize,
        #[arg(long)]
        seconds: f64,
    },
}

fn main() -> Result<ExitCode> {
    match Arguments::parse().command {
        Command::List => {
            for attack in all() {
                println!("{:<24} {}", attack.name, attack.what);
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Measure {
            maitre,
            minutes,
            clients,
            rounds,
            only,
        } => judge(&Settings {
            maitre,
            attacker: std::env::current_exe()?,
            clients,
            length: Duration::from_secs_f64(60.0 * minutes),
            rounds,
            only,
        }),
        Command::Attack {
            name,
            legal,
            grpc,
            http,
            neighbours,
            seconds,
        } => {
            let attack = all().into_iter().find(|attack| attack.name == name);
            let attack = attack.with_context(|| format!("no attack `{name}`"))?;
            let target = Target {
                grpc,
                http,
                neighbours,
            };
            // One thread: attackers should cost the machine as little as they can.
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let conduct = if legal {
                Conduct::Legal
            } else {
                Conduct::Hostile
            };
            let length = Duration::from_secs_f64(seconds);
            let gains = runtime.block_on(attack.run(target, conduct, length))?;
            println!("{}", serde_json::to_string(&gains)?);
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Prints the table; a bound that did not hold makes this program fail.
fn judge(settings: &Settings) -> Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new()?;
    let started = Instant::now();
    let progress = |what: &str| eprintln!("{:>6.0} s  {what}", started.elapsed().as_secs_f64());
    let report = runtime.block_on(measure(settings, progress))?;
    println!("{}", report.table());
    let failed = report.failures().len();
    let made = report.rows.len() + usize::from(report.recovery.is_some());
    if failed > 0 {
        println!("\nbounds did not hold in {failed} of {made} rows");
        return Ok(ExitCode::FAILURE);
    }
    println!("\nall bounds held in {made} rows");
    Ok(ExitCode::SUCCESS)
}
