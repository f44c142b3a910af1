//! Day 3: continuous batching.
//!
//! Serves the same requests three times: one after the other, in batches that begin and end together, and
//! in a batch that requests join and leave at any step. Run it with `cargo run --release --example
//! day03_continuous_batching`, with ` -- DIR 32` for another model and batches of 32; the page is
//! `docs/src/lessons/day03_continuous_batching.md`.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use maitre::{Engine, GenerateRequest, Input, ModelSource};
use maitre_examples::picture::{self, Bar};
use maitre_examples::timed::{TimedAnswer, ask, ask_in_order, ms, quantile};
use maitre_examples::{quick, table};

/// Most sequences in a step (the batch size), unless the second argument says otherwise.
const SLOTS: usize = 8;

/// The lengths of the answers in tokens, again and again: most are short, some are long.
const OUTPUTS: [u32; 8] = [12, 96, 16, 24, 8, 64, 32, 12];

const PROMPT: u32 = 32;

/// All requests served in one way.
struct Served {
    name: &'static str,
    slots: usize,
    began: Instant,
    answers: Vec<TimedAnswer>,
    /// When each request's batch was over: no other request could have its place before.
    released: Vec<Instant>,
    took: Duration,
}

impl Served {
    fn new(
        name: &'static str,
        slots: usize,
        began: Instant,
        batches: Vec<Vec<TimedAnswer>>,
    ) -> Self {
        let end = |batch: &Vec<TimedAnswer>| batch.iter().map(finished).max().unwrap_or(began);
        Self {
            name,
            slots,
            began,
            released: batches
                .iter()
                .flat_map(|batch| std::iter::repeat_n(end(batch), batch.len()))
                .collect(),
            took: batches.iter().map(end).max().unwrap_or(began) - began,
            answers: batches.into_iter().flatten().collect(),
        }
    }

    fn tokens(&self) -> usize {
        self.answers.iter().map(|answer| answer.ids.len()).sum()
    }

    /// From the moment at which all requests came to the end of the answer: the time in the queue is in it.
    fn latencies(&self) -> Vec<Duration> {
        let answers = self.answers.iter();
        answers
            .map(|answer| finished(answer) - self.began)
            .collect()
    }

    /// The share of the batch's places that requests filled, over the whole time.
    fn slots_busy(&self) -> f64 {
        let served = self.answers.iter().map(|a| finished(a) - started(a));
        let busy: Duration = served.sum();
        busy.as_secs_f64() / (self.took.as_secs_f64() * self.slots as f64)
    }
}

/// When its first step began.
fn started(answer: &TimedAnswer) -> Instant {
    answer.asked + answer.end.timings.queue
}

fn finished(answer: &TimedAnswer) -> Instant {
    answer.asked + answer.end.timings.e2e
}

/// Made-up prompts of one length; request `i` is always the same.
fn requests(count: usize) -> Vec<GenerateRequest> {
    let request = |user: usize| {
        let ids = (0..PROMPT).map(|i| 300 + (user as u32 * 97 + i * 7) % 3000);
        let mut request = GenerateRequest::new(Input::Tokens(ids.collect()));
        request.sampling.temperature = Some(0.0);
        request.stopping.max_tokens = Some(OUTPUTS[user % OUTPUTS.len()]);
        request.stopping.ignore_eos = true;
        request
    };
    (0..count).map(request).collect()
}

fn slots() -> usize {
    let given = std::env::args().nth(2).and_then(|slots| slots.parse().ok());
    given.unwrap_or(SLOTS)
}

/// The bundled model, or the one in the directory that the first argument names.
fn build_engine(slots: usize) -> Result<Engine> {
    let source = match std::env::args().nth(1) {
        Some(directory) => ModelSource::Directory(directory.into()),
        None => maitre::bundled(),
    };
    // No two prompts begin alike, so that there is nothing for a cache to do here.
    let builder = Engine::builder(source).prefix_cache(false);
    Ok(builder.max_seqs(slots).build()?)
}

/// `slots` requests at a time, the next ones when all of these are done.
async fn together(
    name: &'static str,
    engine: &Engine,
    slots: usize,
    requests: Vec<GenerateRequest>,
) -> Result<Served> {
    let began = Instant::now();
    let mut batches = Vec::new();
    for batch in requests.chunks(slots) {
        batches.push(ask_in_order(engine, batch.to_vec()).await?);
    }
    Ok(Served::new(name, slots, began, batches))
}

/// All requests at once, to an engine that admits the next as soon as one leaves.
async fn continuous(engine: &Engine, requests: Vec<GenerateRequest>) -> Result<Served> {
    let began = Instant::now();
    let answers = ask_in_order(engine, requests).await?;
    let single = answers.into_iter().map(|answer| vec![answer]).collect();
    Ok(Served::new("continuous", slots(), began, single))
}

#[tokio::main]
async fn main() -> Result<()> {
    let slots = slots();
    let (users, rounds) = if quick() {
        (slots + 2, 1)
    } else {
        (4 * slots, 3)
    };
    let engine = build_engine(slots)?;
    for request in requests(2) {
        ask(&engine, request).await?;
    }
    let mut best: Vec<Served> = Vec::new();
    for round in 0..rounds {
        let ways = [
            together("one at a time", &engine, 1, requests(users)).await?,
            together("static batches", &engine, slots, requests(users)).await?,
            continuous(&engine, requests(users)).await?,
        ];
        check(&ways)?;
        for (index, served) in ways.into_iter().enumerate() {
            if round == 0 {
                best.push(served);
            } else if served.took < best[index].took {
                best[index] = served;
            }
        }
    }
    println!(
        "\n{users} requests at once, a batch of {slots}, prompts of {PROMPT} tokens, answers of 8 to 96; the \
         fastest of {rounds} round(s)\n"
    );
    print(&best);
    arithmetic(users);
    draw(&best[1..])
}

/// What must hold however fast the machine is.
fn check(ways: &[Served; 3]) -> Result<()> {
    let [alone, fixed, continuous] = ways;
    for served in [fixed, continuous] {
        for (user, (one, other)) in alone.answers.iter().zip(&served.answers).enumerate() {
            ensure!(
                one.ids == other.ids,
                "request {user} must get the same answer alone and in {}",
                served.name
            );
        }
    }
    let first_end = fixed.released[0];
    ensure!(
        fixed.answers[slots()..]
            .iter()
            .all(|answer| started(answer) >= first_end),
        "in static batches no further request begins before the first batch is over"
    );
    let (first, others) = continuous.answers.split_at(slots());
    // Unless this program was kept from asking until a request had left.
    let all_were_waiting = others.iter().all(|other| {
        let mut ends = first.iter().map(finished);
        ends.all(|end| other.asked < end)
    });
    ensure!(
        !all_were_waiting || others.iter().map(started).min() < first.iter().map(finished).max(),
        "in continuous batching the next request begins before the longest of the first answers ends"
    );
    Ok(())
}

fn print(ways: &[Served]) {
    let slowest = ways.first().map_or(Duration::ZERO, |served| served.took);
    let rows: Vec<Vec<String>> = ways
        .iter()
        .map(|served| {
            let took = served.took.as_secs_f64();
            vec![
                served.name.into(),
                ms(served.took),
                format!("{:.0}", served.tokens() as f64 / took),
                format!("{:.2}", slowest.as_secs_f64() / took),
                ms(quantile(served.latencies(), 0.5)),
                ms(quantile(served.latencies(), 0.9)),
                format!("{:.0} %", 100.0 * served.slots_busy()),
            ]
        })
        .collect();
    table::print(
        &[
            "",
            "all done (ms)",
            "tokens/s",
            "times as fast",
            "answer p50 (ms)",
            "answer p90 (ms)",
            "batch used",
        ],
        &rows,
    );
}

/// What can be said without running anything: a step gives each request in the batch one token.
fn arithmetic(users: usize) {
    let wanted: Vec<u32> = (0..users).map(|i| OUTPUTS[i % OUTPUTS.len()]).collect();
    let total: u32 = wanted.iter().sum();
    let fixed: u32 = wanted
        .chunks(slots())
        .filter_map(|batch| batch.iter().max())
        .sum();
    println!(
        "  {total} tokens are {total} steps one at a time, {fixed} in static batches (the longest answer of each), \
         and at least {} in a batch of {} that is always full.\n",
        total.div_ceil(slots() as u32),
        slots()
    );
}

fn draw(ways: &[Served]) -> Result<()> {
    let mut files = Vec::new();
    for (served, name) in ways.iter().zip(["day03_static", "day03_continuous"]) {
        let at = |moment: Instant| (moment - served.began).as_secs_f64() * 1e3;
        let bars: Vec<Bar> = served
            .answers
            .iter()
            .zip(&served.released)
            .take(2 * slots())
            .enumerate()
            .map(|(user, (answer, &released))| {
                let first = answer.asked + answer.end.timings.ttft;
                let mut ends = vec![at(started(answer)), at(first), at(finished(answer))];
                if released > finished(answer) {
                    ends.push(at(released));
                }
                Bar {
                    name: format!("request {}", user + 1),
                    begin: 0.0,
                    ends,
                }
            })
            .collect();
        let title = format!("{}: the first {} requests", served.name, bars.len());
        let phases = ["waiting", "prefill", "decode", "done, place kept empty"];
        files.push(
            picture::gantt(name, &title, &phases, &bars)?
                .display()
                .to_string(),
        );
    }
    println!("pictures: {}", files.join(", "));
    Ok(())
}
