//! How often a draft is accepted: what either rule reaches on random pairs of distributions, against what is
//! known of it.

use maitre_sampling::{
    Distribution, Sampler, SamplingParams, TokenCounts,
    noise::{Noise, Purpose},
};
use maitre_speculative::{Acceptance, Drafted, Rules, Verifier};

/// Positions at which each pair is tried.
const DRAWS: u64 = 4_000;
const PAIRS: u64 = 100;
const VOCAB: u32 = 40;
/// Standard deviations that a share of 1.7·10⁻⁵ exceeds: one in six hundred whole runs of [`PAIRS`], had the
/// seeds been free.
const RARE: f64 = 4.3;

/// The logits of a target and of a draft that knows it, more or less.
fn pair(number: u64) -> (Vec<f32>, Vec<f32>) {
    let spread = 0.5 + (number % 5) as f32;
    let likeness = (number / 5 % 5) as f32 / 4.0;
    let logit = |seed, token| spread * Noise::target(seed, number).gumbel(token);
    let target: Vec<f32> = (0..VOCAB).map(|token| logit(u64::MAX, token)).collect();
    let mix = |(token, target): (u32, &f32)| {
        likeness * target + (1.0 - likeness) * logit(u64::MAX - 1, token)
    };
    let draft = (0..).zip(&target).map(mix).collect();
    (target, draft)
}

/// The rules of a sequence of which nothing is known but its seed.
fn rules<'a>(params: &'a SamplingParams, counts: &'a TokenCounts, generated: u64) -> Rules<'a> {
    Rules {
        params,
        counts,
        generated,
        stop_tokens: &[],
        min_tokens: 0,
        max_tokens: u64::MAX,
        constraint: None,
    }
}

/// The share of drafts that are accepted, of [`DRAWS`].
fn accepted(
    (target, draft): &(Vec<f32>, Vec<f32>),
    acceptance: Acceptance,
    guess: impl Fn(&mut Sampler, &Rules<'_>, &[f32]) -> Drafted,
) -> f64 {
    let params = SamplingParams {
        seed: 5,
        ..Default::default()
    };
    let (counts, mut sampler, mut accepted) = (TokenCounts::default(), Sampler::new(), 0);
    for position in 0..DRAWS {
        let rules = rules(&params, &counts, position);
        let drafts = [guess(&mut sampler, &rules, draft)];
        let mut verifier = Verifier::new(rules, &drafts, acceptance);
        verifier.row(&mut sampler, target.into()).unwrap();
        accepted += verifier.finish().accepted;
    }
    accepted as f64 / DRAWS as f64
}

/// Σ over the tokens of `by(p, q)`.
fn sum(p: &Distribution, q: &Distribution, by: impl Fn(f64, f64) -> f64) -> f64 {
    let both = |token| {
        (
            f64::from(p.probability(token)),
            f64::from(q.probability(token)),
        )
    };
    (0..VOCAB).map(both).map(|(p, q)| by(p, q)).sum()
}

/// The probability that two Gumbel races with the same noise have the same winner: token x wins the race of p and
/// that of q if, with E = e^-noise exponential, E_x is least of all E_y / max(p_y/p_x, q_y/q_x).
fn coupled(p: &Distribution, q: &Distribution) -> f64 {
    let wins_both = |p_x: f64, q_x: f64| 1.0 / sum(p, q, |p_y, q_y| (p_y / p_x).max(q_y / q_x));
    sum(p, q, |p_x, q_x| {
        if p_x > 0.0 && q_x > 0.0 {
            wins_both(p_x, q_x)
        } else {
            0.0
        }
    })
}

#[test]
fn drafts_are_accepted_as_often_as_theory_says() {
    let standard_error = |rate: f64| (rate * (1.0 - rate) / DRAWS as f64).sqrt().max(1e-3);
    let by_rules = |acceptance| {
        move |sampler: &mut Sampler, rules: &Rules<'_>, row: &[f32]| {
            let position = rules.generated;
            rules
                .draft(sampler, row.into(), rules.counts, position, acceptance)
                .unwrap()
        }
    };
    let mut means = [0.0; 3];
    for pair in (0..PAIRS).map(pair) {
        let (params, counts, mut sampler) = (
            SamplingParams::default(),
            TokenCounts::default(),
            Sampler::new(),
        );
        let mut distribution =
            |row: &[f32]| sampler.distribution(row, &params, &counts, &[]).unwrap();
        let (p, q) = (distribution(&pair.0), distribution(&pair.1));
        let apart = sum(&p, &q, |p, q| (p - q).abs()) / 2.0;
        let alone = |_: &mut Sampler, rules: &Rules<'_>, _: &[f32]| {
            let (seed, position) = (rules.params.seed, rules.generated);
            let token = q.draw(Noise {
                seed,
                position,
                purpose: Purpose::Draft,
            });
            Drafted {
                token,
                distribution: None,
            }
        };

        let coupling = accepted(&pair, Acceptance::Coupling, by_rules(Acceptance::Coupling));
        let rejection = accepted(
            &pair,
            Acceptance::Rejection,
            by_rules(Acceptance::Rejection),
        );
        let independent = accepted(&pair, Acceptance::Coupling, alone);
        for (name, found, expected) in [
            ("coupling", coupling, coupled(&p, &q)),
            ("rejection", rejection, 1.0 - apart),
            ("independent", independent, sum(&p, &q, |p, q| p * q)),
        ] {
            let off = (found - expected) / standard_error(expected);
            assert!(
                off.abs() < RARE,
                "{name}: {found:.4} for {expected:.4}, TV {apart:.3}"
            );
        }
        // Daliri et al. 2024: no pair of distributions is worse for Gumbel noise.
        let least = (1.0 - apart) / (1.0 + apart);
        let missing = (least - coupling) / standard_error(least);
        assert!(
            missing < RARE,
            "{coupling:.4} is below {least:.4}, TV {apart:.3}"
        );
        for (mean, rate) in means.iter_mut().zip([coupling, rejection, independent]) {
            *mean += rate / PAIRS as f64;
        }
    }
    let [coupling, rejection, independent] = means;
    assert!(independent < coupling && coupling <= rejection, "{means:?}");
    eprintln!(
        "accepted: coupling {coupling:.3}, rejection {rejection:.3}, independent {independent:.3}"
    );
}
