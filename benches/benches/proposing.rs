//! What it costs to know where a sequence repeats itself: taking in a prompt, and what is done each step.
//! `cargo bench --package maitre-benches --bench proposing`.
//!
//! All of it is to stay far below a step, also with 256 sequences: the goal is 1 us per token and proposal.

use std::hint::black_box;
use std::time::Duration;

use anyhow::Result;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use maitre_benches::texts;
use maitre_speculative::{History, HistoryKind};

const KINDS: [HistoryKind; 2] = [HistoryKind::Ngram, HistoryKind::Suffix];

/// A name and tokens: the held-out chats as far as they go, numbers without a rule, and one pattern again
/// and again.
fn samples() -> Result<Vec<(String, Vec<u32>)>> {
    let chats = texts::tokenizer()?.encode(maitre_bundled::HELDOUT)?;
    let mut samples = vec![
        ("chats, 8K".to_string(), chats[..8 << 10].to_vec()),
        (format!("chats, {}K", chats.len() >> 10), chats),
        (
            "period of 50, 128K".to_string(),
            (0..128 << 10).map(|at| at % 50).collect(),
        ),
    ];
    for thousand in [8, 32, 128] {
        let tokens = texts::random_tokens(thousand << 10, 1 << 17);
        samples.push((format!("random, {thousand}K"), tokens));
    }
    Ok(samples)
}

fn proposing(criterion: &mut Criterion) -> Result<()> {
    let samples = samples()?;
    for kind in KINDS {
        let mut group = criterion.benchmark_group(format!("{kind:?}/absorb, per token"));
        for (name, tokens) in &samples {
            group.throughput(Throughput::Elements(tokens.len() as u64));
            group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
                bencher.iter_batched(
                    || History::new(kind, tokens),
                    |mut history| {
                        history.absorb(usize::MAX);
                        history
                    },
                    BatchSize::LargeInput,
                );
            });
        }
        group.finish();

        let mut group = criterion.benchmark_group(format!("{kind:?}/a step: 2 tokens, 4 proposed"));
        for (name, tokens) in &samples {
            let (prompt, rest) = tokens.split_at(tokens.len() / 2);
            let mut start = History::new(kind, prompt);
            start.absorb(usize::MAX);
            let (mut history, mut steps) = (start.clone(), rest.chunks_exact(2));
            group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
                bencher.iter(|| {
                    let Some(step) = steps.next() else {
                        (history, steps) = (start.clone(), rest.chunks_exact(2));
                        return None;
                    };
                    history.extend(black_box(step));
                    history.absorb(step.len());
                    history.propose(4)
                });
            });
        }
        group.finish();
    }
    Ok(())
}

fn main() -> Result<()> {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .configure_from_args();
    proposing(&mut criterion)?;
    criterion.final_summary();
    Ok(())
}
