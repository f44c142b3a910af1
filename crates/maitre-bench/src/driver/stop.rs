//! Ends a measurement early, with what there is so far.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Ends a measurement early. Clones are handles to the same.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    is_set: AtomicBool,
    notify: Notify,
}

impl Stop {
    /// Ends it: requests under way are dropped and counted as unfinished.
    pub fn stop(&self) {
        self.0.is_set.store(true, Ordering::SeqCst);
        self.0.notify.notify_waiters();
    }

    /// Whether it was ended.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.is_set.load(Ordering::SeqCst)
    }

    /// Waits for it.
    pub(crate) async fn stopped(&self) {
        // A stop between the two lines wakes it, since it is told from its making on.
        let told = self.0.notify.notified();
        if !self.is_stopped() {
            told.await;
        }
    }
}
