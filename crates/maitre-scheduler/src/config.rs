//! The limits a scheduler lives within.

use maitre_kv::KvConfig;

use crate::SchedulerError;

/// Limits of one scheduler. All of them are hard: no plan exceeds them, nothing grows beyond them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchedulerConfig {
    /// Requests that run at the same time, and so spans per step.
    pub max_seqs: usize,
    /// Token budget of one step, over all its spans. At least `max_seqs`, so that every decoding
    /// request gets its token in every step.
    pub max_batched_tokens: usize,
    /// Waiting requests beyond which new ones are refused. Preempted requests wait too and count.
    pub max_queue: usize,
    /// Longest sequence, prompt and output together, in tokens.
    pub max_model_len: usize,
    /// Size of the KV pool.
    pub kv: KvConfig,
}

impl SchedulerConfig {
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
        if self.max_queue == 0 {
            return Err(SchedulerError::ZeroMaxQueue);
        }
        if self.max_model_len < 2 {
            return Err(SchedulerError::MaxModelLenTooSmall {
                max_model_len: self.max_model_len,
            });
        }
        Ok(())
    }
}
