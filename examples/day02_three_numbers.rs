//! Day 2: time to first token, time between tokens, throughput.
//!
//! Serves more and more users at once and plots how the three numbers move against each other. The load generator is the one behind
//! `maitre bench`. Run it with `cargo run --release --example day02_three_numbers`; the page is
//! `docs/src/lessons/day02_three_numbers.md`.

use anyhow::{Context, Result, ensure};
use maitre::Engine;
use maitre::bench::{
    InProcessTarget, MonotonicClock, Report, Run, Settings, Stop, Workload, measure,
};
use maitre_examples::picture::{self, Line};
use maitre_examples::{quick, table};

#[tokio::main]
async fn main() -> Result<()> {
    let (crowds, workload): (&[u32], _) = match quick() {
        true => (&[1, 2], Workload::of(8, 8)),
        false => (&[1, 2, 4, 8, 16, 32, 64], Workload::of(64, 64)),
    };
    let target = InProcessTarget::new(Engine::builder(maitre::bundled()).build()?);
    let mut runs = Vec::new();
    for &users in crowds {
        runs.push(at_once(&target, &workload, users).await?);
    }
    println!("\n64-token prompts, 64 tokens each, all users at once\n");
    tell(&runs)?;
    draw(&runs)
}

/// As many requests as users, so that all come at the same moment; behind one that is not counted.
async fn at_once(target: &InProcessTarget, workload: &Workload, users: u32) -> Result<Run> {
    let workload = Workload {
        requests: Some(users as usize),
        // Each crowd has prompts of its own, or the prefix cache would know them.
        seed: u64::from(users),
        ..workload.clone()
    };
    let settings = Settings {
        warmup_requests: 1,
        ..Settings::closed_loop(workload, &[users])
    };
    let clock = MonotonicClock::default();
    let report: Report = measure(target, &clock, &settings, &Stop::default(), |_| {}).await?;
    ensure!(report.is_complete(), "every request is answered");
    report
        .runs
        .into_iter()
        .next()
        .context("one load is one run")
}

fn users(run: &Run) -> f64 {
    run.concurrency.map_or(0.0, |users| users as f64)
}

fn tell(runs: &[Run]) -> Result<()> {
    let mut rows = Vec::new();
    for run in runs {
        let (ttft, itl) = run.ttft_ms.zip(run.itl_ms).context("answers have tokens")?;
        rows.push(vec![
            format!("{:.0}", users(run)),
            format!("{:.2}", ttft.p50),
            format!("{:.2}", itl.p50),
            format!("{:.2}", itl.p99),
            format!("{:.0}", run.output_tokens_per_second),
            format!("{:.1}", run.output_tokens_per_second / users(run)),
        ]);
    }
    let header = [
        "users",
        "TTFT p50 (ms)",
        "ITL p50 (ms)",
        "ITL p99 (ms)",
        "tokens/s",
        "per user",
    ];
    table::print(&header, &rows);
    Ok(())
}

fn draw(runs: &[Run]) -> Result<()> {
    let line = |name: &str, value: &dyn Fn(&Run) -> f64| Line {
        name: name.into(),
        points: runs.iter().map(|run| (users(run), value(run))).collect(),
    };
    let latency = picture::lines(
        "day02_latency",
        "What each user sees",
        "users at once",
        "milliseconds",
        &[
            line("time to first token, median", &|run| {
                run.ttft_ms.map_or(0.0, |it| it.p50)
            }),
            line("between tokens, median", &|run| {
                run.itl_ms.map_or(0.0, |it| it.p50)
            }),
            line("between tokens, 99th percentile", &|run| {
                run.itl_ms.map_or(0.0, |it| it.p99)
            }),
        ],
    )?;
    let throughput = picture::lines(
        "day02_throughput",
        "What the server makes",
        "users at once",
        "tokens per second",
        &[line("all users together", &|run| {
            run.output_tokens_per_second
        })],
    )?;
    println!("pictures: {}, {}", latency.display(), throughput.display());
    Ok(())
}
