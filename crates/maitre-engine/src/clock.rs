//! The engine's clock.

use std::fmt::Debug;
use std::time::Instant;

use maitre_scheduler::Time;

/// Tells the time to the step loop, counted from some moment before the engine's start. It never goes back.
///
/// A simulation brings a clock of its own and has a whole engine run in simulated time.
pub trait Clock: Debug + Send + Sync {
    /// The time now.
    fn now(&self) -> Time;
}

/// The system's monotonic clock, from its making on.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock(Instant);

impl SystemClock {
    /// A clock that begins at zero.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Time {
        self.0.elapsed()
    }
}
