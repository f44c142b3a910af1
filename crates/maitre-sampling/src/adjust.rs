//! What a request adds to and takes off the logits before the temperature: masks, bans, biases, penalties.
//!
//! A row is copied only when one of them is on.

use crate::{Exclusions, SamplingParams, TokenCounts};

/// Whether [`adjust`] would change anything.
pub(crate) fn is_needed(params: &SamplingParams, excluded: Exclusions<'_>) -> bool {
    !excluded.is_empty() || !params.logit_bias.is_empty() || params.uses_counts()
}

/// Applies mask, bans, biases and penalties to `row`. Tokens beyond the row are passed over: nothing can
/// draw them. An adjusted logit stays finite however large the penalty (it saturates), so a request
/// can't turn a sound row into one that looks broken.
pub(crate) fn adjust(
    row: &mut [f32],
    params: &SamplingParams,
    counts: &TokenCounts,
    excluded: Exclusions<'_>,
) {
    if let Some(mask) = excluded.mask {
        mask.apply(row);
    }
    for token in excluded.banned {
        if let Some(logit) = row.get_mut(*token as usize) {
            *logit = f32::NEG_INFINITY;
        }
    }
    for (token, bias) in &params.logit_bias {
        change(row, *token, |logit| logit + bias);
    }
    if params.uses_counts() {
        for (token, generated) in counts.iter() {
            change(row, token, |logit| penalised(logit, generated, params));
        }
    }
}

/// The logit of a token that is in the prompt or was generated `generated` times.
fn penalised(logit: f32, generated: u32, params: &SamplingParams) -> f32 {
    let repetition = params.repetition_penalty;
    let repeated = if logit > 0.0 {
        logit / repetition
    } else {
        logit * repetition
    };
    let presence = if generated > 0 {
        params.presence_penalty
    } else {
        0.0
    };
    repeated - params.frequency_penalty * generated as f32 - presence
}

/// Changes a possible token's logit and keeps it finite; an impossible one stays impossible.
fn change(row: &mut [f32], token: u32, with: impl FnOnce(f32) -> f32) {
    if let Some(logit) = row.get_mut(token as usize)
        && *logit > f32::NEG_INFINITY
    {
        *logit = with(*logit).clamp(f32::MIN, f32::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{HashMap, HashSet};

    /// The same as vLLM computes it: every token of the vocabulary, one step after the other.
    fn naive(
        logits: &[f32],
        params: &SamplingParams,
        prompt: &[u32],
        output: &[u32],
        banned: &[u32],
    ) -> Vec<f32> {
        let bias: HashMap<u32, f32> = params.logit_bias.iter().copied().collect();
        let present: HashSet<u32> = prompt.iter().chain(output).copied().collect();
        let adjust_one = |(token, logit): (u32, &f32)| {
            let mut logit = *logit;
            if banned.contains(&token) {
                return f32::NEG_INFINITY;
            }
            logit += bias.get(&token).unwrap_or(&0.0);
            if present.contains(&token) {
                let penalty = params.repetition_penalty;
                logit = if logit > 0.0 {
                    logit / penalty
                } else {
                    logit * penalty
                };
            }
            let generated = output.iter().filter(|other| **other == token).count() as f32;
            logit -= params.frequency_penalty * generated;
            logit
                - if generated > 0.0 {
                    params.presence_penalty
                } else {
                    0.0
                }
        };
        (0..).zip(logits).map(adjust_one).collect()
    }

    fn tokens(vocab: u32) -> impl Strategy<Value = Vec<u32>> {
        prop::collection::vec(0..vocab, 0..20)
    }

    proptest! {
        #[test]
        fn adjustments_are_what_a_walk_over_the_vocabulary_gives(
            logits in prop::collection::vec(
                prop_oneof![9 => -20.0..20.0_f32, 1 => Just(f32::NEG_INFINITY)], 30),
            (repetition_penalty, frequency_penalty, presence_penalty) in (
                prop_oneof![Just(1.0_f32), 0.5..2.0_f32],
                prop_oneof![Just(0.0_f32), -2.0..2.0_f32],
                prop_oneof![Just(0.0_f32), -2.0..2.0_f32]),
            bias in prop::collection::hash_map(0..30_u32, -100.0..100.0_f32, 0..5),
            (prompt, output) in (tokens(30), tokens(30)),
            banned in prop::collection::vec(0..30_u32, 0..4),
        ) {
            let params = SamplingParams {
                repetition_penalty,
                frequency_penalty,
                presence_penalty,
                logit_bias: bias.into_iter().collect(),
                ..Default::default()
            };
            let mut counts = TokenCounts::new(&prompt);
            output.iter().for_each(|token| counts.record(*token));
            let mut adjusted = logits.clone();
            adjust(&mut adjusted, &params, &counts, (&banned).into());
            let expected = naive(&logits, &params, &prompt, &output, &banned);
            prop_assert_eq!(&adjusted, &expected);
            if !is_needed(&params, (&banned).into()) {
                prop_assert_eq!(&logits, &expected);
            }
        }
    }

    #[test]
    fn no_penalty_makes_a_logit_infinite_and_no_bias_an_impossible_token_possible() {
        let params = SamplingParams {
            repetition_penalty: 1e-38,
            logit_bias: vec![(1, 100.0), (9, 1.0)],
            ..Default::default()
        };
        let mut row = [1e30, f32::NEG_INFINITY, 2.0];
        adjust(
            &mut row,
            &params,
            &TokenCounts::new(&[0, 1, 9]),
            (&[9]).into(),
        );
        assert_eq!(row, [f32::MAX, f32::NEG_INFINITY, 2.0]);
    }
}
