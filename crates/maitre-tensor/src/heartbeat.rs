//! [`Heartbeat`]: evidence that the compute thread makes progress inside a long step.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A counter shared between the thread that computes and those that watch it.
///
/// It advances once per operator, not once per step: a long prefill step keeps it moving, a hung
/// kernel does not.
#[derive(Debug, Clone, Default)]
pub struct Heartbeat(Arc<AtomicU64>);

impl Heartbeat {
    /// Counts one more sign of life.
    pub fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Signs of life so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
