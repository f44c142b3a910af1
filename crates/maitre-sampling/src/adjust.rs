//! What a request adds to and takes off the logits before the temperature: bans, biases, penalties.
//!
//! All of them touch few tokens, so a row is copied only when one of them is on.

use crate::{SamplingParams, TokenCounts};

/// Whether [`adjust`] would change anything.
pub(crate) fn is_needed(params: &SamplingParams, banned: &[u32]) -> bool {
    !banned.is_empty() || !params.logit_bias.is_empty() || has_penalty(params)
}

/// Applies bans, biases and penalties to `row`. Tokens beyond the row are passed over: nothing can
/// draw them. An adjusted logit stays finite however large the penalty (it saturates), so a request
/// can't turn a sound row into one that looks broken.
pub(crate) fn adjust(
    row: &mut [f32],
    params: &SamplingParams,
    counts: &TokenCounts,
    banned: &[u32],
) {
    for token in banned {
        if let Some(logit) = row.get_mut(*token as usize) {
            *logit = f32::NEG_INFINITY;
        }
    }
    for (token, bias) in &params.logit_bias {
        change(row, *token, |logit| logit + bias);
    }
    if has_penalty(params) {
        for (token, generated) in counts.iter() {
            change(row, token, |logit| penalised(logit, generated, params));
        }
    }
}

fn has_penalty(params: &SamplingParams) -> bool {
    params.repetition_penalty != 1.0
        || params.frequency_penalty != 0.0
        || params.presence_penalty != 0.0
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
