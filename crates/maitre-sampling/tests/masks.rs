//! A mask does what a bias of -inf on all other tokens would do, bit for bit.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use maitre_sampling::{Exclusions, Sampler, SamplingError, SamplingParams, TokenCounts, TokenMask};
use proptest::prelude::*;

fn params() -> impl Strategy<Value = SamplingParams> {
    let temperature = prop_oneof![Just(0.0_f32), Just(1.0_f32), 0.05..3.0_f32];
    let top_p = prop_oneof![Just(1.0_f32), 0.01..1.0_f32];
    let top_k = prop_oneof![Just(0_u32), 1..12_u32, 1..500_u32];
    let min_p = prop_oneof![Just(0.0_f32), 0.0..0.5_f32];
    let penalties = (0.5..2.0_f32, -2.0..2.0_f32);
    (temperature, top_p, top_k, min_p, penalties, any::<u64>()).prop_map(
        |(temperature, top_p, top_k, min_p, (repetition_penalty, presence_penalty), seed)| {
            SamplingParams {
                temperature,
                top_p,
                top_k,
                min_p,
                repetition_penalty,
                presence_penalty,
                seed,
                logprobs: Some(3),
                ..Default::default()
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_mask_is_a_bias_of_minus_infinity_on_the_others(
        logits in prop::collection::vec(prop_oneof![9 => -9.0..9.0_f32, 1 => Just(f32::NEG_INFINITY)], 1..300),
        allowed in prop::collection::vec(0..300_u32, 0..40),
        banned in prop::collection::vec(0..300_u32, 0..5),
        all: bool,
        params in params(),
        position: u64,
    ) {
        let mut mask = TokenMask::new(logits.len());
        if all {
            mask.allow_all();
        }
        allowed.iter().for_each(|token| mask.allow(*token));
        let others = (0..logits.len() as u32).filter(|token| !mask.allows(*token));
        let biased: Vec<f32> = (0..).zip(&logits)
            .map(|(token, logit)| if mask.allows(token) { *logit } else { f32::NEG_INFINITY })
            .collect();
        let others: Vec<u32> = others.chain(banned.iter().copied()).collect();
        let counts = TokenCounts::new(&[1, 2, 3]);
        let masked = Exclusions { banned: &banned, mask: Some(&mask) };
        let mut sampler = Sampler::new();
        let found = sampler.sample(&logits, &params, &counts, position, masked);
        // The row as if the others had a bias of -inf, and with a list of them.
        let expected = sampler.choose(&biased, &params, &counts, position, &banned);
        let listed = sampler.sample(&logits, &params, &counts, position, &others);
        prop_assert_eq!(found.as_ref().ok().map(|it| it.token), expected.ok());
        match &found {
            Ok(found) => {
                prop_assert!(mask.allows(found.token) && !banned.contains(&found.token));
                prop_assert_eq!(Ok(found), listed.as_ref(), "log-probabilities are of the row as it came");
            }
            Err(error) => {
                let impossible = matches!(error, SamplingError::NothingPossible { .. });
                prop_assert!(impossible, "{}", error);
            }
        }
        let distribution = sampler.distribution(&logits, &params, &counts, masked);
        let expected = sampler.distribution(&logits, &params, &counts, &others);
        prop_assert_eq!(distribution.ok(), expected.ok());
    }
}

#[test]
fn a_mask_does_not_hide_a_broken_row() {
    let mut mask = TokenMask::new(3);
    mask.allow(0);
    let masked = Exclusions {
        mask: Some(&mask),
        ..Exclusions::default()
    };
    let found = Sampler::new().sample(
        &[0.0, f32::NAN, 1.0],
        &SamplingParams::default(),
        &TokenCounts::default(),
        0,
        masked,
    );
    assert!(matches!(
        found,
        Err(SamplingError::NonFinite { token: 1, .. })
    ));
}
