//! Sampling one row of a large vocabulary: the cost of each parameter, against the greedy choice, which
//! reads the row once at the speed of memory.
//!
//! `trained` is a row as a language model gives it: the mass on a few tokens, the bulk 15 to 25 below.
//! `flat` has every token about equally probable: the worst case of everything that skips tokens.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use maitre_sampling::{Sampler, SamplingParams, TokenCounts, noise};

/// The vocabulary of Qwen3.
const VOCAB: u32 = 151_936;

fn logits(spread: f32) -> Vec<f32> {
    (0..VOCAB)
        .map(|token| spread * noise::gumbel(1, 0, token))
        .collect()
}

fn sampling(criterion: &mut Criterion) {
    let open = SamplingParams::default();
    let cases = [
        (
            "greedy",
            SamplingParams {
                temperature: 0.0,
                ..open.clone()
            },
        ),
        ("temperature", open.clone()),
        (
            "min_p",
            SamplingParams {
                min_p: 0.05,
                ..open.clone()
            },
        ),
        (
            "top_k",
            SamplingParams {
                top_k: 50,
                ..open.clone()
            },
        ),
        (
            "top_p",
            SamplingParams {
                top_p: 0.9,
                ..open.clone()
            },
        ),
        (
            "top_k_top_p",
            SamplingParams {
                top_k: 50,
                top_p: 0.9,
                ..open.clone()
            },
        ),
        (
            "penalty",
            SamplingParams {
                temperature: 0.0,
                presence_penalty: 0.5,
                ..open.clone()
            },
        ),
        (
            "logprobs",
            SamplingParams {
                temperature: 0.0,
                logprobs: Some(5),
                ..open
            },
        ),
    ];
    let prompt: Vec<u32> = (0..1000).map(|n| n * 151).collect();
    let counts = TokenCounts::new(&prompt);
    for (name, spread) in [("trained", 2.0), ("flat", 0.01)] {
        let logits = logits(spread);
        let mut group = criterion.benchmark_group(format!("sampling/{name}"));
        group.throughput(Throughput::Bytes(
            u64::from(VOCAB) * size_of::<f32>() as u64,
        ));
        for (case, params) in &cases {
            let (mut sampler, mut position) = (Sampler::new(), 0);
            group.bench_function(*case, |bencher| {
                bencher.iter(|| {
                    position += 1;
                    sampler.sample(black_box(&logits), params, &counts, position, &[])
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, sampling);
criterion_main!(benches);
