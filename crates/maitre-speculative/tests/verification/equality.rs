//! Under coupling no draft changes anything: whatever is drafted, and however much at a time, the answer has the bits of
//! the one that was made token by token, and ends where that ends.

use maitre_sampling::{Sampled, Sampler, SamplingParams, TokenCounts};
use maitre_speculative::{Acceptance, Rules, Verified, Verifier};
use proptest::prelude::*;

use crate::cases::{case, steps};

/// Everything there is to know of an answer: each token with the bits of its log-probabilities.
fn bits(answer: &[Sampled]) -> Vec<(u32, Vec<u32>)> {
    let of_one = |sampled: &Sampled| {
        let logprobs = sampled.logprobs.iter().flat_map(|found| {
            let top = found.top.iter();
            let top = top.flat_map(|(token, logprob)| [*token, logprob.to_bits()]);
            [found.logprob.to_bits(), found.rank].into_iter().chain(top)
        });
        (sampled.token, logprobs.collect())
    };
    answer.iter().map(of_one).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn coupling_gives_the_answer_without_drafts(case in case(), steps in steps()) {
        let plain = case.plain();
        let speculated = case.speculated(&steps, &plain, Acceptance::Coupling);
        prop_assert_eq!(bits(&speculated), bits(&plain));
    }

    #[test]
    fn greedy_rejection_gives_the_answer_without_drafts(mut case in case(), steps in steps()) {
        case.params.temperature = 0.0;
        let plain = case.plain();
        let speculated = case.speculated(&steps, &plain, Acceptance::Rejection);
        prop_assert_eq!(bits(&speculated), bits(&plain));
    }

    /// What comes then is another answer, but one the rules allow, reported as the target's rows have it.
    #[test]
    fn rejection_keeps_to_the_rules(case in case(), steps in steps()) {
        let plain = case.plain();
        let speculated = case.speculated(&steps, &plain, Acceptance::Rejection);
        let tokens: Vec<u32> = speculated.iter().map(|sampled| sampled.token).collect();
        for (position, sampled) in speculated.iter().enumerate() {
            let (row, counts) = (case.row(&tokens[..position]), case.counts(&tokens[..position]));
            let rules = case.rules(&counts, position);
            let banned = rules.banned(position as u64);
            let mut sampler = Sampler::new();
            let possible = sampler.distribution(&row, &case.params, &counts, banned).unwrap();
            prop_assert!(possible.probability(sampled.token) > 0.0);
            let reported = case.params.logprobs.map(|k| sampler.token_logprobs(&row, sampled.token, k).unwrap());
            prop_assert_eq!(&sampled.logprobs, &reported);
            let last = position + 1 == speculated.len();
            prop_assert_eq!(rules.ends(position as u64, sampled.token), last);
        }
        let again = case.speculated(&steps, &plain, Acceptance::Rejection);
        prop_assert_eq!(bits(&again), bits(&speculated), "the same request, another answer");
    }

    /// A draft model that is the target is always right, by either rule.
    #[test]
    fn the_target_agrees_with_itself(case in case(), drafted in 0..6_usize, rejects: bool) {
        let acceptance = if rejects { Acceptance::Rejection } else { Acceptance::Coupling };
        let (mut sampler, mut drafts, mut text) = (Sampler::new(), Vec::new(), Vec::new());
        let own = case.counts(&[]);
        for position in 0..drafted {
            let (row, counts) = (case.row(&text), case.counts(&text));
            let rules = case.rules(&own, 0);
            let next = rules.draft(&mut sampler, (&row).into(), &counts, position as u64, acceptance).unwrap();
            text.push(next.token);
            drafts.push(next);
        }
        let Verified { tokens, accepted } = case.step(&mut sampler, &drafts, &[], None, acceptance);
        let ends = |(position, token): (u64, &u32)| case.rules(&own, 0).ends(position, *token);
        let end = (0..).zip(&text).position(ends);
        prop_assert_eq!(accepted, end.map_or(drafted, |at| at + 1));
        prop_assert_eq!(tokens.len(), end.map_or(drafted + 1, |at| at + 1));
    }
}

#[test]
fn a_row_behind_the_last_one_changes_nothing() {
    let (params, counts) = (SamplingParams::default(), TokenCounts::default());
    let rules = Rules {
        params: &params,
        counts: &counts,
        generated: 0,
        stop_tokens: &[],
        min_tokens: 0,
        max_tokens: 9,
        constraint: None,
    };
    let mut sampler = Sampler::new();
    let mut verifier = Verifier::new(rules, &[], Acceptance::default());
    assert!(!verifier.is_done());
    verifier.row(&mut sampler, (&[0.0, 1.0]).into()).unwrap();
    verifier.row(&mut sampler, (&[9.0, 1.0]).into()).unwrap();
    let Verified { tokens, accepted } = verifier.finish();
    let plain = sampler
        .sample(&[0.0, 1.0], &params, &counts, 0, &[])
        .unwrap();
    assert_eq!((tokens, accepted), (vec![plain], 0));

    let unseen = Verifier::new(rules, &[], Acceptance::default()).finish();
    assert_eq!((unseen.tokens, unseen.accepted), (vec![], 0));
}
