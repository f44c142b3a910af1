//! Requests that come at once to a server that has nothing to do: what a machine is calibrated by.

use serde::{Deserialize, Serialize};

/// Requests that come at once to an idle server, none of which begins as another does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Burst {
    /// How many.
    pub users: u32,
    /// Tokens of each prompt.
    pub prompt_tokens: u32,
    /// Tokens of each answer.
    pub output_tokens: u32,
}

/// How long a server took for a burst.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ObservedBurst {
    /// What came.
    pub burst: Burst,
    /// Seconds until each user had a first token.
    pub first_tokens_seconds: f64,
    /// Seconds from there to the last token; 0 of answers of one token.
    pub answers_seconds: f64,
}
