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

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use gate::Gate;

use crate::TensorError;
use crate::aligned::ALIGNMENT;
use crate::tiles::Outputs;

/// Memory that a member reuses from tile to tile; it grows to the largest tile and stays.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    floats: Vec<f32>,
    words: Vec<u32>,
    integers: Vec<i32>,
    records: Vec<f32>,
}

impl Scratch {
    /// `len` numbers with unspecified contents.
    pub(crate) fn floats(&mut self, len: usize) -> &mut [f32] {
        if self.floats.len() < len {
            self.floats.resize(len, 0.0);
        }
        &mut self.floats[..len]
    }

    /// The first `len` of `most` numbers with unspecified contents: the memory is reserved at once,
    /// and touched as far as it is used.
    pub(crate) fn floats_of(&mut self, len: usize, most: usize) -> &mut [f32] {
        if self.floats.len() < most {
            self.floats = vec![0.0; most];
        }
        &mut self.floats[..len]
    }

    /// Numbers, words and integers with unspecified contents, each list starting at a cache line.
    pub(crate) fn aligned(
        &mut self,
        floats: usize,
        words: usize,
        integers: usize,
    ) -> (&mut [f32], &mut [u32], &mut [i32]) {
        (
            at_cache_line(&mut self.floats, floats),
            at_cache_line(&mut self.words, words),
            at_cache_line(&mut self.integers, integers),
        )
    }

    /// So many words and numbers with unspecified contents.
    pub(crate) fn words_and_floats(
        &mut self,
        words: usize,
        floats: usize,
    ) -> (&mut [u32], &mut [f32]) {
        if self.words.len() < words {
            self.words.resize(words, 0);
        }
        if self.floats.len() < floats {
            self.floats.resize(floats, 0.0);
        }
        (&mut self.words[..words], &mut self.floats[..floats])
    }

    /// A list of its own, which may be lent together with the others.
    pub(crate) fn take_records(&mut self) -> Vec<f32> {
        std::mem::take(&mut self.records)
    }

    /// Gives back what [`Scratch::take_records`] lent.
    pub(crate) fn give_records(&mut self, records: Vec<f32>) {
        self.records = records;
    }
}

/// The first `len` elements that start at a cache line, of a list that grows if it is too short.
fn at_cache_line<T: Copy + Default>(list: &mut Vec<T>, len: usize) -> &mut [T] {
    let most = len + ALIGNMENT / size_of::<T>();
    if list.len() < most {
        list.resize(most, T::default());
    }
    let offset = list.as_ptr().align_offset(ALIGNMENT);
    &mut list[offset..offset + len]
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
    gate: Arc<Gate>,
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
            gate: Arc::new(Gate::new()),
            lead: Mutex::default(),
            workers: Vec::new(),
        };
        for index in 1..threads {
            let gate = Arc::clone(&team.gate);
            let worker = thread::Builder::new()
                .name(format!("maitre-compute-{index}"))
                .spawn(move || gate.work())
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
    fn is_asleep(&self) -> bool {
        self.gate.sleepers() == self.workers.len()
    }

    /// Runs `f` with the team awake.
    pub(crate) fn step<R>(&self, f: impl FnOnce() -> R) -> R {
        let _step = self.gate.start_step();
        self.gate.wake(&self.workers);
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
