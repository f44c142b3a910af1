//! Sampling one row of a large vocabulary: the cost of each parameter, against the greedy choice, which
//! reads the row once at the speed of a cache.
//!
//! `trained` is a row as a language model gives it: the mass on a few tokens, the bulk 15 to 25 below.
//! `flat` has every token about equally probable: the worst case of everything that skips tokens.

use std::hint::black_box;

use anyhow::Result;
use maitre_benches::{Bench, Peak, Work};
use maitre_sampling::{Sampler, SamplingParams, TokenCounts, noise::Noise};

/// The vocabulary of Qwen3.
const VOCAB: u32 = 151_936;

/// A row of noise, the wider the fewer tokens it is spread over.
pub(crate) fn logits(spread: f32) -> Vec<f32> {
    let noise = Noise::target(1, 0);
    (0..VOCAB)
        .map(|token| spread * noise.gumbel(token))
        .collect()
}

/// Each parameter alone, and the usual two together.
fn cases() -> Vec<(&'static str, SamplingParams)> {
    let with = |change: fn(&mut SamplingParams)| {
        let mut params = SamplingParams::default();
        change(&mut params);
        params
    };
    vec![
        ("greedy", with(|params| params.temperature = 0.0)),
        ("temperature", with(|_| {})),
        ("min_p", with(|params| params.min_p = 0.05)),
        ("top_k", with(|params| params.top_k = 50)),
        ("top_p", with(|params| params.top_p = 0.9)),
        (
            "top_k_top_p",
            with(|params| {
                params.top_k = 50;
                params.top_p = 0.9;
            }),
        ),
        (
            "penalty",
            with(|params| {
                params.temperature = 0.0;
                params.presence_penalty = 0.5;
            }),
        ),
        (
            "logprobs",
            with(|params| {
                params.temperature = 0.0;
                params.logprobs = Some(5);
            }),
        ),
    ]
}

pub(crate) fn measure(bench: &mut Bench) -> Result<()> {
    let prompt: Vec<u32> = (0..1000).map(|n| n * 151).collect();
    let counts = TokenCounts::new(&prompt);
    let work = Work {
        bytes: VOCAB as usize * size_of::<f32>(),
        ops: 0,
        peak: Peak::F32,
    };
    for (name, spread) in [("trained", 2.0), ("flat", 0.01)] {
        let logits = logits(spread);
        for (case, params) in cases() {
            let (mut sampler, mut position) = (Sampler::new(), 0);
            let shape = format!("{case}, {name}");
            bench.measure("sampling", &shape, work, || {
                position += 1;
                black_box(sampler.sample(black_box(&logits), &params, &counts, position, &[])?);
                Ok(())
            })?;
        }
    }
    Ok(())
}
