//! Prefill and decode apart: some replicas compute prompts, others go on from the keys and values that come of them.
//!
//! A prompt goes to a prefill replica, by the fleet's routing, and gets its first token there. Then the decode replica with the
//! fewest requests takes it over: its scheduler admits it with blocks for all it knows, asks for the prompt's keys and values
//! over the link, and lets others run meanwhile. The decode replica computes nothing of the prompt, unless it preempts the request.
//! What a prefill replica has sent away is taken to stay there until it is fetched.

use crate::SimError;
use crate::error::check_positive;

/// How many replicas do what, and what is between them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Split {
    /// Replicas that compute prompts.
    pub prefill: usize,
    /// Replicas that compute the tokens behind the first one.
    pub decode: usize,
    /// Bytes a second over the link into a decode replica; its transfers take turns.
    pub link_bytes_per_second: f64,
}

impl Split {
    pub(super) fn validate(&self) -> Result<(), SimError> {
        for (what, replicas) in [
            ("the number of prefill replicas", self.prefill),
            ("the number of decode replicas", self.decode),
        ] {
            if replicas == 0 {
                return Err(SimError::setting(what, replicas, "at least 1"));
            }
        }
        check_positive("the rate of the link", self.link_bytes_per_second)
    }
}
