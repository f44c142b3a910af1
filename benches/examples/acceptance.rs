//! How many tokens a step would make if each history proposed for texts that are known:
//! `cargo run --release --package maitre-benches --example acceptance`.
//!
//! The bundled held-out chats, each answer of an assistant on its own; with `MAITRE_TEST_DATA` also poems that
//! are repeated with every 20th token changed, and the reference answers of MT-bench.
#![allow(clippy::print_stdout, reason = "a command-line tool talks on stdout")]

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use maitre_benches::texts;
use maitre_speculative::{History, HistoryKind, Replay, ReplayStep};
use maitre_text::Tokenizer;

const KINDS: [HistoryKind; 2] = [HistoryKind::Ngram, HistoryKind::Suffix];

/// A prompt and what follows it.
type Case = (Vec<u32>, Vec<u32>);

/// The answers of the held-out chats, each after all of its chat that comes before it.
fn chats(tokenizer: &Tokenizer) -> Result<Vec<Case>> {
    let opening = "<|im_start|>assistant\n";
    let mut cases = Vec::new();
    for chat in maitre_bundled::HELDOUT.split("<|endoftext|>") {
        for (at, _) in chat.match_indices(opening) {
            let (before, after) = chat.split_at(at + opening.len());
            let (answer, _) = after.split_once("<|im_end|>").unwrap_or((after, ""));
            cases.push((tokenizer.encode(before)?, tokenizer.encode(answer)?));
        }
    }
    Ok(cases)
}

/// Each poem, followed by itself with edits.
fn poems(tokenizer: &Tokenizer, data: &Path) -> Result<Vec<Case>> {
    let text = std::fs::read_to_string(data.join("prompts/sonnet.txt"))?;
    let lines: Vec<&str> = text.lines().collect();
    lines
        .chunks(14)
        .map(|poem| {
            let poem = tokenizer.encode(&poem.join("\n"))?;
            let repeated = texts::edited(&poem, 20);
            Ok((poem, repeated))
        })
        .collect()
}

/// The questions that have a reference answer, and that.
fn references(tokenizer: &Tokenizer, data: &Path) -> Result<Vec<Case>> {
    let text = std::fs::read_to_string(data.join("prompts/mt_bench_question.jsonl"))?;
    let mut cases = Vec::new();
    for line in text.lines() {
        let question: serde_json::Value = serde_json::from_str(line)?;
        let (turn, answer) = (&question["turns"][0], &question["reference"][0]);
        if let (Some(turn), Some(answer)) = (turn.as_str(), answer.as_str()) {
            cases.push((tokenizer.encode(turn)?, tokenizer.encode(answer)?));
        }
    }
    Ok(cases)
}

/// One line: what all cases together would have come to. Returns the first step of each, and all others.
fn report(cases: &[Case], kind: HistoryKind, drafts: usize) -> [Vec<ReplayStep>; 2] {
    let [mut first, mut later] = [Vec::new(), Vec::new()];
    let mut all = Replay {
        steps: Vec::new(),
        tokens: 0,
    };
    for (prompt, text) in cases {
        let replay = Replay::run(History::new(kind, prompt), text, drafts);
        first.extend(replay.steps.first());
        later.extend(replay.steps.iter().skip(1));
        all.steps.extend(replay.steps);
        all.tokens += replay.tokens;
    }
    let proposing = all.steps.iter().filter(|step| step.proposed > 0).count();
    let positions: Vec<String> = all
        .by_position()
        .iter()
        .map(|&(reached, accepted)| format!("{:.2}", accepted as f64 / reached.max(1) as f64))
        .collect();
    println!(
        "  {:<7} {drafts} drafts  {:.3} tokens a step, proposals in {:>3.0} % of steps, accepted {}",
        format!("{kind:?}"),
        all.tokens_per_step(),
        100.0 * proposing as f64 / all.steps.len().max(1) as f64,
        positions.join(" "),
    );
    [first, later]
}

/// How much a match of each length is worth.
fn report_by_match(when: &str, steps: &[ReplayStep]) {
    for (least, most) in [
        (1, 1),
        (2, 2),
        (3, 3),
        (4, 4),
        (5, 8),
        (9, 16),
        (17, usize::MAX),
    ] {
        let of_class = || {
            let proposing = steps.iter().filter(|step| step.proposed > 0);
            proposing.filter(move |step| (least..=most).contains(&step.match_len))
        };
        let (count, first) = (
            of_class().count(),
            of_class().filter(|step| step.accepted > 0).count(),
        );
        let accepted: usize = of_class().map(|step| step.accepted).sum();
        if count > 0 {
            let of = |number: usize| number as f64 / count as f64;
            println!(
                "    {when}, match of {least:>2} or more: {count:>5} proposals, first accepted {:.2}, accepted on \
                 average {:.2}",
                of(first),
                of(accepted)
            );
        }
    }
}

/// Time and memory of taking in `tokens` one by one, and the longest that one of them took: of each token
/// the least time of some, as others use the machine, too.
fn report_cost(name: &str, tokens: &[u32]) {
    for kind in KINDS {
        let mut took = vec![Duration::MAX; tokens.len()];
        let mut bytes = 0;
        for _ in 0..10 {
            let mut history = History::new(kind, tokens);
            for took in &mut took {
                let started = Instant::now();
                history.absorb(1);
                *took = started.elapsed().min(*took);
            }
            bytes = history.bytes();
        }
        let (whole, longest) = (took.iter().sum::<Duration>(), took.iter().max());
        let count = tokens.len() as f64;
        println!(
            "  {:<7} {name:<22} {:>4.0} ns a token, {:>5.1} bytes a token, longest {:>4} us",
            format!("{kind:?}"),
            whole.as_nanos() as f64 / count,
            bytes as f64 / count,
            longest.map_or(0, Duration::as_micros)
        );
    }
}

fn main() -> Result<()> {
    let tokenizer = texts::tokenizer()?;
    let mut sets = vec![("held-out chats", chats(&tokenizer)?)];
    if let Some(data) = std::env::var_os("MAITRE_TEST_DATA") {
        let data = Path::new(&data);
        sets.push(("poems repeated with edits", poems(&tokenizer, data)?));
        sets.push(("reference answers", references(&tokenizer, data)?));
    }
    for (name, cases) in &sets {
        println!("{name}: {} texts", cases.len());
        for kind in KINDS {
            for drafts in [2, 4] {
                report(cases, kind, drafts);
            }
            // A first step follows what the chat template puts in front of every answer.
            let [first, later] = report(cases, kind, 8);
            report_by_match("first step", &first);
            report_by_match("later", &later);
        }
    }
    println!("indexing");
    let text = tokenizer.encode(maitre_bundled::HELDOUT)?;
    for count in [8, 32, text.len() >> 10] {
        let part = text
            .get(..count << 10)
            .context("the held-out text is too short")?;
        report_cost(&format!("{count}K of chats"), part);
    }
    for count in [8, 32, 128] {
        let tokens = texts::random_tokens(count << 10, 1 << 17);
        report_cost(&format!("{count}K at random"), &tokens);
    }
    Ok(())
}
