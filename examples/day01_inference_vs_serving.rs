//! Day 1: inference is one answer, serving is a system.
//!
//! Asks the bundled model one question, then ten at once, and shows what changes: the answers do
//! not, everything around them does. Run it with `cargo run --release --example
//! day01_inference_vs_serving`; the page is `docs/src/lessons/day01_inference_vs_serving.md`.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use maitre::{ChatMessage, ChatRequest, Engine, GenerateRequest, Input, Role};
use maitre_examples::picture::{self, Bar};
use maitre_examples::timed::{TimedAnswer, ask, ask_all, ms};
use maitre_examples::{quick, table};

const QUESTIONS: [&str; 10] = [
    "I would like to order a large latte with oat milk.",
    "Can you find me a restaurant in San Jose?",
    "I want to book a hotel in Paris for two nights.",
    "Play something by Ed Sheeran, please.",
    "What is the weather like in Oakland tomorrow?",
    "I need a table for four people tonight.",
    "Is there a pharmacy near me?",
    "Find me a flight from Boston to Seattle.",
    "I'd like a cappuccino and a blueberry muffin.",
    "Set an alarm for seven in the morning.",
];

fn question(text: &str) -> GenerateRequest {
    let message = ChatMessage::new(Role::User, text);
    let mut request = GenerateRequest::new(Input::Chat(ChatRequest::new(vec![message])));
    request.sampling.temperature = Some(0.0);
    request.stopping.max_tokens = Some(if quick() { 8 } else { 48 });
    request
}

#[tokio::main]
async fn main() -> Result<()> {
    // Four seats for ten guests, so that there is a queue to look at.
    let engine = Engine::builder(maitre::bundled()).max_seqs(4).build()?;
    ask(&engine, question("Hello!")).await?;

    println!("\nInference: one question, alone in the room\n");
    let alone = ask(&engine, question(QUESTIONS[0])).await?;
    println!("  > {}\n  < {}\n", QUESTIONS[0], alone.text.trim());

    println!("Serving: ten questions at once, four seats\n");
    let began = Instant::now();
    let crowd = ask_all(&engine, QUESTIONS.map(question).to_vec()).await?;
    let took = began.elapsed();
    ensure!(
        crowd[0].text == alone.text,
        "an answer must not depend on who else is asking"
    );

    compare(&alone, &crowd, took);
    arrows(&crowd);
    let path = picture::gantt(
        "day01_inference_vs_serving",
        "Ten requests, four seats",
        &["waiting", "prefill", "decode"],
        &crowd
            .iter()
            .enumerate()
            .map(|(index, answer)| bar(index, answer, began))
            .collect::<Vec<_>>(),
    )?;
    println!("picture: {}", path.display());
    Ok(())
}

/// The first request, alone and in the crowd.
fn compare(alone: &TimedAnswer, crowd: &[TimedAnswer], took: Duration) {
    let first = &crowd[0];
    let last = crowd
        .iter()
        .max_by_key(|answer| answer.ttft())
        .unwrap_or(first);
    let tokens: usize = crowd.iter().map(|answer| answer.tokens.len()).sum();
    let rate = |tokens: usize, time: Duration| format!("{:.0}", tokens as f64 / time.as_secs_f64());
    let row = |name: &str, cell: &dyn Fn(&TimedAnswer) -> String| {
        vec![name.into(), cell(alone), cell(first), cell(last)]
    };
    table::print(
        &["", "alone", "first of ten", "last of ten"],
        &[
            row("waited (ms)", &|a| ms(a.end.timings.queue)),
            row("time to first token (ms)", &|a| ms(a.ttft())),
            row("time per output token (ms)", &|a| ms(a.end.timings.tpot)),
            row("whole answer (ms)", &|a| ms(a.e2e())),
            row("tokens", &|a| a.tokens.len().to_string()),
        ],
    );
    println!(
        "  tokens a second: {} for one guest, {} for the room. The first guest's answer is the same, bit for bit.\n",
        rate(alone.tokens.len(), alone.e2e()),
        rate(tokens, took),
    );
}

/// For each arrow of the path: what can wait, what can fail, what is measured, and what it was.
fn arrows(crowd: &[TimedAnswer]) {
    let mean = |of: &dyn Fn(&TimedAnswer) -> Duration| {
        let total: Duration = crowd.iter().map(of).sum();
        format!("{} ms", ms(total / crowd.len() as u32))
    };
    let row = |cells: [&str; 4], measured: String| {
        cells
            .iter()
            .map(ToString::to_string)
            .chain([measured])
            .collect::<Vec<_>>()
    };
    table::print(
        &[
            "arrow",
            "can wait for",
            "can fail by",
            "is measured as",
            "mean here",
        ],
        &[
            row(
                [
                    "request → tokens",
                    "the tokenizer",
                    "bad input",
                    "violations",
                ],
                "0 refused".into(),
            ),
            row(
                ["tokens → queue", "nothing", "a full queue", "queue length"],
                format!("{} asked", crowd.len()),
            ),
            row(
                [
                    "queue → step",
                    "a seat, blocks",
                    "queue timeout",
                    "queue time",
                ],
                mean(&|a| a.end.timings.queue),
            ),
            row(
                [
                    "prompt → first token",
                    "the token budget",
                    "a failed step",
                    "prefill time",
                ],
                mean(&|a| a.end.timings.prefill),
            ),
            row(
                [
                    "token → token",
                    "the others' tokens",
                    "deadline, preemption",
                    "TPOT",
                ],
                mean(&|a| a.end.timings.tpot),
            ),
            row(
                ["token → text", "half a character", "nothing", "(publisher)"],
                "—".into(),
            ),
            row(
                ["text → guest", "a slow reader", "a dropped stream", "E2E"],
                mean(&|a| a.e2e()),
            ),
        ],
    );
}

fn bar(index: usize, answer: &TimedAnswer, began: Instant) -> Bar {
    let at = |after: Duration| (answer.asked + after - began).as_secs_f64() * 1e3;
    let timings = &answer.end.timings;
    Bar {
        name: format!("guest {}", index + 1),
        begin: at(Duration::ZERO),
        ends: vec![at(timings.queue), at(timings.ttft), at(timings.e2e)],
    }
}
