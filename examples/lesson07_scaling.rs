//! Lesson 7: from one replica to many.
//!
//! Finds the load that simulated fleets of one to many replicas take within an SLO, shows where latency bends, and compares
//! where requests are sent, with and without conversations. Run it with
//! `cargo run --release --example lesson07_scaling`; the page is `docs/src/lessons/lesson07_scaling.md`.

use anyhow::{Result, ensure};
use maitre_examples::picture::{self, Line};
use maitre_examples::traffic::{Traffic, llama_on_h100};
use maitre_examples::{quick, table};
use maitre_sim::Report;
use maitre_sim::routing::Routing;

const SLO: &str = "ttft=500ms,tpot=25ms";

/// The share of requests that have to keep to it.
const KEPT: f64 = 0.99;

/// Tokens of prompts and of answers.
const PROMPT: (u32, u32) = (200, 1800);
const OUTPUT: (u32, u32) = (100, 300);

const BLIND: [Routing; 2] = [Routing::RoundRobin, Routing::LeastLoaded];

fn main() -> Result<()> {
    capacities()?;
    bend()?;
    conversations()
}

/// A fleet under a Poisson load of so many requests a second for each replica.
fn under(replicas: usize, routing: Routing, rate: f64) -> Result<Report> {
    let (seconds, prompt, output) = match quick() {
        // Debug builds check every block after every step.
        true => (1.0, (20, 60), (5, 15)),
        false => (60.0, PROMPT, OUTPUT),
    };
    let total = rate * replicas as f64;
    let mut traffic = Traffic::varying(|_| total, total, seconds, prompt, output, 7);
    serve(replicas, routing, &mut traffic)
}

fn serve(replicas: usize, routing: Routing, traffic: &mut Traffic) -> Result<Report> {
    let mut simulation = llama_on_h100()?;
    (simulation.replicas, simulation.routing) = (replicas, routing);
    simulation.slo = SLO.parse()?;
    Ok(simulation.run(traffic)?)
}

fn kept(report: &Report) -> f64 {
    report.goodput.as_ref().map_or(0.0, |goodput| goodput.share)
}

// ---- How much load fleets of a size take.

/// The highest rate for each replica, in steps of a half, at which so many requests keep to the SLO.
fn capacity(replicas: usize, routing: Routing) -> Result<f64> {
    let (mut good, mut bad) = (0_u32, 64_u32);
    while bad - good > 1 && !quick() {
        let middle = good.midpoint(bad);
        match kept(&under(replicas, routing, f64::from(middle) / 2.0)?) >= KEPT {
            true => good = middle,
            false => bad = middle,
        }
    }
    if quick() {
        ensure!(
            kept(&under(replicas, routing, 4.0)?) > 0.0,
            "some requests are in time"
        );
        good = 8;
    }
    Ok(f64::from(good) / 2.0)
}

fn capacities() -> Result<()> {
    let sizes: &[usize] = if quick() { &[1, 2] } else { &[1, 2, 4, 8] };
    let mut rows = Vec::new();
    let mut lines = BLIND.map(|routing| Line {
        name: routing.to_string(),
        points: Vec::new(),
    });
    for &replicas in sizes {
        let mut row = vec![replicas.to_string()];
        for (routing, line) in BLIND.into_iter().zip(&mut lines) {
            let each = capacity(replicas, routing)?;
            line.points.push((replicas as f64, each));
            row.push(format!("{each:.2}"));
            row.push(format!("{:.0}", each * replicas as f64));
        }
        rows.push(row);
    }
    println!(
        "\nThe highest load at which {:.0} % of the requests keep to {SLO}, requests a second\n",
        100.0 * KEPT
    );
    table::print(
        &[
            "replicas",
            "round-robin, each",
            "all",
            "least-loaded, each",
            "all",
        ],
        &rows,
    );
    let of_largest = |line: &Line| line.points.last().map_or(0.0, |point| point.1);
    ensure!(
        of_largest(&lines[1]) >= of_largest(&lines[0]),
        "a routing that looks at the replicas takes at least as much"
    );
    let path = picture::lines(
        "lesson07_capacity",
        "What a replica takes in fleets of several sizes",
        "replicas",
        "requests a second for each replica",
        &lines,
    )?;
    println!("picture: {}\n", path.display());
    Ok(())
}

// ---- Where it bends.

fn bend() -> Result<()> {
    let replicas = if quick() { 2 } else { 4 };
    let rates: &[f64] = if quick() {
        &[2.0, 8.0]
    } else {
        &[4.0, 8.0, 12.0, 16.0, 18.0, 20.0, 22.0, 24.0, 26.0, 28.0]
    };
    let mut rows = Vec::new();
    let mut lines = BLIND.map(|routing| Line {
        name: routing.to_string(),
        points: Vec::new(),
    });
    for &rate in rates {
        let mut row = vec![format!("{rate:.0}")];
        for (routing, line) in BLIND.into_iter().zip(&mut lines) {
            let report = under(replicas, routing, rate)?;
            let [ttft, tpot] =
                [report.ttft_ms, report.tpot_ms].map(|it| it.map_or(0.0, |it| it.p99));
            line.points.push((rate, ttft));
            row.extend([
                format!("{ttft:.0}"),
                format!("{tpot:.1}"),
                format!("{:.1} %", 100.0 * kept(&report)),
            ]);
            if routing == Routing::LeastLoaded {
                row.push(format!("{:.1}", report.steps.mean_sequences));
                row.push(format!("{:.1} %", 100.0 * report.kv.max_used_share));
            }
        }
        rows.push(row);
    }
    println!(
        "{replicas} replicas: 99th percentiles in ms, and what keeps to the SLO; round-robin, then least-loaded\n"
    );
    table::print(
        &[
            "req/s each",
            "TTFT",
            "TPOT",
            "kept",
            "TTFT",
            "TPOT",
            "kept",
            "in a step",
            "KV at most",
        ],
        &rows,
    );
    let path = picture::lines(
        "lesson07_bend",
        &format!("Time to first token of {replicas} replicas"),
        "requests a second for each replica",
        "TTFT, 99th percentile, ms",
        &lines,
    )?;
    println!("picture: {}\n", path.display());
    Ok(())
}

// ---- Conversations.

fn conversations() -> Result<()> {
    let (replicas, seconds, turns, rates): (usize, f64, u32, &[f64]) = match quick() {
        true => (2, 2.0, 2, &[2.0]),
        false => (4, 120.0, 6, &[8.0, 16.0, 20.0, 24.0]),
    };
    let mut lines = Routing::ALL.map(|routing| Line {
        name: routing.to_string(),
        points: Vec::new(),
    });
    let mut rows = Vec::new();
    for &rate in rates {
        let mut cached = Vec::new();
        for (routing, line) in Routing::ALL.into_iter().zip(&mut lines) {
            let chats = (rate * seconds) as u64;
            let mut traffic = Traffic::conversations(chats, rate, turns, 7);
            let report = serve(replicas, routing, &mut traffic)?;
            let ttft = report.ttft_ms.map_or(0.0, |it| it.p99);
            let found = report.tokens.cached as f64 / report.tokens.prompt.max(1) as f64;
            line.points.push((rate, ttft));
            cached.push(found);
            rows.push(vec![
                format!("{rate:.0}"),
                routing.to_string(),
                format!("{:.1} %", 100.0 * found),
                format!("{:.0}", report.ttft_ms.map_or(0.0, |it| it.p50)),
                format!("{ttft:.0}"),
                format!("{:.1} %", 100.0 * kept(&report)),
                format!("{:.1} %", 100.0 * report.steps.busy_share),
            ]);
        }
        ensure!(
            quick() || cached[2] > cached[0] && cached[3] > cached[0],
            "what follows beginnings or sessions finds more of them: {cached:?}"
        );
    }
    println!("{replicas} replicas, conversations of {turns} turns that begin within {seconds} s\n");
    table::print(
        &[
            "chats/s", "routing", "cached", "TTFT p50", "p99 (ms)", "kept", "busy",
        ],
        &rows,
    );
    let path = picture::lines(
        "lesson07_conversations",
        "Conversations under each routing",
        "conversations that begin a second",
        "TTFT, 99th percentile, ms",
        &lines,
    )?;
    println!("picture: {}", path.display());
    Ok(())
}
