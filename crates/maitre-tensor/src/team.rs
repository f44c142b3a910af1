//! The compute team: threads that work through the tiles of one operator at a time.
//!
//! ```text
//! leader   opens the gate ── claims tiles ── shuts it ── waits for members ── next operator
//! worker   spins / sleeps ── goes in ─────── claims tiles ── leaves ───────── spins / sleeps
//! ```
//!
//! Members claim tiles from an atomic counter, so a member that the system has descheduled delays
//! only the tile it holds. Which member computes a tile never shows in the result. Between the
//! operators of a step, members spin for some microseconds and then sleep; outside a step they
//! sleep at once, and an idle team costs nothing.
#![allow(unsafe_code)]

mod gate;
mod scratch;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use gate::Gate;
pub(crate) use scratch::{Need, Scratch};

use crate::TensorError;
use crate::tiles::Outputs;

/// What the current leader owns: its own tile memory, and memory shared by a whole operator.
#[derive(Debug, Default)]
struct Lead {
    tile: Scratch,
    operator: Scratch,
}

/// The threads; dropping the team ends and joins them.
#[derive(Debug)]
pub(crate) struct Team {
    gate: Arc<Gate>,
    /// Held by the thread that runs an operator: one operator at a time.
    lead: Mutex<Lead>,
    workers: Vec<JoinHandle<()>>,
    /// The workers' tile memory. Each holds its own while it works on a job.
    scratches: Vec<Arc<Mutex<Scratch>>>,
}

impl Team {
    /// Starts `threads - 1` workers; the thread that runs an operator is the remaining member.
    /// Returns when all of them run, for a thread that begins allocates.
    pub(crate) fn start(threads: usize) -> Result<Self, TensorError> {
        if threads == 0 {
            return Err(TensorError::NoThreads);
        }
        // Built first, so that an error half-way ends the workers that did start.
        let mut team = Self {
            gate: Arc::new(Gate::new()),
            lead: Mutex::default(),
            workers: Vec::new(),
            scratches: Vec::new(),
        };
        let (started, all_started) = mpsc::channel();
        for index in 1..threads {
            let started = started.clone();
            let gate = Arc::clone(&team.gate);
            let scratch = Arc::<Mutex<Scratch>>::default();
            team.scratches.push(Arc::clone(&scratch));
            let worker = thread::Builder::new()
                .name(format!("maitre-compute-{index}"))
                .spawn(move || {
                    // The thread that starts the team may have given up on it.
                    let _ = started.send(());
                    drop(started);
                    gate.work(&scratch);
                })
                .map_err(|error| TensorError::Spawn {
                    index,
                    threads,
                    error,
                })?;
            team.workers.push(worker);
        }
        drop(started);
        all_started.iter().for_each(drop);
        Ok(team)
    }

    /// Members, the leader included.
    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Whether every worker sleeps.
    #[cfg(test)]
    fn is_asleep(&self) -> bool {
        self.gate.sleepers() == self.workers.len()
    }

    /// Runs `f` with the team awake.
    pub(crate) fn step<R>(&self, f: impl FnOnce() -> R) -> R {
        let _step = self.gate.start_step();
        self.gate.wake(&self.workers);
        f()
    }

    /// Reserves what a tile may need, for every member, and what a whole operator may.
    pub(crate) fn reserve(&self, tile: Need, operator: Need) -> Result<(), TensorError> {
        // Between jobs no worker holds its memory.
        let mut lead = self.lead.lock().unwrap_or_else(PoisonError::into_inner);
        lead.tile.reserve(tile)?;
        lead.operator.reserve(operator)?;
        self.scratches.iter().try_for_each(|scratch| {
            let mut scratch = scratch.lock().unwrap_or_else(PoisonError::into_inner);
            scratch.reserve(tile)
        })
    }

    /// Waits until the team is free and makes the calling thread its leader.
    pub(crate) fn lead(&self, operator: &'static str) -> Turn<'_> {
        Turn {
            team: self,
            operator,
            lead: self.lead.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.gate.stop();
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

    /// Calls `task` at most once with each number below `tiles`.
    fn run<F>(&mut self, tiles: usize, task: &F) -> Result<(), TensorError>
    where
        F: Fn(usize, &mut Scratch) + Sync,
    {
        let Self { team, lead, .. } = self;
        // SAFETY: the lock in `lead` keeps every other thread out.
        unsafe { team.gate.lead(tiles, task, &team.workers, &mut lead.tile) }.map_err(|message| {
            TensorError::Panicked {
                operator: self.operator,
                message,
            }
        })
    }
}

#[cfg(test)]
mod tests;
