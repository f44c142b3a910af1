//! What can be wrong with a row of logits. Wrong parameters are [`InvalidParam`](crate::InvalidParam)s,
//! found before a request is queued; these errors come from the model and fail one row only.

/// Why no token could be drawn from a row, or no log-probability read off it.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SamplingError {
    /// The model computed something that is not a logit.
    #[error(
        "logit of token {token} is {logit}; expected a number or -inf: the model's weights or \
         activations overflowed, try a wider dtype"
    )]
    NonFinite {
        /// The first such token.
        token: u32,
        /// NaN or +inf.
        logit: f32,
    },
    /// No token is left to draw.
    #[error(
        "none of {vocab_size} tokens is possible: every logit is -inf; expected at least one that \
         neither the model nor the request rules out"
    )]
    NothingPossible {
        /// Length of the row.
        vocab_size: usize,
    },
    /// A log-probability was asked for a token the row does not have.
    #[error("token {token} has no logit; expected a token id below the row's length {vocab_size}")]
    UnknownToken {
        /// The token asked for.
        token: u32,
        /// Length of the row.
        vocab_size: usize,
    },
}
