//! Hostile clients beside honest ones, as a table; `cargo xtask soak --hostile` builds the server and runs this.
#![allow(clippy::print_stdout, reason = "a command-line tool talks on stdout")]
#![allow(clippy::print_stderr, reason = "progress, for those who wait")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use maitre_benches::hostile::{Settings, Target, all, measure};

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
        /// Only this attack; may be given more than once.
        #[arg(long, value_name = "NAME")]
        only: Vec<String>,
    },
    /// Make one attack on a server that runs, from this process, and print what it got.
    Attack {
        name: String,
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

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::List => {
            for attack in all() {
                println!("{:<24} {}", attack.name, attack.what);
            }
            Ok(())
        }
        Command::Measure {
            maitre,
            minutes,
            clients,
            only,
        } => judge(&Settings {
            maitre,
            attacker: std::env::current_exe()?,
            clients,
            length: Duration::from_secs_f64(60.0 * minutes),
            only,
        }),
        Command::Attack {
            name,
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
            let gains = runtime.block_on(attack.run(target, Duration::from_secs_f64(seconds)))?;
            println!("{}", serde_json::to_string(&gains)?);
            Ok(())
        }
    }
}

fn judge(settings: &Settings) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let started = Instant::now();
    let progress = |what: &str| eprintln!("{:>6.0} s  {what}", started.elapsed().as_secs_f64());
    let report = runtime.block_on(measure(settings, progress))?;
    println!("{}", report.table());
    let (failed, made) = (report.failures().len(), report.rows.len());
    if failed > 0 {
        bail!("the bounds did not hold in {failed} of {made} attacks");
    }
    println!("\nall bounds held in {made} attacks");
    Ok(())
}
