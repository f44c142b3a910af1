//! Failures on demand, for tests of what must survive them. A build without the feature `fault-injection` has none.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Backend, TensorError};

/// When a launch is to fail next.
#[derive(Debug, Clone, Default)]
pub(crate) struct LaunchFailure {
    /// Launches until it does; 0 is never.
    left: Arc<AtomicU64>,
}

impl LaunchFailure {
    /// Makes the launch after the next `launches` fail.
    fn after(&self, launches: u64) {
        self.left
            .store(launches.saturating_add(1), Ordering::Relaxed);
    }

    /// Counts a launch of `kernel`.
    ///
    /// # Errors
    /// [`TensorError::Device`] if it is the one that is to fail.
    pub(crate) fn count(&self, kernel: &'static str) -> Result<(), TensorError> {
        let count_down = |left: u64| left.checked_sub(1);
        let before = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, count_down);
        if before == Ok(1) {
            return Err(TensorError::Device {
                operation: kernel,
                message: "the launch was made to fail".to_owned(),
            });
        }
        Ok(())
    }
}

impl Backend {
    /// Makes a kernel launch fail, the one after the next `launches`: for tests of what must survive it. Does nothing
    /// on the processor.
    pub fn fail_launch_after(&self, launches: u64) {
        if let Some(device) = self.device() {
            device.turn().queue().failure().after(launches);
        }
    }

    /// Makes its GPU fail every call from now on as if it had lost what this process keeps on it
    /// ([`TensorError::DeviceLost`]): for tests of what must notice it. Does nothing on the processor.
    pub fn lose_device(&self) {
        if let Some(device) = self.device() {
            device.gpu().lose();
        }
    }
}
