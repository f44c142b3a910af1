//! The statistics: draws follow the softmax, and the noise is independent where it has to be.
//!
//! Seeds are fixed, so these tests give the same figures each time; the bounds are those that a sound
//! sampler would exceed about once in a hundred thousand choices of the seeds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod reference;

use maitre_sampling::{
    Sampler, SamplingParams, TokenCounts,
    noise::{Noise, Purpose},
};

/// Standard normal deviate that is exceeded about once in 100,000.
const RARE: f64 = 4.3;

/// Logits of a trained model's general shape: few probable tokens, many improbable ones.
fn logits(vocab: usize) -> Vec<f32> {
    (0..vocab)
        .map(|token| 4.0 - 1.7 * ((token * 7919 % vocab) as f32 + 1.0).ln())
        .collect()
}

/// The chi-square statistic as a standard normal deviate (Wilson and Hilferty 1931). Cells expected
/// fewer than ten times are counted as one.
fn deviate(observed: &[u64], probabilities: &[f64]) -> f64 {
    let draws = observed.iter().sum::<u64>() as f64;
    let (mut statistic, mut cells, mut rest) = (0.0, 0.0, (0.0, 0.0));
    let mut add = |observed: f64, expected: f64| {
        statistic += (observed - expected).powi(2) / expected;
        cells += 1.0;
    };
    for (observed, probability) in observed.iter().zip(probabilities) {
        let (observed, expected) = (*observed as f64, probability * draws);
        if expected >= 10.0 {
            add(observed, expected);
        } else {
            rest = (rest.0 + observed, rest.1 + expected);
        }
    }
    if rest.1 >= 10.0 {
        add(rest.0, rest.1);
    }
    let freedom: f64 = cells - 1.0;
    let variance = 2.0 / (9.0 * freedom);
    ((statistic / freedom).cbrt() - (1.0 - variance)) / variance.sqrt()
}

/// Draws over 20 seeds and 10,000 positions, the sampler's and its distribution's, against the exact
/// probabilities.
fn check_draws(vocab: usize, params: SamplingParams) {
    let logits = logits(vocab);
    let kept = reference::truncated(&logits, &params).unwrap();
    let total: f64 = kept.iter().map(|(_, z)| z.exp()).sum();
    let mut probabilities = vec![0.0; vocab];
    for (token, z) in &kept {
        probabilities[*token as usize] = z.exp() / total;
    }

    let mut observed = [vec![0; vocab], vec![0; vocab]];
    let mut sampler = Sampler::new();
    let counts = TokenCounts::default();
    let distribution = sampler
        .distribution(&logits, &params, &counts, &[])
        .unwrap();
    for seed in 0..20 {
        let params = SamplingParams {
            seed,
            ..params.clone()
        };
        for position in 0..10_000 {
            let sampled = sampler
                .sample(&logits, &params, &counts, position, &[])
                .unwrap();
            observed[0][sampled.token as usize] += 1;
            let noise = Noise {
                seed,
                position,
                purpose: Purpose::Draft,
            };
            observed[1][distribution.draw(noise) as usize] += 1;
        }
    }
    for observed in observed {
        for (token, count) in observed.iter().enumerate() {
            assert!(
                *count == 0 || probabilities[token] > 0.0,
                "{token} was cut but drawn {count} times"
            );
        }
        let deviate = deviate(&observed, &probabilities);
        assert!(
            deviate.abs() < RARE,
            "chi-square is {deviate:.1} standard deviations off: {params:?}"
        );
    }
}

#[test]
fn draws_follow_the_softmax() {
    check_draws(40, SamplingParams::default());
}

#[test]
fn draws_follow_the_softmax_at_any_temperature() {
    check_draws(
        300,
        SamplingParams {
            temperature: 0.7,
            ..Default::default()
        },
    );
    check_draws(
        300,
        SamplingParams {
            temperature: 2.5,
            ..Default::default()
        },
    );
}

#[test]
fn draws_follow_what_truncation_leaves() {
    check_draws(
        300,
        SamplingParams {
            top_k: 12,
            ..Default::default()
        },
    );
    check_draws(
        300,
        SamplingParams {
            top_p: 0.8,
            ..Default::default()
        },
    );
    check_draws(
        300,
        SamplingParams {
            min_p: 0.02,
            ..Default::default()
        },
    );
    let all = SamplingParams {
        temperature: 1.4,
        top_k: 60,
        top_p: 0.9,
        min_p: 0.005,
        ..Default::default()
    };
    check_draws(300, all);
}

#[test]
fn tokens_at_successive_positions_are_independent() {
    const VOCAB: usize = 8;
    let logits = logits(VOCAB);
    let kept = reference::truncated(&logits, &SamplingParams::default()).unwrap();
    let total: f64 = kept.iter().map(|(_, z)| z.exp()).sum();
    let mut probabilities = vec![0.0; VOCAB * VOCAB];
    for (first, x) in &kept {
        for (second, y) in &kept {
            probabilities[*first as usize * VOCAB + *second as usize] =
                (x + y).exp() / total.powi(2);
        }
    }
    let (mut observed, mut sampler) = (vec![0; VOCAB * VOCAB], Sampler::new());
    for seed in 0..100_000 {
        let params = SamplingParams {
            seed,
            ..Default::default()
        };
        let mut draw = |position| {
            let counts = TokenCounts::default();
            sampler
                .sample(&logits, &params, &counts, position, &[])
                .unwrap()
                .token as usize
        };
        observed[draw(0) * VOCAB + draw(1)] += 1;
    }
    let deviate = deviate(&observed, &probabilities);
    assert!(
        deviate.abs() < RARE,
        "chi-square is {deviate:.1} standard deviations off"
    );
}

#[test]
fn noise_has_the_gumbel_distribution() {
    const N: u32 = 200_000;
    let mut values: Vec<f64> = (0..N)
        .map(|n| f64::from(Noise::target(1, u64::from(n / 500)).gumbel(n % 500)))
        .collect();
    values.sort_by(f64::total_cmp);
    let cdf = |x: f64| (-(-x).exp()).exp();
    let distance = (0..).zip(&values).map(|(rank, x)| {
        let (below, above) = (
            f64::from(rank) / f64::from(N),
            f64::from(rank + 1) / f64::from(N),
        );
        (cdf(*x) - below).abs().max((above - cdf(*x)).abs())
    });
    // Kolmogorov: P(sqrt(n)·D > 2.5) = 2·exp(-2·2.5²) = 7e-6.
    let statistic = distance.fold(0.0, f64::max) * f64::from(N).sqrt();
    assert!(statistic < 2.5, "{statistic}");
}

#[test]
fn noise_is_uncorrelated_between_neighbours_of_every_kind() {
    const N: u32 = 100_000;
    const HIGH: u64 = 1 << 32;
    let points = (0..N).map(|n| (u64::from(n / 1000), u64::from(n / 40 % 25), n % 40));
    let uniform = |(seed, position, token)| {
        f64::from(Noise::target(seed, position).bits(token)) / HIGH as f64 - 0.5
    };
    type Shift = fn((u64, u64, u32)) -> (u64, u64, u32);
    let shifts: [(&str, Shift); 8] = [
        ("next token", |(s, p, t)| (s, p, t + 1)),
        ("next quadruple of tokens", |(s, p, t)| (s, p, t + 4)),
        ("next block of tokens", |(s, p, t)| (s, p, t + 64)),
        ("next position", |(s, p, t)| (s, p + 1, t)),
        ("high half of the position", |(s, p, t)| (s, p + HIGH, t)),
        ("next seed", |(s, p, t)| (s + 1, p, t)),
        ("high half of the seed", |(s, p, t)| (s + HIGH, p, t)),
        ("seed and position exchanged", |(s, p, t)| {
            (p + 200, s + 200, t)
        }),
    ];
    for (name, shift) in shifts {
        let products = points
            .clone()
            .map(|point| uniform(point) * uniform(shift(point)));
        // The product of two independent uniforms on ±1/2 has variance 1/144.
        let deviate = products.sum::<f64>() * 12.0 / f64::from(N).sqrt();
        assert!(
            deviate.abs() < RARE,
            "{name}: {deviate:.1} standard deviations"
        );
    }
}

#[test]
fn noise_of_different_purposes_is_uncorrelated() {
    const N: u32 = 100_000;
    const PURPOSES: [Purpose; 4] = [
        Purpose::Target,
        Purpose::Draft,
        Purpose::Accept,
        Purpose::Residual,
    ];
    let noise = |n: u32, purpose| Noise {
        seed: u64::from(n / 300),
        position: u64::from(n % 300),
        purpose,
    };
    for (at, first) in PURPOSES.into_iter().enumerate() {
        for second in PURPOSES.into_iter().skip(at + 1) {
            let products = (0..N)
                .map(|n| (noise(n, first).uniform() - 0.5) * (noise(n, second).uniform() - 0.5));
            let deviate = products.sum::<f64>() * 12.0 / f64::from(N).sqrt();
            assert!(
                deviate.abs() < RARE,
                "{first:?}, {second:?}: {deviate:.1} standard deviations"
            );
        }
    }
}
