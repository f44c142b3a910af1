//! A server of the bundled model whose steps take a known time beyond what they need, for clients that measure: what they say of it can be
//! compared with what is known, and with each other.
//!
//! ```sh
//! cargo run --release --package maitre-benches --example slowed_server -- --step-ms 20
//! ```
#![allow(clippy::print_stdout, reason = "a server that says where it is")]

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use maitre_benches::slowed::{self, Slowness};
use maitre_server::{Listeners, Server};

#[derive(Debug, Parser)]
struct Arguments {
    /// Milliseconds of a step beyond what it needs.
    #[arg(long, default_value_t = 20)]
    step_ms: u64,
    /// Where it listens for HTTP; port 0 is any that is free.
    #[arg(long, default_value = "127.0.0.1:0")]
    http_addr: SocketAddr,
    /// Threads of the compute team.
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    maitre_server::install_recorder();
    let engine = slowed::engine(Slowness {
        step: Duration::from_millis(arguments.step_ms),
        kv_tokens: 1 << 16,
        threads: arguments.threads,
    })?;
    let grpc = ([127, 0, 0, 1], 0).into();
    let listeners = Listeners::bind(grpc, Some(arguments.http_addr)).await?;
    let http = listeners
        .http_address()
        .context("an HTTP address was asked for")?;
    println!("ready grpc={} http={http}", listeners.grpc_address());
    Server::builder(engine)
        .serve(listeners, std::future::pending())
        .await?;
    Ok(())
}
