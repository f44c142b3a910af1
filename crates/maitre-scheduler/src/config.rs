//! The limits a scheduler lives within.

use maitre_kv::{Ahead, KvConfig};

use crate::{PolicyKind, SchedulerError, Time};

/// Limits of one scheduler. All of them are hard: no plan exceeds them. How many requests may wait is bounded
/// before they come here, by a [`BoundedQueue`](crate::queue::BoundedQueue).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchedulerConfig {
    /// Requests that run at the same time, and so spans per step. Those that await blocks count.
    pub max_seqs: usize,
    /// Token budget of one step, over all its spans. At least `max_seqs`, so that every decoding
    /// request gets its token in every step.
    pub max_batched_tokens: usize,
    /// Longest sequence, prompt and output together, in tokens.
    pub max_model_len: usize,
    /// Which request is admitted first.
    pub policy: PolicyKind,
    /// Among equals, those with the longest cached prefix are admitted first, until one of them has
    /// waited this long; zero leaves them in the order of their arrival.
    pub reorder_within: Time,
    /// Steps with decodes in them get only as many prompt tokens as let them end within this time, by
    /// the cost of the steps before; `None` gives them the whole budget.
    pub itl_target: Option<Time>,
    /// Steps that may be planned and not committed, at least 1. With more than one, the next steps are planned
    /// and prepared while one runs.
    pub steps_in_flight: usize,
    /// Size of the KV pool.
    pub kv: KvConfig,
}

impl SchedulerConfig {
    /// First come, first served, within these limits, with two steps in flight.
    pub fn new(
        max_seqs: usize,
        max_batched_tokens: usize,
        max_model_len: usize,
        kv: KvConfig,
    ) -> Self {
        Self {
            max_seqs,
            max_batched_tokens,
            max_model_len,
            policy: PolicyKind::Fcfs,
            reorder_within: Time::from_secs(1),
            itl_target: None,
            steps_in_flight: 2,
            kv,
        }
    }

    /// What steps in flight compute of one request at most: a group that forgets has to hold that beside what is read.
    pub fn ahead(&self) -> Ahead {
        Ahead {
            positions: self.max_batched_tokens.saturating_mul(self.steps_in_flight),
            steps: self.steps_in_flight,
        }
    }

    /// Tokens of the longest sequence that the KV pool holds; `usize::MAX` if it holds any.
    pub fn capacity_tokens(&self) -> usize {
        self.kv.longest_sequence(self.ahead())
    }

    /// Checks that a scheduler with these limits can make progress.
    ///
    /// # Errors
    ///
    /// One [`SchedulerError`] per impossible limit; the first one found.
    pub fn validate(&self) -> Result<(), SchedulerError> {
        self.kv.validate()?;
        if self.max_seqs == 0 {
            return Err(SchedulerError::ZeroMaxSeqs);
        }
        if self.max_batched_tokens < self.max_seqs {
            return Err(SchedulerError::BudgetBelowMaxSeqs {
                max_batched_tokens: self.max_batched_tokens,
                max_seqs: self.max_seqs,
            });
        }
        if self.itl_target == Some(Time::ZERO) {
            return Err(SchedulerError::ZeroItlTarget);
        }
        if self.steps_in_flight == 0 {
            return Err(SchedulerError::ZeroStepsInFlight);
        }
        if self.max_model_len < 2 {
            return Err(SchedulerError::MaxModelLenTooSmall {
                max_model_len: self.max_model_len,
            });
        }
        Ok(())
    }
}
