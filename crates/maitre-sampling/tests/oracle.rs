//! Token for token, the sampler agrees with the slow reference; and what a row can do to it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod reference;

use maitre_sampling::{Distribution, Sampler, SamplingError, SamplingParams, TokenCounts};
use proptest::prelude::*;

fn sample(logits: &[f32], params: &SamplingParams, position: u64) -> u32 {
    let counts = TokenCounts::default();
    Sampler::new()
        .sample(logits, params, &counts, position, &[])
        .unwrap()
        .token
}

/// Rows of up to seven blocks: flat or peaked, with ties and impossible tokens.
fn logits() -> impl Strategy<Value = Vec<f32>> {
    let tied = (-6..6_i8).prop_map(f32::from);
    let logit = prop_oneof![6 => -1.0..1.0_f32, 1 => tied, 1 => Just(f32::NEG_INFINITY)];
    let row = (
        prop::collection::vec(logit, 0..400),
        -1.0..6.0_f32,
        0.1..20.0_f32,
    );
    row.prop_map(|(mut row, possible, spread)| {
        row.push(possible);
        row.iter().map(|logit| logit * spread).collect()
    })
}

fn params() -> impl Strategy<Value = SamplingParams> {
    let temperature = prop_oneof![Just(1.0_f32), 0.05..3.0_f32, Just(1e-4_f32)];
    let top_p = prop_oneof![Just(1.0_f32), 0.01..1.0_f32];
    let top_k = prop_oneof![Just(0_u32), 1..12_u32, 1..500_u32];
    let min_p = prop_oneof![Just(0.0_f32), 0.0..1.0_f32, 0.0..0.01_f32];
    (temperature, top_p, top_k, min_p, any::<u64>()).prop_map(
        |(temperature, top_p, top_k, min_p, seed)| SamplingParams {
            temperature,
            top_p,
            top_k,
            min_p,
            seed,
            ..Default::default()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_drawn_token_is_the_references(logits in logits(), params in params(), first: u32) {
        if let Some(kept) = reference::truncated(&logits, &params) {
            let mut sampler = Sampler::new();
            for position in (u64::from(first)..).take(20) {
                let counts = TokenCounts::default();
                let sampled = sampler.sample(&logits, &params, &counts, position, &[]).unwrap();
                prop_assert_eq!(sampled.token, reference::winner(&kept, params.seed, position));
            }
        }
    }

    #[test]
    fn truncation_that_spares_the_winner_does_not_change_it(
        logits in logits(), params in params(), position: u64
    ) {
        let temperature = params.temperature;
        let open = SamplingParams { temperature, seed: params.seed, ..Default::default() };
        let winner = sample(&logits, &open, position);
        if let Some(kept) = reference::truncated(&logits, &params)
            && kept.iter().any(|(token, _)| *token == winner)
        {
            prop_assert_eq!(sample(&logits, &params, position), winner);
        }
    }

    #[test]
    fn the_distribution_is_the_softmax_of_what_the_reference_keeps(logits in logits(), params in params()) {
        /// Where the noise ends; what is further below the best cannot be drawn.
        const REACH: f64 = 26.004;
        if let Some(kept) = reference::truncated(&logits, &params) {
            let counts = TokenCounts::default();
            let found = Sampler::new().distribution(&logits, &params, &counts, &[]).unwrap();
            let total: f64 = kept.iter().map(|(_, z)| z.exp()).sum();
            for (token, z) in &kept {
                let (exact, found) = (z.exp() / total, f64::from(found.probability(*token)));
                let close = (found / exact - 1.0).abs() < 1e-5;
                let out_of_reach = found == 0.0 && *z < 1e-3 - REACH;
                prop_assert!(close || out_of_reach, "{token}: {found} for {exact}");
            }
            prop_assert!(found.iter().all(|(token, _)| kept.iter().any(|(other, _)| *other == token)));
            prop_assert!(found.iter().zip(found.iter().skip(1)).all(|(a, b)| a.0 < b.0));
            let sum: f64 = found.iter().map(|(_, probability)| f64::from(probability)).sum();
            prop_assert!((sum - 1.0).abs() < 1e-6, "sums to {sum}");
        }
    }

    #[test]
    fn what_is_sampled_is_possible(
        logits in logits(),
        params in params(),
        greedy: bool,
        (presence_penalty, repetition_penalty) in (-2.0..2.0_f32, 0.5..2.0_f32),
        bias in prop::collection::btree_map(0..400_u32, -100.0..100.0_f32, 0..5),
        (seen, banned) in (prop::collection::vec(0..400_u32, 0..9), prop::collection::vec(0..400_u32, 0..9)),
        position: u64,
    ) {
        let params = SamplingParams {
            temperature: if greedy { 0.0 } else { params.temperature },
            presence_penalty,
            repetition_penalty,
            logit_bias: bias.into_iter().collect(),
            ..params
        };
        let mut counts = TokenCounts::new(&seen);
        seen.iter().take(4).for_each(|token| counts.record(*token));
        let mut sampler = Sampler::new();
        let sampled = sampler.sample(&logits, &params, &counts, position, &banned).map(|sampled| sampled.token);
        let chosen = sampler.choose(&logits, &params, &counts, position, &banned);
        prop_assert_eq!(&chosen, &sampled);
        let found = sampler.distribution(&logits, &params, &counts, &banned);
        match (found, sampled) {
            (Ok(found), Ok(token)) if greedy => prop_assert_eq!(found, Distribution::point(token)),
            (Ok(found), Ok(token)) => {
                prop_assert!(found.probability(token) > 0.0, "{token} of {found:?}");
                prop_assert!(found.iter().all(|(token, _)| !banned.contains(&token)), "{found:?}");
            }
            (found, sampled) => prop_assert_eq!(found.err(), sampled.err()),
        }
    }

    #[test]
    fn log_probabilities_are_the_log_softmax(logits in logits(), k in 0..25_u32, at: prop::sample::Index) {
        let token = at.index(logits.len()) as u32;
        let found = Sampler::new().token_logprobs(&logits, token, k).unwrap();

        let max = f64::from(logits.iter().copied().fold(f32::MIN, f32::max));
        let mass: f64 = logits.iter().map(|logit| (f64::from(*logit) - max).exp()).sum();
        let exact = |token: u32| f64::from(logits[token as usize]) - max - mass.ln();
        let close = |found: f32, token: u32| {
            let exact = exact(token);
            f64::from(found) == exact || (f64::from(found) - exact).abs() < 2e-5
        };
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        order.sort_by(|a, b| exact(*b).total_cmp(&exact(*a)).then(a.cmp(b)));
        order.truncate(k as usize);

        prop_assert!(close(found.logprob, token), "{} for {}", found.logprob, exact(token));
        prop_assert_eq!(found.token, token);
        let greater = logits.iter().filter(|logit| **logit > logits[token as usize]).count();
        prop_assert_eq!(found.rank as usize, 1 + greater);
        prop_assert_eq!(found.top.iter().map(|(token, _)| *token).collect::<Vec<_>>(), order);
        for (token, logprob) in found.top {
            prop_assert!(close(logprob, token), "{} for {}", logprob, exact(token));
        }
    }
}

#[test]
fn greedy_takes_the_largest_logit_and_the_lowest_id_among_equals() {
    let mut logits = vec![0.0; 300];
    logits[200] = 2.0;
    logits[77] = 2.0;
    for temperature in [0.0, 1e-6] {
        let params = SamplingParams {
            temperature,
            ..Default::default()
        };
        for position in 0..10 {
            assert_eq!(sample(&logits, &params, position), 77);
        }
    }
}

#[test]
fn a_used_sampler_and_a_fresh_one_agree() {
    let rows: Vec<Vec<f32>> = (1..60_u32)
        .map(|n| {
            (0..n * 7)
                .map(|token| ((token * 37 + n) % 23) as f32 / 3.0)
                .collect()
        })
        .collect();
    let params = SamplingParams {
        top_k: 9,
        top_p: 0.9,
        presence_penalty: 0.5,
        logprobs: Some(3),
        seed: 5,
        ..Default::default()
    };
    let counts = TokenCounts::new(&[1, 2, 3]);
    let mut used = Sampler::new();
    for (position, row) in (0..).zip(&rows) {
        let fresh = Sampler::new()
            .sample(row, &params, &counts, position, &[4])
            .unwrap();
        let again = used.sample(row, &params, &counts, position, &[4]).unwrap();
        assert_eq!(fresh, again, "row {position}");
    }
}

#[test]
fn bans_biases_and_penalties_decide_what_is_chosen() {
    let logits = [3.0, 2.0, 1.0, 0.0];
    let greedy = SamplingParams {
        temperature: 0.0,
        ..Default::default()
    };
    let choose = |params: &SamplingParams, counts: &TokenCounts, banned: &[u32]| {
        Sampler::new()
            .sample(&logits, params, counts, 0, banned)
            .unwrap()
            .token
    };
    let nothing = TokenCounts::default();
    let mut said_0 = TokenCounts::new(&[1]);
    said_0.record(0);

    assert_eq!(choose(&greedy, &nothing, &[0, 1]), 2);
    let biased = SamplingParams {
        logit_bias: vec![(3, 3.5)],
        ..greedy.clone()
    };
    assert_eq!(choose(&biased, &nothing, &[]), 3);
    assert_eq!(
        choose(&biased, &nothing, &[3]),
        0,
        "a ban is stronger than a bias"
    );
    let presence = SamplingParams {
        presence_penalty: 1.5,
        ..greedy.clone()
    };
    assert_eq!(
        choose(&presence, &said_0, &[]),
        1,
        "the prompt's 1 is not penalised"
    );
    let repetition = SamplingParams {
        repetition_penalty: 4.0,
        ..greedy
    };
    assert_eq!(choose(&repetition, &said_0, &[]), 2, "the prompt's 1 is");
}

#[test]
fn log_probabilities_are_those_before_bias_and_temperature() {
    let logits = [1.0, 0.0, -1.0];
    let params = SamplingParams {
        temperature: 0.0,
        logit_bias: vec![(2, 10.0)],
        logprobs: Some(1),
        ..Default::default()
    };
    let sampled = Sampler::new()
        .sample(&logits, &params, &TokenCounts::default(), 0, &[])
        .unwrap();
    assert_eq!(sampled.token, 2);
    let logprobs = sampled.logprobs.unwrap();
    assert_eq!((logprobs.rank, logprobs.top[0].0), (3, 0));
    assert!(
        (logprobs.logprob - -2.407_606).abs() < 1e-5,
        "{}",
        logprobs.logprob
    );
}

#[test]
fn rows_no_token_can_be_drawn_from_are_errors() {
    const INF: f32 = f32::INFINITY;
    let params = SamplingParams::default();
    let counts = TokenCounts::default();
    let error = |logits: &[f32], banned: &[u32]| {
        let mut sampler = Sampler::new();
        let found = sampler.distribution(logits, &params, &counts, banned);
        let error = sampler
            .sample(logits, &params, &counts, 0, banned)
            .unwrap_err();
        // As text, because NaN is not NaN.
        assert_eq!(found.unwrap_err().to_string(), error.to_string());
        error
    };
    let nothing = |vocab_size| SamplingError::NothingPossible { vocab_size };
    assert_eq!(
        error(&[0.0, INF], &[]),
        SamplingError::NonFinite {
            token: 1,
            logit: INF
        }
    );
    assert!(matches!(
        error(&[f32::NAN, 1.0], &[]),
        SamplingError::NonFinite { token: 0, .. }
    ));
    assert!(
        matches!(
            error(&[0.0, f32::NAN], &[1]),
            SamplingError::NonFinite { token: 1, .. }
        ),
        "a ban does not hide a NaN"
    );
    assert_eq!(error(&[-INF; 3], &[]), nothing(3));
    assert_eq!(error(&[], &[]), nothing(0));
    assert_eq!(error(&[1.0, -INF], &[0]), nothing(2));
    assert_eq!(
        Sampler::new().token_logprobs(&[0.0], 1, 0).unwrap_err(),
        SamplingError::UnknownToken {
            token: 1,
            vocab_size: 1
        }
    );
}

#[test]
fn an_impossible_token_is_never_drawn_and_has_log_probability_minus_infinity() {
    let logits = [f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY, 0.0];
    let hot = SamplingParams {
        temperature: 1e9,
        ..Default::default()
    };
    let mut sampler = Sampler::new();
    for position in 0..1000 {
        assert!(sample(&logits, &hot, position) % 2 == 1);
    }
    let found = sampler.token_logprobs(&logits, 0, 0).unwrap();
    assert_eq!((found.logprob, found.rank), (f32::NEG_INFINITY, 3));
}
