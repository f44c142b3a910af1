//! Servers that bend for a known reason, and what the search for their capacity calls it: the bundled model over gRPC, as it is, slowed
//! by 5 ms a step, with a small KV cache and with half of it, and asked by a slow client. Fails if another resource is named.
//!
//! ```sh
//! cargo run --release --package maitre-benches --example bends
//! ```
#![allow(clippy::print_stdout, reason = "a program that prints a report")]

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use maitre_bench::{
    BenchRequest, Capacity, Dimension, GrpcTarget, ModelFacts, MonotonicClock, RequestError,
    Resource, ServerState, Settings, Stop, Target, TokenStream, Workload, find_capacity,
};
use maitre_benches::slowed::{self, Slowness};
use maitre_engine::Engine;
use maitre_server::{Listeners, Server};

/// Of a step of the slowed server.
const SLOWED: Duration = Duration::from_millis(5);

/// What the slow client does with each message.
const CLIENT: Duration = Duration::from_millis(1);

/// Tokens of a prompt and of an answer.
const LENGTHS: (u32, u32) = (16, 64);

#[derive(Debug, Parser)]
struct Arguments {
    /// Threads of the compute team.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Only the cases whose name contains this.
    #[arg(long)]
    only: Option<String>,
}

/// A server, its client, and what has to be named.
struct Case {
    name: &'static str,
    slo: &'static str,
    /// Beyond what a step takes.
    step: Duration,
    /// Requests that the KV cache has space for.
    kv_requests: usize,
    client: Duration,
    bends: Resource,
}

const CASES: [Case; 5] = [
    Case {
        name: "as it is",
        slo: "ttft=1s,tpot=15ms",
        step: Duration::ZERO,
        kv_requests: 256,
        client: Duration::ZERO,
        bends: Resource::Compute,
    },
    Case {
        name: "5 ms a step slower",
        slo: "ttft=1s,tpot=15ms",
        step: SLOWED,
        kv_requests: 256,
        client: Duration::ZERO,
        bends: Resource::Compute,
    },
    Case {
        name: "KV for 16 requests",
        slo: "ttft=200ms,tpot=50ms",
        step: Duration::ZERO,
        kv_requests: 16,
        client: Duration::ZERO,
        bends: Resource::KvMemory,
    },
    Case {
        name: "KV for 8 requests",
        slo: "ttft=200ms,tpot=50ms",
        step: Duration::ZERO,
        kv_requests: 8,
        client: Duration::ZERO,
        bends: Resource::KvMemory,
    },
    Case {
        name: "a client that takes 1 ms a message",
        slo: "ttft=1s,tpot=15ms",
        step: Duration::ZERO,
        kv_requests: 256,
        client: CLIENT,
        bends: Resource::Client,
    },
];

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    maitre_server::install_recorder();
    let mut wrong = Vec::new();
    let mut table = String::new();
    for case in &CASES {
        let wanted = arguments.only.as_deref();
        if wanted.is_some_and(|wanted| !case.name.contains(wanted)) {
            continue;
        }
        println!("--- {}", case.name);
        let found = case.search(arguments.threads)?;
        println!("{found}");
        let bent = found.bent.as_ref().context("a search that found no bend")?;
        table += &case.row(&found, bent.resource);
        if bent.resource != case.bends {
            wrong.push(case.name);
        }
    }
    ensure!(!table.is_empty(), "no case is called so");
    println!(
        "| server and client | good | capacity, users | 95 % confidence | what bends first |\n|---|---|---|---|---|\n{table}"
    );
    match wrong.is_empty() {
        true => Ok(()),
        false => bail!("another resource was named: {}", wrong.join(", ")),
    }
}

impl Case {
    fn search(&self, threads: usize) -> Result<Capacity> {
        // The client has a thread of its own, so that what it does with one message holds up all others.
        let server = tokio::runtime::Runtime::new()?;
        let engine = self.engine(threads)?;
        let (address, metrics) = server.block_on(async {
            let any_port = ([127, 0, 0, 1], 0).into();
            let listeners = Listeners::bind(any_port, Some(any_port)).await?;
            let http = listeners
                .http_address()
                .context("an HTTP port was asked for")?;
            let address = listeners.grpc_address().to_string();
            tokio::spawn(Server::builder(engine).serve(listeners, std::future::pending()));
            anyhow::Ok((address, format!("http://{http}/metrics")))
        })?;
        let client = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let settings = Settings {
            slo: self.slo.parse()?,
            warmup_requests: 4,
            ..Settings::closed_loop(Workload::of(LENGTHS.0, LENGTHS.1), &[])
        };
        client.block_on(async {
            let target = SlowClient {
                inner: GrpcTarget::connect(&address)
                    .await?
                    .with_metrics(&metrics)?,
                takes: self.client,
            };
            let (clock, stop) = (MonotonicClock::default(), Stop::default());
            let asked = (Dimension::Users, 0.95);
            Ok(find_capacity(&target, &clock, &settings, asked, &stop, |_| {}).await?)
        })
    }

    fn row(&self, found: &Capacity, named: Resource) -> String {
        let users =
            |users: Option<f64>| users.map_or("-".to_owned(), |users| format!("{users:.0}"));
        let (low, high) = found.interval;
        format!(
            "| {} | {} | {} | {} to {} | {} |\n",
            self.name,
            self.slo,
            users(found.capacity),
            users(low),
            users(high),
            named.name()
        )
    }

    fn engine(&self, threads: usize) -> Result<Engine> {
        slowed::engine(Slowness {
            step: self.step,
            kv_tokens: self.kv_requests * (LENGTHS.0 + LENGTHS.1) as usize,
            threads,
        })
    }
}

/// A client that is busy for a while with each message.
struct SlowClient {
    inner: GrpcTarget,
    takes: Duration,
}

impl Target for SlowClient {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn model(&self) -> ModelFacts {
        self.inner.model()
    }

    fn tokenize(&self, text: &str) -> BoxFuture<'_, Result<Vec<u32>, RequestError>> {
        self.inner.tokenize(text)
    }

    fn state(&self) -> BoxFuture<'_, Option<ServerState>> {
        self.inner.state()
    }

    fn start(&self, request: BenchRequest) -> BoxFuture<'_, Result<TokenStream, RequestError>> {
        let takes = self.takes;
        async move {
            let answer = self.inner.start(request).await?;
            let slowly = answer.inspect(move |_| {
                let began = Instant::now();
                while began.elapsed() < takes {
                    std::hint::spin_loop();
                }
            });
            Ok(slowly.boxed())
        }
        .boxed()
    }
}
