//! `cargo xtask soak`: nothing grows with load.
//!
//! Serves the bundled model in a process of its own, sends it requests over gRPC, and compares the
//! server's anonymous resident memory after the first tenth of them with that after the last. With `--hostile`,
//! attacks it instead.

mod hostile;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::cargo::{cargo, finish, target_directory};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Requests in all.
    #[arg(long, default_value_t = 10_000)]
    requests: usize,
    /// Clients that stream at the same time [default: 200, with --hostile 8].
    #[arg(long, value_name = "N")]
    clients: Option<usize>,
    /// KiB by which the server may grow after the first tenth.
    #[arg(long, default_value_t = 4096)]
    allowed_kib: u64,
    #[command(flatten)]
    hostile: hostile::HostileArguments,
}

const CLIENTS: usize = 200;

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if arguments.hostile.hostile {
        return hostile::run(&arguments.hostile, arguments.clients);
    }
    let clients = arguments.clients.unwrap_or(CLIENTS);
    let maitre = build_server()?;
    let server = Server::start(&maitre)?;
    let warm = arguments.requests / 10;
    ensure!(
        warm >= clients,
        "--requests must be at least ten times --clients"
    );

    server.load(&maitre, clients, warm)?;
    let before = server.anonymous_kib()?;
    println!("after {warm} requests: {before} KiB of anonymous memory");
    server.load(&maitre, clients, arguments.requests - warm)?;
    let after = server.anonymous_kib()?;
    println!("after {} requests: {after} KiB", arguments.requests);

    let grown = after.saturating_sub(before);
    println!("grown by {grown} KiB of {} allowed", arguments.allowed_kib);
    server.stop()?;
    ensure!(
        grown <= arguments.allowed_kib,
        "the server grew by {grown} KiB"
    );
    Ok(())
}

/// Builds what users run; returns its program.
fn build_server() -> Result<PathBuf> {
    finish(&mut cargo(&[
        "build",
        "--locked",
        "--release",
        "--bin",
        "maitre",
    ]))?;
    Ok(target_directory().join("release").join("maitre"))
}

/// A server process; killed with this value if it was not stopped.
struct Server {
    child: Child,
    grpc: String,
}

impl Server {
    fn start(maitre: &Path) -> Result<Self> {
        let mut child = Command::new(maitre)
            .args([
                "serve",
                "--grpc-addr",
                "127.0.0.1:0",
                "--http-addr",
                "127.0.0.1:0",
            ])
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the server")?;
        let mut line = String::new();
        let stdout = child.stdout.take().context("the server's output")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let grpc = line
            .split_whitespace()
            .find_map(|word| word.strip_prefix("grpc="));
        let grpc = grpc
            .with_context(|| format!("no address in {line:?}"))?
            .to_owned();
        Ok(Self { child, grpc })
    }

    /// Every client sends its next request when its last is answered; every answer is complete.
    fn load(&self, maitre: &Path, clients: usize, requests: usize) -> Result<()> {
        let (target, clients, requests) = (
            format!("grpc://{}", self.grpc),
            clients.to_string(),
            requests.to_string(),
        );
        finish(Command::new(maitre).args([
            "bench",
            "--target",
            &target,
            "--concurrency",
            &clients,
            "--requests",
            &requests,
            "--input-tokens",
            "16",
            "--output-tokens",
            "16",
            "--warmup-requests",
            "0",
        ]))
    }

    fn anonymous_kib(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        kib.context("no RssAnon: this command needs Linux")
    }

    fn stop(mut self) -> Result<()> {
        finish(Command::new("kill").args(["-TERM", &self.child.id().to_string()]))?;
        let status = self.child.wait()?;
        if !status.success() {
            bail!("the server left with {status}");
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Errors mean that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
