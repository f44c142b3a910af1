//! Many streams over OpenAI's API at once, and what they cost the server beside its step loop.
//!
//! A server in a process of its own answers chats of a fixed length; the client does little more than count events.
//! [`delivery`] tells how long a token takes from its step to the socket, [`constrained`] what a JSON schema adds to
//! the time between tokens, [`costs`] which part of the server's processor time text, sampling and HTTP take.

mod client;
mod profile;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::exposition::Exposition;
use crate::hostile::Server;
use client::{Counts, Load};
pub use profile::{Part, Profile};

/// The server to start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its program.
    pub maitre: PathBuf,
    /// Flags for `maitre serve` beside its addresses.
    pub flags: Vec<String>,
    /// Tokens of each answer.
    pub tokens: usize,
}

const DELIVERY: &str = "maitre_token_delivery_seconds";
const BETWEEN_TOKENS: &str = "maitre_inter_token_latency_seconds";
/// A schema that no answer of a usual length fulfils, so that every token is chosen under a mask.
const SCHEMA: &str = r#","structured_outputs":{"json":{"type":"object","properties":{"tags":{"type":"array","items":{"type":"string"},"minItems":1000}},"required":["tags"],"additionalProperties":false}}"#;

/// How fast tokens reached the system's sockets.
#[derive(Debug, Clone, Copy)]
pub struct Delivery {
    /// Streams at once.
    pub streams: usize,
    /// What the client saw.
    pub counts: Counts,
    /// Mean time from the end of a token's step until the server has handed it to the socket, in seconds.
    pub mean: f64,
    /// Share of tokens within 1, 2, 5 and 10 ms.
    pub within: [f64; 4],
}

/// The bounds of [`Delivery::within`], in seconds, as the server's histogram has them.
pub const BOUNDS: [f64; 4] = [0.001, 0.002, 0.005, 0.01];

/// Answers `streams` chats at once, as many times as there are entries, and reads the server's own histogram.
///
/// # Errors
///
/// If the server can't be started, or an answer is neither complete nor a refusal that says when to come again.
pub async fn delivery(settings: &Settings, streams: &[usize]) -> Result<Vec<Delivery>> {
    let server = start(settings)?;
    let mut rows = Vec::new();
    for &streams in streams {
        let before = Exposition::of(server.http).await?;
        let counts = load(&server, settings, streams).run().await?;
        let after = Exposition::of(server.http).await?;
        let tokens = after.count(DELIVERY)? - before.count(DELIVERY)?;
        ensure!(tokens > 0.0, "the server delivered no token");
        let mut within = [0.0; 4];
        for (share, bound) in within.iter_mut().zip(BOUNDS) {
            *share = (after.bucket(DELIVERY, bound)? - before.bucket(DELIVERY, bound)?) / tokens;
        }
        let mean = (after.sum(DELIVERY)? - before.sum(DELIVERY)?) / tokens;
        rows.push(Delivery {
            streams,
            counts,
            mean,
            within,
        });
    }
    Ok(rows)
}

/// Mean time between tokens without and with a schema, in seconds.
#[derive(Debug, Clone, Copy)]
pub struct Pair {
    /// Without.
    pub free: f64,
    /// With.
    pub constrained: f64,
    /// Tokens whose mask was late: they were sampled a step later.
    pub late: f64,
}

/// `streams` users without and with a JSON schema in turn, `pairs` times.
///
/// # Errors
///
/// As [`delivery`].
pub async fn constrained(settings: &Settings, streams: usize, pairs: usize) -> Result<Vec<Pair>> {
    let server = start(settings)?;
    // The first answers find a cold cache and no grammar.
    for extra in ["", SCHEMA] {
        let warm_up = load(&server, settings, streams).with(extra).of(32);
        warm_up.run().await?;
    }
    let mut measured = Vec::new();
    for pair in 0..pairs {
        let (mut times, mut late) = ([0.0; 2], 0.0);
        // Each of the two comes first in every second pair.
        for which in [pair % 2, 1 - pair % 2] {
            let before = Exposition::of(server.http).await?;
            let extra = if which == 0 { "" } else { SCHEMA };
            let counts = load(&server, settings, streams).with(extra).run().await?;
            ensure!(counts.refused == 0, "{} were refused", counts.refused);
            let after = Exposition::of(server.http).await?;
            let tokens = after.count(BETWEEN_TOKENS)? - before.count(BETWEEN_TOKENS)?;
            times[which] = (after.sum(BETWEEN_TOKENS)? - before.sum(BETWEEN_TOKENS)?) / tokens;
            let deferred = "maitre_deferred_samples_total";
            late += after.value(deferred).unwrap_or(0.0) - before.value(deferred).unwrap_or(0.0);
        }
        measured.push(Pair {
            free: times[0],
            constrained: times[1],
            late,
        });
    }
    Ok(measured)
}

/// A profile of the server's processor time over `length` while `streams` chats are answered again and again.
///
/// # Errors
///
/// As [`delivery`], and if Linux's `perf` is not there or may not look at a process.
pub async fn costs(settings: &Settings, streams: usize, length: Duration) -> Result<Profile> {
    let server = start(settings)?;
    let work = async {
        loop {
            load(&server, settings, streams).run().await?;
        }
    };
    let watch = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        profile::record(server.id(), length).await
    };
    tokio::select! {
        failed = work => failed,
        profile = watch => profile,
    }
}

fn start(settings: &Settings) -> Result<Server> {
    let flags: Vec<&str> = settings.flags.iter().map(String::as_str).collect();
    Server::start(&settings.maitre, &flags)
        .with_context(|| format!("starting {} serve", settings.maitre.display()))
}

fn load(server: &Server, settings: &Settings, streams: usize) -> Load {
    Load::new(server.http, streams, settings.tokens)
}
