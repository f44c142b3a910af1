//! Where time comes from. An argument everywhere, so that tests decide how it passes.

use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

/// A clock that never goes back.
pub trait Clock: Sync {
    /// Time since some fixed moment.
    fn now(&self) -> Duration;

    /// Waits until then.
    fn sleep_until(&self, at: Duration) -> BoxFuture<'static, ()>;
}

/// How much earlier than wanted the runtime's timer is set: it has a resolution of 1 ms, and rounds up.
const EARLY: Duration = Duration::from_millis(2);

/// The system's monotonic clock, counted from its creation. It waits within a tokio runtime, to about a tenth of a millisecond.
#[derive(Debug, Clone)]
pub struct MonotonicClock {
    origin: Instant,
}

impl MonotonicClock {
    /// A clock that starts now.
    #[must_use]
    pub fn new() -> Self {
        Self {
            origin: Instant::now(),
        }
    }
}

impl Default for MonotonicClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for MonotonicClock {
    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn sleep_until(&self, at: Duration) -> BoxFuture<'static, ()> {
        let Some(at) = self.origin.checked_add(at) else {
            return std::future::pending().boxed();
        };
        async move {
            if let Some(early) = at.checked_sub(EARLY) {
                tokio::time::sleep_until(early.into()).await;
            }
            // What is left, the system's timer does: a thread waits for it, which costs no processor.
            let rest = move || std::thread::sleep(at.saturating_duration_since(Instant::now()));
            if Instant::now() < at {
                // It can't panic; where the runtime ends meanwhile, waiting has ended, too.
                let _ = tokio::task::spawn_blocking(rest).await;
            }
        }
        .boxed()
    }
}
