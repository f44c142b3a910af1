//! The compute team: threads that work through the tiles of one operator at a time.
//!
//! ```text
//! leader   publish job ── claims tiles ── close gate ── wait for members ── next operator
//! worker   spin / sleep ── join ── claims tiles ── leave ── spin / sleep
//! ```
//!
//! Members claim tiles from an atomic counter, so a member that the system has descheduled delays
//! only the tile it holds; one that sleeps through a whole job is not waited for. Which member
//! computes a tile never shows in the result. Between the operators of a step, members spin for
//! [`SPIN`] and then sleep; outside a step they sleep at once, and an idle team costs nothing.
#![allow(unsafe_code)]

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use crate::TensorError;
use crate::tiles::Outputs;

/// How long a member waits awake. Longer than the gap between two operators (a few microseconds),
/// and about what it costs to wake a sleeper, so that waiting never more than doubles either.
const SPIN: Duration = Duration::from_micros(30);

/// Memory that a member reuses from tile to tile; it grows to the largest tile and stays.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    floats: Vec<f32>,
}

impl Scratch {
    /// `len` numbers with unspecified contents.
    pub(crate) fn floats(&mut self, len: usize) -> &mut [f32] {
        if self.floats.len() < len {
            self.floats.resize(len, 0.0);
        }
        &mut self.floats[..len]
    }
}

/// What the current leader owns: its own tile memory, and memory shared by a whole operator.
#[derive(Debug, Default)]
struct Lead {
    tile: Scratch,
    operator: Scratch,
}

/// The threads; dropping the team ends and joins them.
#[derive(Debug)]
pub(crate) struct Team {
    shared: Arc<Shared>,
    /// Held by the thread that runs an operator: one operator at a time.
    lead: Mutex<Lead>,
    workers: Vec<JoinHandle<()>>,
}

impl Team {
    /// Starts `threads - 1` workers; the thread that runs an operator is the remaining member.
    pub(crate) fn start(threads: usize) -> Result<Self, TensorError> {
        if threads == 0 {
            return Err(TensorError::NoThreads);
        }
        // Built first, so that an error half-way ends the workers that did start.
        let mut team = Self {
            shared: Arc::new(Shared::default()),
            lead: Mutex::default(),
            workers: Vec::with_capacity(threads - 1),
        };
        for index in 1..threads {
            let shared = Arc::clone(&team.shared);
            let worker = thread::Builder::new()
                .name(format!("maitre-compute-{index}"))
                .spawn(move || shared.work())
                .map_err(|source| TensorError::Spawn {
                    index,
                    threads,
                    source,
                })?;
            team.workers.push(worker);
        }
        Ok(team)
    }

    /// Members, the leader included.
    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Whether every worker sleeps.
    #[cfg(test)]
    pub(crate) fn is_asleep(&self) -> bool {
        self.shared.sleepers.load(Ordering::SeqCst) == self.workers.len()
    }

    /// Runs `f` with the team awake.
    pub(crate) fn step<R>(&self, f: impl FnOnce() -> R) -> R {
        /// Ends the step also when `f` panics.
        struct Awake<'a>(&'a AtomicUsize);
        impl Drop for Awake<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        self.shared.steps.fetch_add(1, Ordering::SeqCst);
        let _awake = Awake(&self.shared.steps);
        self.wake();
        f()
    }

    /// Waits until the team is free and makes the calling thread its leader.
    pub(crate) fn lead(&self, operator: &'static str) -> Turn<'_> {
        Turn {
            team: self,
            operator,
            lead: self.lead.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    fn wake(&self) {
        if self.shared.sleepers.load(Ordering::SeqCst) > 0 {
            for worker in &self.workers {
                worker.thread().unpark();
            }
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker catches what its tiles panic with; there is nothing to learn from it here.
            let _ = worker.join();
        }
    }
}

/// The right to run one operator on the team.
pub(crate) struct Turn<'a> {
    team: &'a Team,
    operator: &'static str,
    lead: MutexGuard<'a, Lead>,
}

impl Turn<'_> {
    /// Memory for the whole operator, to be given back with [`Turn::give_back`] for the next one.
    pub(crate) fn borrow_scratch(&mut self) -> Scratch {
        std::mem::take(&mut self.lead.operator)
    }

    /// Returns what [`Turn::borrow_scratch`] lent.
    pub(crate) fn give_back(&mut self, scratch: Scratch) {
        self.lead.operator = scratch;
    }

    /// Hands each tile of `outputs` to `task` once, on whichever member comes first, and returns
    /// when all are done.
    ///
    /// # Errors
    ///
    /// [`TensorError::Panicked`] with the first panic of a tile; tiles not yet claimed are skipped.
    pub(crate) fn for_each<O, F>(&mut self, outputs: O, task: F) -> Result<(), TensorError>
    where
        O: Outputs,
        F: Fn(O::Part, &mut Scratch) + Sync,
    {
        self.run(outputs.tiles(), &|tile, scratch: &mut Scratch| {
            // SAFETY: `run` calls this at most once with each number, and `outputs` ends here.
            let part = unsafe { outputs.part(tile) };
            task(part, scratch);
        })
    }

    /// Calls `task` once with each number below `tiles`.
    fn run<F>(&mut self, tiles: usize, task: &F) -> Result<(), TensorError>
    where
        F: Fn(usize, &mut Scratch) + Sync,
    {
        let shared = &*self.team.shared;
        let job = Job {
            task: std::ptr::from_ref(task).cast(),
            call: call::<F>,
            tiles,
            leader: thread::current(),
        };
        shared.next.0.store(0, Ordering::Relaxed);
        // A single tile is not worth a barrier.
        if tiles > 1 && !self.team.workers.is_empty() {
            // SAFETY: the lock that `self` holds makes this the only leader, and `shared.close`
            // below ends every use of `task` and of the job before either goes out of scope:
            // nothing between here and there can unwind, for `claim_tiles` catches panics.
            unsafe { shared.publish(job.clone()) };
            self.team.wake();
            shared.claim_tiles(&job, &mut self.lead.tile);
            shared.close();
        } else {
            shared.claim_tiles(&job, &mut self.lead.tile);
        }
        let panic = shared
            .panic
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match panic {
            None => Ok(()),
            Some(message) => Err(TensorError::Panicked {
                operator: self.operator,
                message,
            }),
        }
    }
}

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

/// Keeps the counter that every member writes out of the cache lines that all of them poll.
#[derive(Debug, Default)]
#[repr(align(128))]
struct OwnLine(AtomicUsize);

/// What the leader and the workers share.
struct Shared {
    /// Generation of the job (upper half), [`OPEN`], number of members inside (the rest).
    gate: AtomicU64,
    /// Written by the leader while the gate is shut and nobody is inside; read by members inside.
    job: UnsafeCell<Option<Job>>,
    /// The next tile to claim.
    next: OwnLine,
    /// Workers that sleep or are about to.
    sleepers: AtomicUsize,
    /// Steps under way.
    steps: AtomicUsize,
    stop: AtomicBool,
    /// The first panic of the current job.
    panic: Mutex<Option<String>>,
}

/// Gate bit: members may come in.
const OPEN: u64 = 1 << 31;
/// Gate bits: how many members are inside.
const INSIDE: u64 = OPEN - 1;

// SAFETY: the only field that is not thread-safe by itself is `job`, whose accesses the gate
// orders as its comment says. The pointer in a job refers to a `Sync` closure.
unsafe impl Sync for Shared {}
// SAFETY: as above; a job's pointer is not tied to the thread that made it.
unsafe impl Send for Shared {}

impl Shared {
    /// Opens the gate to a new job.
    ///
    /// # Safety
    ///
    /// The caller is the only leader, called [`Shared::close`] after the last `publish`, and calls
    /// it again before the job's closure ends.
    unsafe fn publish(&self, job: Job) {
        // SAFETY: the gate is shut and nobody is inside: no one else looks at the cell.
        unsafe { *self.job.get() = Some(job) };
        let generation = (self.gate.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        // Sequentially consistent, as is the read of `sleepers` that follows: either the leader
        // sees a worker that goes to sleep, or that worker sees the open gate.
        self.gate.store((generation << 32) | OPEN, Ordering::SeqCst);
    }

    /// Shuts the gate and waits until everyone inside has left.
    fn close(&self) {
        self.gate.fetch_and(!OPEN, Ordering::SeqCst);
        let empty = || (self.gate.load(Ordering::Acquire) & INSIDE == 0).then_some(());
        if spin_until(SPIN, empty).is_none() {
            // The last member to leave a shut gate unparks this thread.
            while empty().is_none() {
                thread::park();
            }
        }
    }

    /// Goes in if there is an open job that this worker has not seen; returns its generation.
    fn try_join(&self, seen: u64) -> Option<u64> {
        let mut gate = self.gate.load(Ordering::SeqCst);
        while gate & OPEN != 0 && gate >> 32 != seen {
            let joined =
                self.gate
                    .compare_exchange_weak(gate, gate + 1, Ordering::SeqCst, Ordering::SeqCst);
            match joined {
                Ok(_) => return Some(gate >> 32),
                Err(now) => gate = now,
            }
        }
        None
    }

    /// A worker's life.
    fn work(&self) {
        let mut scratch = Scratch::default();
        let mut seen = 0;
        while let Some(generation) = self.wait_for_job(seen) {
            seen = generation;
            // SAFETY: this worker is inside, so the leader does not write the cell.
            let job = unsafe { &*self.job.get() }.clone();
            if let Some(job) = &job {
                self.claim_tiles(job, &mut scratch);
            }
            let before = self.gate.fetch_sub(1, Ordering::AcqRel);
            // The leader may be gone already, the job's memory with it; the clone is ours.
            if let Some(job) = job
                && before & OPEN == 0
                && before & INSIDE == 1
            {
                job.leader.unpark();
            }
        }
    }

    /// Waits, awake within a step and asleep otherwise, and joins; `None` when the team ends.
    fn wait_for_job(&self, seen: u64) -> Option<u64> {
        while !self.stop.load(Ordering::SeqCst) {
            let patience = match self.steps.load(Ordering::SeqCst) {
                0 => Duration::ZERO,
                _ => SPIN,
            };
            let mut joined = spin_until(patience, || self.try_join(seen));
            if joined.is_none() {
                self.sleepers.fetch_add(1, Ordering::SeqCst);
                // What was published before the leader could count this sleeper is seen here, and
                // an unpark between here and there makes `park` return at once.
                joined = self.try_join(seen);
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

impl Default for Shared {
    fn default() -> Self {
        Self {
            gate: AtomicU64::new(0),
            job: UnsafeCell::new(None),
            next: OwnLine::default(),
            sleepers: AtomicUsize::new(0),
            steps: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            panic: Mutex::new(None),
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("sleepers", &self.sleepers)
            .field("steps", &self.steps)
            .finish_non_exhaustive()
    }
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

#[cfg(test)]
mod tests;
