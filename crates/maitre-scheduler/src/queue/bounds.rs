//! What bounds the queue, and what a request has to say of itself to join it.

use crate::policy::QueueOrder;
use crate::{SchedulerError, TenantId, Time};

/// The bounds of a [`BoundedQueue`](super::BoundedQueue).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueBounds {
    /// Sequences that may wait, preempted ones among them.
    pub max_queue: usize,
    /// Prompt tokens of the sequences that wait for their first step. A single request may have more.
    pub max_queued_tokens: usize,
    /// The longest wait for the first step, where `order` allows an estimate; `None` sets no limit.
    pub max_wait: Option<Time>,
    /// The order of the policy that admits from the queue ([`Policy::queue_order`](crate::Policy::queue_order)).
    pub order: QueueOrder,
}

impl QueueBounds {
    /// Checks that a request can join the queue.
    ///
    /// # Errors
    ///
    /// [`SchedulerError::ZeroMaxQueue`] if no place, or no token, may wait.
    pub fn validate(&self) -> Result<(), SchedulerError> {
        match self.max_queue.min(self.max_queued_tokens) {
            0 => Err(SchedulerError::ZeroMaxQueue),
            _ => Ok(()),
        }
    }
}

/// A request that wants to join the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Newcomer {
    /// How many answers it wants: each waits as a sequence of its own.
    pub sequences: usize,
    /// Tokens of its prompt, which each of its sequences has.
    pub prompt_tokens: usize,
    /// On whose account it runs.
    pub tenant: TenantId,
    /// How long it is ready to wait for its first step.
    pub queue_timeout: Option<Time>,
}

/// What one tenant, one request or all tenants together have in the queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) places: usize,
    pub(super) tokens: usize,
}

impl Share {
    pub(super) fn of(newcomer: &Newcomer) -> Self {
        Self {
            places: newcomer.sequences,
            tokens: newcomer.sequences.saturating_mul(newcomer.prompt_tokens),
        }
    }

    /// One sequence more, of so many prompt tokens.
    pub(super) fn add(&mut self, tokens: usize) {
        self.places += 1;
        self.tokens += tokens;
    }

    /// One sequence fewer.
    pub(super) fn remove(&mut self, tokens: usize) {
        self.places -= 1;
        self.tokens -= tokens;
    }
}
