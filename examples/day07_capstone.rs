//! Day 7: how many people can this serve before the experience bends?
//!
//! Starts a server, loads it with more and more users over gRPC, plots what they see, and searches the number of users at which too
//! few of them are served well, with the resource that bends first. Run it with
//! `cargo run --release --example day07_capstone`; the page is `docs/src/lessons/day07_capstone.md`.

use anyhow::{Context, Result, ensure};
use maitre::Engine;
use maitre::bench::workload::Slo;
use maitre::bench::{
    Dimension, GrpcTarget, MonotonicClock, Progress, Report, Settings, Stop, Workload,
    find_capacity, measure,
};
use maitre::server::{Listeners, Server, install_recorder};
use maitre_examples::picture::{self, Line};
use maitre_examples::{quick, table};

/// A first word within a third of a second, and then faster than anyone reads.
const SLO: &str = "ttft=300ms,tpot=25ms";

/// The throughput that the course asks for.
const GOAL: f64 = 1000.0;

#[tokio::main]
async fn main() -> Result<()> {
    let address = serve().await?;
    let target = GrpcTarget::connect(&address).await?;
    let (users, workload): (&[u32], _) = match quick() {
        true => (&[1, 2], Workload::of(8, 4)),
        false => (&[1, 2, 4, 8, 16, 32, 64, 128], Workload::of(64, 64)),
    };
    let settings = Settings {
        warmup_requests: 4,
        slo: if quick() {
            "ttft=1000s".parse()?
        } else {
            SLO.parse::<Slo>()?
        },
        ..Settings::closed_loop(workload, users)
    };
    let clock = MonotonicClock::default();
    let report = measure(&target, &clock, &settings, &Stop::default(), |_| {}).await?;
    ensure!(report.is_complete(), "every request is answered");
    tell(&report)?;
    if !quick() {
        capacity(&target, &settings).await?;
    }
    Ok(())
}

/// A server of the bundled model on a free port of this machine.
async fn serve() -> Result<String> {
    // So that the server says why it is as fast as it is.
    install_recorder();
    let engine = Engine::builder(maitre::bundled()).build()?;
    let listeners = Listeners::bind(([127, 0, 0, 1], 0).into(), None).await?;
    let address = listeners.grpc_address().to_string();
    tokio::spawn(Server::builder(engine).serve(listeners, std::future::pending()));
    Ok(address)
}

/// What each user sees, and what the server makes.
fn tell(report: &Report) -> Result<()> {
    let mut rows = Vec::new();
    let (mut ttft, mut tpot, mut made) = (Vec::new(), Vec::new(), Vec::new());
    for run in &report.runs {
        let users = run.concurrency.context("a closed loop has users")? as f64;
        let first = run.ttft_ms.context("requests were answered")?;
        let each = run.tpot_ms.context("answers have several tokens")?;
        ttft.push((users, first.p95));
        tpot.push((users, each.p95));
        made.push((users, run.output_tokens_per_second));
        let good = run.goodput.as_ref().map_or(0.0, |it| it.share);
        rows.push(vec![
            format!("{users:.0}"),
            format!("{:.1}", first.p50),
            format!("{:.1}", first.p95),
            format!("{:.2}", each.p50),
            format!("{:.2}", each.p95),
            format!("{:.0}", run.output_tokens_per_second),
            format!("{:.1} %", 100.0 * good),
        ]);
    }
    println!("\n{}\n", report.asked);
    let header = [
        "users",
        "TTFT p50 (ms)",
        "p95",
        "TPOT p50 (ms)",
        "p95",
        "tokens/s",
        "good",
    ];
    table::print(&header, &rows);
    let line = |name: &str, points: &[(f64, f64)]| Line {
        name: name.into(),
        points: points.to_vec(),
    };
    let seen = picture::lines(
        "day07_latency",
        "What one in twenty users waits longer than",
        "users at once",
        "milliseconds",
        &[
            line("time to first token", &ttft),
            line("time per output token", &tpot),
        ],
    )?;
    let throughput = picture::lines(
        "day07_throughput",
        "What the server makes",
        "users at once",
        "tokens per second",
        &[line("all users together", &made)],
    )?;
    println!("pictures: {}, {}\n", seen.display(), throughput.display());
    let most = made
        .iter()
        .copied()
        .fold((0.0, 0.0), |a, b| if b.1 > a.1 { b } else { a });
    let verdict = if most.1 >= GOAL { "more" } else { "less" };
    println!(
        "most: {:.0} tokens/s with {:.0} users, {verdict} than the {GOAL:.0} of the course\n",
        most.1, most.0
    );
    Ok(())
}

/// The number that answers the question, and its reason.
async fn capacity(target: &GrpcTarget, settings: &Settings) -> Result<()> {
    // Other prompts than those above, which the prefix cache still has.
    let mut settings = settings.clone();
    settings.workload.seed = 1;
    let (clock, stop) = (MonotonicClock::default(), Stop::default());
    let wanted = (Dimension::Users, 0.95);
    let found = find_capacity(target, &clock, &settings, wanted, &stop, |progress| {
        if let Progress::Finished(run) = progress {
            let good = run.goodput.as_ref().map_or(0.0, |it| it.share);
            println!("  {}: {:.1} % good", run.load, 100.0 * good);
        }
    });
    println!("{}", found.await?);
    Ok(())
}
