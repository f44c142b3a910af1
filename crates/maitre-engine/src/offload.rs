//! Where work on a request is done that takes a core for a while: converting a large message, rendering a
//! chat template, tokenizing, reading a long prompt for the text that it ends in.
//!
//! The async workers carry every stream and answer every probe, so a request must not keep one for longer
//! than it takes to look at it. Work on a few KiB is done where it arrives. Anything larger, and whatever
//! runs a template (a program that the model brings along), goes to a blocking thread. There are as many at
//! a time as there are cores, and as many again for large requests: these wait for each other, and small
//! ones do not wait for them.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::EngineError;
use crate::machine::usable_cores;

/// Bytes up to which work on a request is done where it arrives.
const INLINE_BYTES: usize = 4 << 10;

/// Runs work away from the async workers, a bounded number at once. Clones share the bounds.
#[derive(Debug, Clone)]
pub struct Offload {
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

impl Offload {
    pub(crate) fn new() -> Self {
        Self::at_once(usable_cores().count)
    }

    fn at_once(limit: usize) -> Self {
        Self {
            small: Arc::new(Semaphore::new(limit)),
            large: Arc::new(Semaphore::new(limit)),
        }
    }

    /// Does `work` that goes through `bytes`: here if they are few, else on a blocking thread.
    ///
    /// # Errors
    ///
    /// [`EngineError::Failed`] if the work panicked or the runtime is shutting down.
    ///
    /// # Cancel safety
    ///
    /// Dropped while it waits for its turn, the work is not done; dropped later, its result is.
    pub async fn run<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, EngineError> {
        if bytes <= INLINE_BYTES {
            return Ok(work());
        }
        self.away(bytes, work).await
    }

    /// Does `work` that goes through `bytes` on a blocking thread, however few they are.
    pub(crate) async fn away<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, EngineError> {
        let permits = if bytes <= INLINE_BYTES {
            &self.small
        } else {
            &self.large
        };
        let permit = Arc::clone(permits)
            .acquire_owned()
            .await
            .map_err(|_| EngineError::Stopped)?;
        tokio::task::spawn_blocking(move || {
            // Dropped last, also by a panic.
            let _permit = permit;
            work()
        })
        .await
        .map_err(|failure| EngineError::Failed {
            message: failure.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::thread;

    #[tokio::test]
    async fn little_is_done_here_and_much_elsewhere() {
        let offload = Offload::at_once(1);
        let here = thread::current().id();
        let worker = || thread::current().id();
        assert_eq!(offload.run(INLINE_BYTES, worker).await.unwrap(), here);
        assert_ne!(offload.run(INLINE_BYTES + 1, worker).await.unwrap(), here);
        assert_ne!(offload.away(1, worker).await.unwrap(), here);
    }

    /// The one thread of this runtime goes on while large work blocks; more of it waits, small work does not.
    #[tokio::test]
    async fn the_worker_stays_free_and_large_work_waits_for_its_own_kind_alone() {
        let offload = Offload::at_once(1);
        let (release, released) = mpsc::channel::<()>();
        let (began, has_begun) = tokio::sync::oneshot::channel();
        let other = offload.clone();
        let blocked = tokio::spawn(async move {
            let work = move || {
                let _ = began.send(());
                released.recv().unwrap();
            };
            other.run(usize::MAX, work).await
        });
        has_begun.await.unwrap();
        assert_eq!(offload.large.available_permits(), 0);
        let second = tokio::spawn({
            let offload = offload.clone();
            async move { offload.run(usize::MAX, || 2).await }
        });
        assert_eq!(offload.away(1, || 1).await.unwrap(), 1);
        assert!(!second.is_finished());
        release.send(()).unwrap();
        blocked.await.unwrap().unwrap();
        assert_eq!(second.await.unwrap().unwrap(), 2);
    }

    #[tokio::test]
    async fn a_panic_is_the_works_own_and_gives_its_place_back() {
        let offload = Offload::at_once(1);
        let failed = offload.run(usize::MAX, || panic!("broken")).await;
        assert!(failed.unwrap_err().to_string().contains("panic"));
        assert_eq!(offload.run(usize::MAX, || 1).await.unwrap(), 1);
    }
}
