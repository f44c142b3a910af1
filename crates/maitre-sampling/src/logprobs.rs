//! Log-probabilities as the model gave them: the log-softmax of the raw logits, before penalties,
//! temperature and truncation, which is also vLLM's default.

use crate::{
    SamplingError,
    row::{Row, falling},
    softmax,
};

/// How probable a token was, and what else could have come.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogprobs {
    /// The token in question.
    pub token: u32,
    /// Its natural log-probability; -inf if the model ruled it out.
    pub logprob: f32,
    /// One for the most probable token: one more than the number of tokens with a greater logit.
    pub rank: u32,
    /// The most probable tokens with their log-probabilities, falling, lowest id first among equals.
    pub top: Vec<(u32, f32)>,
}

/// The log-probability of `token` and of the `k` most probable tokens.
pub(crate) fn token_logprobs(
    row: &mut Row<'_>,
    token: u32,
    k: u32,
) -> Result<TokenLogprobs, SamplingError> {
    let vocab_size = row.len();
    let unknown = SamplingError::UnknownToken { token, vocab_size };
    let logit = row.logit(token).ok_or(unknown)?;
    let max = f64::from(row.max());
    let log_mass = libm::log(softmax::mass(row, 1.0, f32::NEG_INFINITY));
    let logprob = |logit: f32| (f64::from(logit) - max - log_mass) as f32;

    let mut top = Vec::new();
    if k > 0 {
        let kth = row.kth_largest(k as usize);
        top.extend(row.tokens_from(kth));
        top.sort_unstable_by(|a, b| falling(*a, *b));
        top.truncate(k as usize);
        for (_, value) in &mut top {
            *value = logprob(*value);
        }
    }
    Ok(TokenLogprobs {
        token,
        logprob: logprob(logit),
        rank: 1 + row.count_above(logit),
        top,
    })
}
