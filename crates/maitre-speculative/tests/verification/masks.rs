//! Under a constraint: each row is chosen from under the mask of its own position, and where no mask is known the step
//! ends.

use maitre_sampling::{Exclusions, Sampler, SamplingParams, TokenCounts, TokenMask};
use maitre_speculative::{Acceptance, Allowed, Drafted, Rules, Verified, Verifier};
use proptest::prelude::*;

use crate::models::Hashed;

const VOCAB: usize = 12;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn each_row_is_chosen_from_under_its_own_mask(
        allowed in prop::collection::vec(prop::collection::vec(0..VOCAB as u32, 0..6), 1..5),
        wrong in prop::collection::vec(any::<bool>(), 4),
        temperature in prop_oneof![Just(0.0_f32), 0.5..2.0_f32],
        rejection: bool,
        seed: u64,
    ) {
        let acceptance = if rejection { Acceptance::Rejection } else { Acceptance::Coupling };
        let model = Hashed { vocab: VOCAB, spread: 1.0, seed };
        let params = SamplingParams { temperature, seed, ..Default::default() };
        let counts = TokenCounts::default();
        let masks: Vec<TokenMask> = allowed.iter().map(|tokens| {
            let mut mask = TokenMask::new(VOCAB);
            // Token 0 is never impossible in the toy's rows.
            tokens.iter().for_each(|token| mask.allow(*token));
            if !mask.is_empty() {
                mask.allow(0);
            }
            mask
        }).collect();
        prop_assume!(!masks[0].is_empty());
        // The answer, token by token, as far as masks allow any.
        let mut sampler = Sampler::new();
        let mut plain: Vec<u32> = Vec::new();
        for (position, mask) in (0..).zip(masks.iter().take_while(|mask| !mask.is_empty())) {
            let row = model.row(&plain);
            let excluded = Exclusions { mask: Some(mask), ..Default::default() };
            plain.push(sampler.choose(&row, &params, &counts, position, excluded).unwrap());
        }
        let guess = |(token, wrong): (&u32, &bool)| if *wrong { (token + 1) % VOCAB as u32 } else { *token };
        // Drafts may go beyond what masks are known of.
        let longer = plain.iter().chain([&3, &4]);
        let tokens: Vec<u32> = longer.zip(&wrong).map(guess).collect();
        let drafts: Vec<Drafted> = tokens.iter().map(|&token| Drafted { token, distribution: None }).collect();
        let rules = Rules {
            params: &params,
            counts: &counts,
            generated: 0,
            stop_tokens: &[],
            min_tokens: 0,
            max_tokens: 100,
            constraint: Some(Allowed { drafts: &tokens, forced: false, masks: &masks }),
        };
        let mut verifier = Verifier::new(rules, &drafts, acceptance);
        for at in 0..=drafts.len() {
            let row = model.row(&tokens[..at]);
            verifier.row(&mut sampler, (&row).into()).unwrap();
        }
        let Verified { tokens: found, accepted } = verifier.finish();
        let found: Vec<u32> = found.iter().map(|sampled| sampled.token).collect();
        prop_assert!(found.iter().zip(&masks).all(|(token, mask)| mask.allows(*token)));
        prop_assert!(!found.is_empty() && found.len() <= plain.len());
        if acceptance == Acceptance::Coupling || temperature == 0.0 {
            prop_assert_eq!(&found[..], &plain[..found.len()]);
            let right = plain.iter().zip(&tokens).take_while(|(a, b)| a == b).count();
            prop_assert_eq!(accepted, right.min(drafts.len()));
            prop_assert_eq!(found.len(), plain.len().min(right + 1));
        }
    }
}

#[test]
fn a_device_draws_for_no_sequence_with_a_constraint() {
    let (params, counts) = (SamplingParams::default(), TokenCounts::default());
    let rules = Rules {
        params: &params,
        counts: &counts,
        generated: 0,
        stop_tokens: &[],
        min_tokens: 0,
        max_tokens: 100,
        constraint: None,
    };
    assert!(rules.draw(0).is_some());
    let constraint = Some(Allowed::default());
    let constrained = Rules {
        constraint,
        ..rules
    };
    assert!(constrained.draw(0).is_none());
    assert!(rules.goes_on(5) && rules.allows(5, 1));
    assert!(!constrained.goes_on(0) && !constrained.allows(0, 1));
}
