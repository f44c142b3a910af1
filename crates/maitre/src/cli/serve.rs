//! `maitre serve`: bind, answer probes, load, serve, drain.

use std::io::Write;
use std::path::PathBuf;
use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use maitre::server::{Listeners, Server, Startup};

use super::clients::ClientArgs;
use super::listen::ListenAddr;
use super::model::ModelArgs;
use super::signals::Signals;

const WEEK_S: f64 = 604_800.0;

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Where gRPC is answered: an address or a host's name, and a port; port 0 picks a free port.
    #[arg(long, default_value = "127.0.0.1:50051", value_name = "ADDR")]
    grpc_addr: ListenAddr,
    /// Where OpenAI's API, /metrics and /health are answered; port 0 picks a free port.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDR")]
    http_addr: ListenAddr,
    /// Seconds that requests in flight may take to finish after SIGTERM.
    #[arg(long, default_value_t = 30.0, value_name = "SECONDS", value_parser = seconds)]
    drain_timeout: f64,
    #[command(flatten)]
    clients: ClientArgs,
    /// A TOML file of flags, such as `max-seqs = 64`; flags given by hand override it.
    #[arg(long, value_name = "FILE")]
    #[allow(dead_code, reason = "read before parsing, see config_file")]
    config: Option<PathBuf>,
}

/// A number of seconds up to a week.
pub(crate) fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "expected a number of seconds".to_owned())?;
    if !(0.0..=WEEK_S).contains(&seconds) {
        return Err(format!("expected 0 to {WEEK_S} seconds"));
    }
    Ok(seconds)
}

pub(crate) async fn run(args: ServeArgs, startup: &Startup, signals: &Signals) -> Result<()> {
    let began = Instant::now();
    // A taken port should be known before a model is loaded, metrics before anything is counted.
    let (grpc, http) = (
        args.grpc_addr.resolve().await?,
        args.http_addr.resolve().await?,
    );
    let listeners = Listeners::bind(grpc, Some(http)).await?;
    maitre::server::install_recorder();
    let http = listeners.http_address().unwrap_or(http);
    let addresses = format!("grpc={} http={http}", listeners.grpc_address());
    let drain_timeout = Duration::from_secs_f64(args.drain_timeout);
    let server = args
        .clients
        .bound(Server::starting(startup))
        .drain_timeout(drain_timeout)
        .serve(listeners, signals.stop());
    let mut server = pin!(server);
    tracing::info!("answering probes at {addresses}");

    let start = async {
        startup.ready(args.model.engine(startup).await?);
        startup.announced().await;
        anyhow::Ok(())
    };
    tokio::select! {
        started = start => started?,
        ended = &mut server => return ended.context("the server ended before it was ready"),
    }
    signals.drain_within(drain_timeout);
    tracing::info!("ready after {:.2} s", began.elapsed().as_secs_f64());
    writeln!(std::io::stdout(), "ready {addresses}").context("printing the ready line")?;
    server.await?;
    tracing::info!("drained; good night");
    Ok(())
}
