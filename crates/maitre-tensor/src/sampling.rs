//! What [`Backend::sample_rows`](crate::Backend::sample_rows) is asked and answers: the choice of a token where
//! its logits are.

use crate::Buffer;

/// Temperatures below this take the largest logit.
pub(crate) const GREEDY_BELOW: f32 = 1e-5;

/// Most tokens that a row may be chosen from: as many probabilities of 1 still have a sum in fixed point.
pub const MOST_CHOOSABLE: usize = 1 << 20;

/// How the token of one row is chosen. The steps are taken in this order:
///
/// 1. below a `temperature` of 10⁻⁵ the largest logit wins, the lowest id among equals, and nothing else counts;
///    otherwise it divides the logits;
/// 2. `min_p` keeps tokens at least so probable as a share of the most probable one;
/// 3. `top_k` keeps the k largest logits and whatever ties with the k-th, 0 keeps all;
/// 4. `top_p` keeps the fewest tokens that hold this share of what is left, at least one, the lowest ids first
///    among equals; 1 keeps all;
/// 5. of what is left, the token wins whose scaled logit plus Gumbel noise is largest, which is a draw from the
///    softmax. The noise is a function of seed, position and token (below).
///
/// ```text
/// words   = Philox4x32-10 of the counter [token / 4, position (low, high word), 0] under the key seed
/// bits    = words[token mod 4]
/// noise   = -ln(-ln((bits + 1/2) / 2^32))     in double precision, rounded to f32
/// ```
///
/// Philox is the generator of Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 4.3.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SampleRow {
    /// Divides the logits; finite and at least 0.
    pub temperature: f32,
    /// How many of the largest logits are kept.
    pub top_k: u32,
    /// Which share of the probability is kept, in (0, 1].
    pub top_p: f32,
    /// How probable a token must be, as a share of the most probable one, in [0, 1].
    pub min_p: f32,
    /// Which of all possible answers.
    pub seed: u64,
    /// How many tokens were generated before.
    pub position: u64,
}

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum SampledRow {
    /// Nothing was asked.
    #[default]
    Skipped,
    /// A token was chosen.
    Token {
        /// Its id.
        id: u32,
        /// The natural logarithm of its probability under the logits as they came: before temperature and
        /// truncation.
        logprob: f32,
    },
    /// A logit is NaN or +inf.
    NonFinite,
    /// All logits are -inf: no token is possible.
    NothingPossible,
}

/// Arguments of [`Backend::sample_rows`](crate::Backend::sample_rows).
#[derive(Debug)]
pub struct SampleRows<'a> {
    /// Logits, `[rows.len(), vocab]`.
    pub logits: &'a Buffer,
    /// Logits of a row.
    pub vocab: usize,
    /// Only the first so many tokens of a row exist; what the other logits are does not matter. At most 2^20.
    pub choosable: usize,
    /// What is asked of each row; `None` leaves a row alone.
    pub rows: &'a [Option<SampleRow>],
    /// What became of each row, as many as `rows`.
    pub out: &'a mut [SampledRow],
}
