//! This crate turns a row of logits into a token: it defines what each sampling parameter means.
//!
//! ```
//! use maitre_sampling::{Sampler, SamplingParams, TokenCounts};
//!
//! let logits = [0.5, 3.0, -1.0, 2.5];
//! let params = SamplingParams { temperature: 0.8, top_k: 2, seed: 7, ..Default::default() };
//! assert!(params.validate(logits.len()).is_empty());
//!
//! let prompt = TokenCounts::new(&[0, 2]);
//! let sampled = Sampler::new().sample(&logits, &params, &prompt, 0, &[])?;
//! assert!([1, 3].contains(&sampled.token));
//! # Ok::<(), maitre_sampling::SamplingError>(())
//! ```
//!
//! # The order of the steps
//!
//! vLLM's order, so that a request means the same here:
//!
//! 1. log-probabilities, if asked for, are read off the raw logits;
//! 2. banned tokens (those `min_tokens` holds back) and those that a constraint's [`TokenMask`] does not allow become
//!    impossible, `logit_bias` is added;
//! 3. penalties: repetition over prompt and output, then frequency and presence over the output;
//! 4. `temperature` divides; below [`GREEDY_BELOW`] the largest logit wins and nothing else matters;
//! 5. `min_p` keeps tokens at least so probable as a share of the most probable one;
//! 6. `top_k` keeps the k largest logits and whatever ties with the k-th;
//! 7. `top_p` keeps the fewest tokens that hold this share of what 5 and 6 left, at least one;
//! 8. one of the tokens left is drawn by its probability.
//!
//! # How a token is drawn
//!
//! By the Gumbel-max trick: the token with the largest `logit / temperature + noise` is a draw from
//! the softmax. The [`noise`] is a pure function of (seed, output position, token), which makes a
//! draw independent of the batch, of earlier draws and of which tokens were considered: the same
//! request gives the same tokens wherever and however often it runs. Other decisions about a token
//! have noise of their own [`Purpose`](noise::Purpose), and can ask for the [`Distribution`] that step 8 draws
//! from.
//!
//! **Architecture invariant:** this crate knows no devices and no batches: one row goes in, one token
//! comes out. It keeps no state between rows but scratch memory, reads no clock and draws on no source
//! of randomness but the seed. It is the reference for any sampling kernel, so its results depend on no
//! platform's mathematics library either.

mod adjust;
mod constraint;
mod counts;
mod distribution;
mod error;
mod exclusions;
mod logprobs;
mod mask;
pub mod noise;
mod nucleus;
mod params;
mod row;
mod sampler;
mod softmax;

pub use constraint::{Constraint, ConstraintSource};
pub use counts::TokenCounts;
pub use distribution::Distribution;
pub use error::SamplingError;
pub use exclusions::Exclusions;
pub use logprobs::TokenLogprobs;
pub use mask::TokenMask;
pub use params::{
    GREEDY_BELOW, InvalidParam, MAX_ABS_LOGIT_BIAS, MAX_ABS_PENALTY, MAX_LOGIT_BIAS, MAX_LOGPROBS,
    SamplingParams,
};
pub use row::{BLOCK, Logits};
pub use sampler::{Sampled, Sampler};
