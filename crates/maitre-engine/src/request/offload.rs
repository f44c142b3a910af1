//! Where work on a request is done that takes a core for a while: converting a large message, rendering a
//! chat template, tokenizing, reading a long prompt for the text that it ends in.
//!
//! The async workers carry every stream and answer every probe, so a request must not keep one for longer
//! than it takes to look at it. Work on a few hundred bytes is done where it arrives. Anything larger, and whatever
//! runs a template (a program that the model brings along), is done in one of three lanes, by its size, so that
//! small requests do not wait for large ones. A lane has threads of its own, a bounded number, with a lower
//! priority than those that compute answers, where the system has priorities of threads: a large request waits longer
//! for its own answer, and the answers of others go on.

use std::sync::Arc;

use rayon::{ThreadPool, ThreadPoolBuilder};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::EngineError;
use crate::start::machine::usable_cores;

/// Bytes up to which work on a request is done where it arrives: at most about 0.1 ms of tokenizing.
const INLINE_BYTES: usize = 512;
/// The most of the small lane: about a millisecond.
const SMALL_BYTES: usize = 8 << 10;
/// The most of the large lane: about 30 ms. More than a long context takes is usually refused.
const LARGE_BYTES: usize = 256 << 10;
/// Threads of the huge lane: a message of 4 MiB may take 300 MiB while it is taken apart.
const MOST_HUGE: usize = 4;
/// How far the priority of the lanes' threads lies below the usual one (`nice`). Linux gives a thread at 5 a third of
/// what one at 0 gets, and one at 10 a tenth.
const NICENESS: i32 = 5;
const HUGE_NICENESS: i32 = 10;

/// Runs work away from the async workers, a bounded number at once. Clones share the bounds.
#[derive(Debug, Clone)]
pub struct Offload {
    small: Lane,
    large: Lane,
    huge: Lane,
}

/// Some threads, and as many permits: what waits, waits as a future, which can be dropped.
#[derive(Debug, Clone)]
struct Lane {
    turns: Arc<Semaphore>,
    /// Of the threads that could be had; `None` where none could.
    threads: Option<Arc<ThreadPool>>,
}

impl Lane {
    fn new(name: &'static str, threads: usize, niceness: i32) -> Self {
        let built = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(move |number| format!("maitre-{name}-{number}"))
            .start_handler(move |_| lower_priority(niceness))
            // The caller hears of a panic by the end of its channel.
            .panic_handler(|_| {})
            .build();
        if let Err(error) = &built {
            tracing::warn!(%error, "no threads for {name} requests; they are worked on by others");
        }
        Self {
            turns: Arc::new(Semaphore::new(threads)),
            threads: built.ok().map(Arc::new),
        }
    }
}

impl Offload {
    pub(crate) fn new() -> Self {
        Self::at_once(limit())
    }

    /// Threads that the lanes of one engine have on this machine.
    #[must_use]
    pub fn threads() -> usize {
        2 * limit() + limit().min(MOST_HUGE)
    }

    /// So many at once in each lane.
    fn at_once(limit: usize) -> Self {
        Self {
            small: Lane::new("small", limit, NICENESS),
            large: Lane::new("large", limit, NICENESS),
            huge: Lane::new("huge", limit.min(MOST_HUGE), HUGE_NICENESS),
        }
    }

    /// Does `work` that goes through `bytes`: here if they are few, else on another thread.
    ///
    /// # Errors
    ///
    /// [`EngineError::Failed`] if the work panicked.
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

    /// Does `work` that goes through `bytes` on another thread, however few they are: whatever runs a chat template.
    ///
    /// # Errors
    ///
    /// [`EngineError::Failed`] if the work panicked.
    ///
    /// # Cancel safety
    ///
    /// As [`run`](Self::run).
    pub async fn away<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, EngineError> {
        let lane = if bytes <= SMALL_BYTES {
            &self.small
        } else if bytes <= LARGE_BYTES {
            &self.large
        } else {
            &self.huge
        };
        let turn = Arc::clone(&lane.turns).acquire_owned().await;
        let turn = turn.map_err(|_| EngineError::Stopped)?;
        let Some(threads) = &lane.threads else {
            let done = tokio::task::spawn_blocking(move || done(turn, work)).await;
            return done.map_err(failed);
        };
        let (answer, answered) = oneshot::channel();
        threads.spawn_fifo(move || {
            let _ = answer.send(done(turn, work));
        });
        answered.await.map_err(|_| failed("the work panicked"))
    }
}

/// Requests that a lane works on at a time.
fn limit() -> usize {
    usable_cores().count.div_ceil(2)
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
pub(crate) fn lower_priority(niceness: i32) {
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
            (1, (usual + NICENESS).min(19)),
            (LARGE_BYTES, (usual + NICENESS).min(19)),
            (LARGE_BYTES + 1, (usual + HUGE_NICENESS).min(19)),
        ] {
            let found = offload.away(bytes, niceness).await.unwrap();
            assert_eq!(found, expected, "{bytes}");
        }
        assert_eq!(getpriority_process(None).unwrap(), usual);
    }

    #[test]
    fn the_threads_of_all_lanes_are_counted() {
        let offload = Offload::new();
        let lanes = [&offload.small, &offload.large, &offload.huge];
        let started = lanes.map(|lane| lane.threads.as_ref().unwrap().current_num_threads());
        assert_eq!(started.iter().sum::<usize>(), Offload::threads());
        let turns = lanes.map(|lane| lane.turns.available_permits());
        assert_eq!(turns, started);
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
        assert_eq!(offload.huge.turns.available_permits(), 0);
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
