//! Day 2: time to first token, time between tokens, throughput.
//!
//! Serves more and more users at once and plots how the three numbers move against each other.
//! Run it with `cargo run --release --example day02_three_numbers`; the page is
//! `docs/src/lessons/day02_three_numbers.md`.

use std::time::{Duration, Instant};

use anyhow::Result;
use maitre::{Engine, GenerateRequest, Input};
use maitre_examples::picture::{self, Line};
use maitre_examples::timed::{ask, ask_all, ms, quantile};
use maitre_examples::{quick, table};

/// The three numbers at one number of users.
struct Point {
    users: usize,
    ttft: Duration,
    itl_median: Duration,
    itl_p99: Duration,
    tokens_per_second: f64,
}

fn request(user: usize, prompt_tokens: u32, max_tokens: u32) -> GenerateRequest {
    // Any ids will do: what is measured is time, and the lengths must be equal.
    let prompt = (0..prompt_tokens)
        .map(|i| 300 + (user as u32 * 31 + i * 7) % 3000)
        .collect();
    let mut request = GenerateRequest::new(Input::Tokens(prompt));
    request.sampling.temperature = Some(0.0);
    request.stopping.max_tokens = Some(max_tokens);
    request.stopping.ignore_eos = true;
    request
}

async fn measure(engine: &Engine, users: usize, max_tokens: u32) -> Result<Point> {
    let began = Instant::now();
    let requests = (0..users)
        .map(|user| request(user, 64, max_tokens))
        .collect();
    let answers = ask_all(engine, requests).await?;
    let took = began.elapsed();
    let gaps: Vec<Duration> = answers.iter().flat_map(|answer| answer.gaps()).collect();
    let tokens: usize = answers.iter().map(|answer| answer.tokens.len()).sum();
    Ok(Point {
        users,
        ttft: quantile(answers.iter().map(|answer| answer.ttft()).collect(), 0.5),
        itl_median: quantile(gaps.clone(), 0.5),
        itl_p99: quantile(gaps, 0.99),
        tokens_per_second: tokens as f64 / took.as_secs_f64(),
    })
}

#[tokio::main]
async fn main() -> Result<()> {
    let (crowds, max_tokens): (&[usize], u32) = if quick() {
        (&[1, 2], 8)
    } else {
        (&[1, 2, 4, 8, 16, 32, 64], 64)
    };
    let engine = Engine::builder(maitre::bundled()).build()?;
    ask(&engine, request(0, 64, 8)).await?;

    let mut points = Vec::new();
    for &users in crowds {
        points.push(measure(&engine, users, max_tokens).await?);
    }
    println!("\n64-token prompts, {max_tokens} tokens each, all users at once\n");
    let rows: Vec<Vec<String>> = points
        .iter()
        .map(|p| {
            vec![
                p.users.to_string(),
                ms(p.ttft),
                ms(p.itl_median),
                ms(p.itl_p99),
                format!("{:.0}", p.tokens_per_second),
                format!("{:.1}", p.tokens_per_second / p.users as f64),
            ]
        })
        .collect();
    table::print(
        &[
            "users",
            "TTFT p50 (ms)",
            "ITL p50 (ms)",
            "ITL p99 (ms)",
            "tokens/s",
            "per user",
        ],
        &rows,
    );
    let line = |name: &str, value: &dyn Fn(&Point) -> f64| Line {
        name: name.into(),
        points: points.iter().map(|p| (p.users as f64, value(p))).collect(),
    };
    let millis = |duration: Duration| duration.as_secs_f64() * 1e3;
    let latency = picture::lines(
        "day02_latency",
        "What each user sees",
        "users at once",
        "milliseconds",
        &[
            line("time to first token, median", &|p| millis(p.ttft)),
            line("between tokens, median", &|p| millis(p.itl_median)),
            line("between tokens, 99th percentile", &|p| millis(p.itl_p99)),
        ],
    )?;
    let throughput = picture::lines(
        "day02_throughput",
        "What the server makes",
        "users at once",
        "tokens per second",
        &[line("all users together", &|p| p.tokens_per_second)],
    )?;
    println!("pictures: {}, {}", latency.display(), throughput.display());
    Ok(())
}
