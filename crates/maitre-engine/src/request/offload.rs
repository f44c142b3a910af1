//! Where work on a request is done that takes a core for a while: converting a large message, rendering a
//! chat template, tokenizing, reading a long prompt for the text that it ends in.
//!
//! The async workers carry every stream and answer every probe, so a request must not keep one for longer
//! than it takes to look at it. Work on a few KiB is done where it arrives. Anything larger, and whatever
//! runs a template (a program that the model brings along), is done on another thread. Each of three lanes has
//! a bounded number of them, so that small requests do not wait for large ones. The threads of the large lanes
//! have a lower priority than those that compute answers, where the system has priorities of threads: a
//! large request waits longer for its own answer, and the answers of others go on.

use std::sync::Arc;
use std::thread;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::EngineError;
use crate::start::machine::usable_cores;

/// Bytes up to which work on a request is done where it arrives, and the most of the small lane.
const INLINE_BYTES: usize = 4 << 10;
/// The most of the large lane: about 30 ms of tokenizing. More than a long context takes is usually refused.
const LARGE_BYTES: usize = 256 << 10;
/// How far the priority of the large lanes' threads lies below the usual one (`nice`). Linux gives a thread at 5 a
/// third of what one at 0 gets, and one at 10 a tenth.
const LARGE_NICENESS: i32 = 5;
const HUGE_NICENESS: i32 = 10;

/// Runs work away from the async workers, a bounded number at once. Clones share the bounds.
#[derive(Debug, Clone)]
pub struct Offload {
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
    huge: Arc<Semaphore>,
}

impl Offload {
    pub(crate) fn new() -> Self {
        Self::at_once(usable_cores().count)
    }

    /// `limit` small ones, and half as many large and huge ones.
    fn at_once(limit: usize) -> Self {
        let half = limit.div_ceil(2);
        Self {
            small: Arc::new(Semaphore::new(limit)),
            large: Arc::new(Semaphore::new(half)),
            huge: Arc::new(Semaphore::new(half)),
        }
    }

    /// Does `work` that goes through `bytes`: here if they are few, else on another thread.
    ///
    /// # Errors
    ///
    /// [`EngineError::Failed`] if the work panicked or no thread could be had.
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

    /// Does `work` that goes through `bytes` on another thread, however few they are.
    pub(crate) async fn away<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, EngineError> {
        if bytes <= INLINE_BYTES {
            let permit = turn(&self.small).await?;
            let work = move || done(permit, work);
            return tokio::task::spawn_blocking(work).await.map_err(failed);
        }
        let (lane, niceness) = match bytes {
            ..=LARGE_BYTES => (&self.large, LARGE_NICENESS),
            _ => (&self.huge, HUGE_NICENESS),
        };
        let permit = turn(lane).await?;
        let (answer, answered) = oneshot::channel();
        // A thread that has lowered its priority may not raise it again, so it is not used for anything else.
        let thread = thread::Builder::new().name("maitre-offload".to_owned());
        let spawned = thread.spawn(move || {
            lower_priority(niceness);
            let _ = answer.send(done(permit, work));
        });
        spawned.map_err(failed)?;
        answered.await.map_err(|_| failed("the work panicked"))
    }
}

/// Waits for a place in a lane.
async fn turn(lane: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, EngineError> {
    let turn = Arc::clone(lane).acquire_owned().await;
    turn.map_err(|_| EngineError::Stopped)
}

/// Does the work. The permit is given back after it, also by a panic.
fn done<T>(permit: OwnedSemaphorePermit, work: impl FnOnce() -> T) -> T {
    let _permit = permit;
    work()
}

fn failed(why: impl ToString) -> EngineError {
    EngineError::Failed {
        message: why.to_string(),
    }
}

/// Lowers the priority of this thread. Where threads have none of their own, this does nothing.
fn lower_priority(niceness: i32) {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::getpriority_process(None)
        .and_then(|usual| rustix::process::setpriority_process(None, usual + niceness))
    {
        tracing::debug!(%error, "the priority of a thread could not be lowered");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = niceness;
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
        assert_ne!(offload.run(LARGE_BYTES + 1, worker).await.unwrap(), here);
        assert_ne!(offload.away(1, worker).await.unwrap(), here);
    }

    /// The priority is that of the thread that works, and of no other.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_larger_the_work_the_lower_its_priority() {
        use rustix::process::getpriority_process;

        let usual = getpriority_process(None).unwrap();
        let offload = Offload::at_once(1);
        let niceness = || getpriority_process(None).unwrap();
        for (bytes, expected) in [
            (1, usual),
            (LARGE_BYTES, (usual + LARGE_NICENESS).min(19)),
            (LARGE_BYTES + 1, (usual + HUGE_NICENESS).min(19)),
            (INLINE_BYTES, usual),
        ] {
            let found = offload.away(bytes, niceness).await.unwrap();
            assert_eq!(found, expected, "{bytes}");
        }
        assert_eq!(getpriority_process(None).unwrap(), usual);
    }

    /// The one thread of this runtime goes on while large work blocks; more of it waits, small work does not.
    #[tokio::test]
    async fn the_worker_stays_free_and_large_work_waits_for_its_own_kind_alone() {
        let offload = Offload::at_once(1);
        let (release, released) = mpsc::channel::<()>();
        let (began, has_begun) = oneshot::channel();
        let other = offload.clone();
        let blocked = tokio::spawn(async move {
            let work = move || {
                let _ = began.send(());
                released.recv().unwrap();
            };
            other.run(usize::MAX, work).await
        });
        has_begun.await.unwrap();
        assert_eq!(offload.huge.available_permits(), 0);
        let second = tokio::spawn({
            let offload = offload.clone();
            async move { offload.run(usize::MAX, || 2).await }
        });
        assert_eq!(offload.away(1, || 1).await.unwrap(), 1);
        assert_eq!(offload.away(LARGE_BYTES, || 1).await.unwrap(), 1);
        assert!(!second.is_finished());
        release.send(()).unwrap();
        blocked.await.unwrap().unwrap();
        assert_eq!(second.await.unwrap().unwrap(), 2);
    }

    #[tokio::test]
    async fn a_panic_is_the_works_own_and_gives_its_place_back() {
        let offload = Offload::at_once(1);
        for bytes in [1, LARGE_BYTES, usize::MAX] {
            let failed = offload.away(bytes, || panic!("broken")).await;
            assert!(failed.unwrap_err().to_string().contains("panic"));
            assert_eq!(offload.away(bytes, || 1).await.unwrap(), 1);
        }
    }
}
