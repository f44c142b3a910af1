//! Why a request may not join the queue now, and when it may be worth another try.

use std::fmt;

use crate::Time;

/// Why a request was refused a place in the queue. A later try can cure each of these; none leaves a trace in
/// the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueueRefusal {
    /// There are too few places.
    #[error(
        "{waiting} sequences wait and the request brings {new}, but the limit is {limit}; try again in {} ms",
        retry_after.as_millis()
    )]
    Full {
        /// Sequences that wait, preempted ones among them.
        waiting: usize,
        /// Sequences of the request.
        new: usize,
        /// [`QueueBounds::max_queue`](super::QueueBounds::max_queue).
        limit: usize,
        /// When so many places should be free, at the recent rate.
        retry_after: Time,
    },
    /// Too many prompt tokens wait.
    #[error(
        "{waiting} prompt tokens wait and the request brings {new}, but the limit is {limit}; try again in {} ms",
        retry_after.as_millis()
    )]
    TokensFull {
        /// Prompt tokens that wait.
        waiting: usize,
        /// Prompt tokens of the request, over all its sequences.
        new: usize,
        /// [`QueueBounds::max_queued_tokens`](super::QueueBounds::max_queued_tokens).
        limit: usize,
        /// When there should be space, at the recent rate.
        retry_after: Time,
    },
    /// The service is shared between tenants, and this one has its share of the queue.
    #[error(
        "the tenant has {own} {unit} waiting and the request brings {new}, but {free} are left for all tenants; try \
         again in {} ms",
        retry_after.as_millis()
    )]
    TenantFull {
        /// What the tenant has in the queue.
        own: usize,
        /// What the request brings.
        new: usize,
        /// What is free. A tenant may not hold more than that.
        free: usize,
        /// What is counted.
        unit: QueueUnit,
        /// When there should be space, at the recent rate.
        retry_after: Time,
    },
    /// The request would wait for its first step longer than it may.
    #[error(
        "the request would wait about {} ms for its first step, but {limited_by} allows {} ms; try again in {} ms",
        estimate.as_millis(),
        limit.as_millis(),
        retry_after.as_millis()
    )]
    WaitTooLong {
        /// How long it would wait at the recent rate.
        estimate: Time,
        /// How long it may wait.
        limit: Time,
        /// What sets the limit.
        limited_by: WaitLimit,
        /// When the wait should be short enough.
        retry_after: Time,
    },
}

impl QueueRefusal {
    /// The time after which another try is worth it, at the recent rate: 50 ms to 30 s.
    pub fn retry_after(&self) -> Time {
        match *self {
            Self::Full { retry_after, .. }
            | Self::TokensFull { retry_after, .. }
            | Self::TenantFull { retry_after, .. }
            | Self::WaitTooLong { retry_after, .. } => retry_after,
        }
    }
}

/// What a bound of the queue counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueUnit {
    /// Sequences.
    Sequences,
    /// Tokens of their prompts.
    PromptTokens,
}

impl QueueUnit {
    /// Its name in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sequences => "sequences",
            Self::PromptTokens => "prompt tokens",
        }
    }
}

impl fmt::Display for QueueUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What limits the wait of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitLimit {
    /// [`QueueBounds::max_wait`](super::QueueBounds::max_wait), which is the same for all requests.
    Queue,
    /// Its own [`Newcomer::queue_timeout`](super::Newcomer::queue_timeout).
    QueueTimeout,
}

impl fmt::Display for WaitLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Queue => "the queue",
            Self::QueueTimeout => "its queue_timeout",
        })
    }
}
