//! How a job reaches the workers of a team, and how its leader knows that they are done with it.
//!
//! A worker must go in through the gate before it may look at the job. The leader opens the gate
//! when the job is there and shuts it when no tile is left; from then on no worker goes in, and
//! when the last one inside has left, the job's closure may end. A worker that never went in, because
//! it slept or was descheduled, is not waited for.

use std::any::Any;
use std::cell::UnsafeCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use super::Scratch;

/// How long a member waits awake. Longer than the gap between two operators (a few microseconds),
/// and about what it costs to wake a sleeper, so that waiting never more than doubles either.
const SPIN: Duration = Duration::from_micros(30);

/// State bit: members may go in.
const OPEN: u64 = 1 << 31;
/// State bits: how many members are inside.
const INSIDE: u64 = OPEN - 1;

/// What the leader and the workers share.
pub(super) struct Gate {
    /// Generation of the job (upper half), [`OPEN`], and the number of members [`INSIDE`].
    state: AtomicU64,
    /// Written by the leader while the gate is shut and no member is inside; read by members inside.
    job: UnsafeCell<Option<Job>>,
    /// The next tile to claim.
    next: OwnLine,
    /// Workers that sleep or are about to.
    sleepers: AtomicUsize,
    /// Steps under way.
    steps: AtomicUsize,
    /// Set when the team ends.
    stop: AtomicBool,
    /// The first panic of the current job.
    panic: Mutex<Option<String>>,
}

/// Keeps the counter that every member writes out of the cache lines that all of them poll.
#[derive(Default)]
#[repr(align(128))]
struct OwnLine(AtomicUsize);

/// A closure whose type and lifetime are erased.
#[derive(Clone)]
struct Job {
    task: *const (),
    /// Calls `task` as what it was.
    call: unsafe fn(*const (), usize, &mut Scratch),
    tiles: usize,
    /// Woken by the last member to leave.
    leader: Thread,
}

// SAFETY: the only field that is not thread-safe by itself is `job`. The pointer in it refers to a
// `Sync` closure, and the gate orders the accesses to it as the field's comment says.
unsafe impl Sync for Gate {}
// SAFETY: as above; a job is not tied to the thread that made it.
unsafe impl Send for Gate {}

impl Gate {
    pub(super) fn new() -> Self {
        Self {
            state: AtomicU64::new(0),
            job: UnsafeCell::new(None),
            next: OwnLine::default(),
            sleepers: AtomicUsize::new(0),
            steps: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            panic: Mutex::new(None),
        }
    }

    /// Calls `task` once with each number below `tiles`, on this thread and on the workers that
    /// come. Returns the first panic; numbers that were not claimed by then are skipped.
    ///
    /// # Safety
    ///
    /// No two threads are in this function at the same time.
    pub(super) unsafe fn lead<F>(
        &self,
        tiles: usize,
        task: &F,
        workers: &[JoinHandle<()>],
        scratch: &mut Scratch,
    ) -> Result<(), String>
    where
        F: Fn(usize, &mut Scratch) + Sync,
    {
        let job = Job {
            task: std::ptr::from_ref(task).cast(),
            call: call::<F>,
            tiles,
            leader: thread::current(),
        };
        self.next.0.store(0, Ordering::Relaxed);
        // A single tile is not worth a barrier.
        let shared = tiles > 1 && !workers.is_empty();
        if shared {
            // SAFETY: `shut` below ends every use of `task` and of the job, and nothing between
            // here and there can unwind, for `claim_tiles` catches the panics of the tiles.
            unsafe { self.open(job.clone()) };
            self.wake(workers);
        }
        self.claim_tiles(&job, scratch);
        if shared {
            self.shut();
        }
        let mut panic = self.panic.lock().unwrap_or_else(PoisonError::into_inner);
        panic.take().map_or(Ok(()), Err)
    }

    /// # Safety
    ///
    /// Every `open` is followed by [`Gate::shut`], before the next one and before the end of the
    /// job's closure.
    unsafe fn open(&self, job: Job) {
        // SAFETY: the gate is shut and no member is inside, so no other thread looks at the cell.
        unsafe { *self.job.get() = Some(job) };
        let generation = (self.state.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        // Sequentially consistent, as is the read of `sleepers` that follows: either the leader
        // sees a worker that goes to sleep, or that worker sees the open gate.
        self.state
            .store((generation << 32) | OPEN, Ordering::SeqCst);
    }

    /// Shuts the gate and waits until every member inside has left.
    fn shut(&self) {
        self.state.fetch_and(!OPEN, Ordering::SeqCst);
        let empty = || (self.state.load(Ordering::Acquire) & INSIDE == 0).then_some(());
        if spin_until(SPIN, empty).is_none() {
            // The last member to leave a shut gate unparks this thread.
            while empty().is_none() {
                thread::park();
            }
        }
    }

    /// Wakes the workers, if any sleep.
    pub(super) fn wake(&self, workers: &[JoinHandle<()>]) {
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            workers.iter().for_each(|worker| worker.thread().unpark());
        }
    }

    /// Keeps workers that are awake from sleeping at once, until the guard is dropped.
    pub(super) fn start_step(&self) -> Step<'_> {
        self.steps.fetch_add(1, Ordering::SeqCst);
        Step(self)
    }

    /// Ends the life of the workers; each may have to be unparked to notice.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Number of workers that sleep or are about to.
    #[cfg(test)]
    pub(super) fn sleepers(&self) -> usize {
        self.sleepers.load(Ordering::SeqCst)
    }

    /// A worker's life.
    pub(super) fn work(&self, scratch: &Mutex<Scratch>) {
        let mut seen = 0;
        while let Some(generation) = self.wait_for_job(seen) {
            seen = generation;
            // SAFETY: this worker is inside, so the leader does not write the cell.
            let job = unsafe { &*self.job.get() }.clone();
            if let Some(job) = &job {
                // Uncontended: other threads take this lock only between jobs.
                let mut scratch = scratch.lock().unwrap_or_else(PoisonError::into_inner);
                self.claim_tiles(job, &mut scratch);
            }
            let before = self.state.fetch_sub(1, Ordering::AcqRel);
            // From here on the closure may be gone. The clone of the leader's handle is our own.
            if let Some(job) = job
                && before & OPEN == 0
                && before & INSIDE == 1
            {
                job.leader.unpark();
            }
        }
    }

    /// Waits, awake within a step and asleep otherwise, and goes in; `None` when the team ends.
    fn wait_for_job(&self, seen: u64) -> Option<u64> {
        while !self.stop.load(Ordering::SeqCst) {
            let patience = match self.steps.load(Ordering::SeqCst) {
                0 => Duration::ZERO,
                _ => SPIN,
            };
            let mut joined = spin_until(patience, || self.try_enter(seen));
            if joined.is_none() {
                self.sleepers.fetch_add(1, Ordering::SeqCst);
                // What was published before the leader could count this sleeper is seen here, and
                // an unpark between here and there makes `park` return at once.
                joined = self.try_enter(seen);
                if joined.is_none() && !self.stop.load(Ordering::SeqCst) {
                    thread::park();
                }
                self.sleepers.fetch_sub(1, Ordering::SeqCst);
            }
            if joined.is_some() {
                return joined;
            }
        }
        None
    }

    /// Goes in if the gate is open to a job other than `seen`; returns the job's generation.
    fn try_enter(&self, seen: u64) -> Option<u64> {
        let mut state = self.state.load(Ordering::SeqCst);
        while state & OPEN != 0 && state >> 32 != seen {
            match self.state.compare_exchange_weak(
                state,
                state + 1,
                Ordering::SeqCst,
                Ordering::SeqCst,
            ) {
                Ok(_) => return Some(state >> 32),
                Err(now) => state = now,
            }
        }
        None
    }

    /// Works until no tile is left. A panic is noted, and the unclaimed tiles are given up.
    fn claim_tiles(&self, job: &Job, scratch: &mut Scratch) {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let tile = self.next.0.fetch_add(1, Ordering::Relaxed);
                if tile >= job.tiles {
                    break;
                }
                // SAFETY: the leader keeps the closure alive until this member has left.
                unsafe { (job.call)(job.task, tile, scratch) };
            }
        }));
        if let Err(payload) = outcome {
            self.next.0.store(job.tiles, Ordering::Relaxed);
            let mut panic = self.panic.lock().unwrap_or_else(PoisonError::into_inner);
            panic.get_or_insert_with(|| message_of(payload.as_ref()));
        }
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("sleepers", &self.sleepers)
            .field("steps", &self.steps)
            .finish_non_exhaustive()
    }
}

/// A step under way; it ends when this is dropped, also by a panic.
pub(super) struct Step<'a>(&'a Gate);

impl Drop for Step<'_> {
    fn drop(&mut self) {
        self.0.steps.fetch_sub(1, Ordering::SeqCst);
    }
}

/// # Safety
///
/// `task` points to a live `F`.
unsafe fn call<F: Fn(usize, &mut Scratch) + Sync>(
    task: *const (),
    tile: usize,
    scratch: &mut Scratch,
) {
    // SAFETY: promised by the caller.
    let task = unsafe { &*task.cast::<F>() };
    task(tile, scratch);
}

/// Polls until there is an answer or `limit` has passed; at least once.
fn spin_until<T>(limit: Duration, mut poll: impl FnMut() -> Option<T>) -> Option<T> {
    if let Some(found) = poll() {
        return Some(found);
    }
    let start = Instant::now();
    while start.elapsed() < limit {
        // Reading the clock costs as much as several polls.
        for _ in 0..16 {
            std::hint::spin_loop();
            if let Some(found) = poll() {
                return Some(found);
            }
        }
    }
    None
}

fn message_of(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|message| (*message).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}
