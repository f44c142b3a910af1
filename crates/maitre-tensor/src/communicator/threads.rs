//! Ranks that are threads of one process.
//!
//! An operation is three steps: each rank writes its numbers to its own slot, all meet, each reads the slots of all.
//! Slots are used in turn, two for each rank: a rank that writes for the next operation but one has met, at the next
//! one, all that still read.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::Communicator;
use crate::{Buffer, DType, TensorError};

/// How long a rank that waits looks for the others before it sleeps: longer than ranks of equal work are apart.
const SPIN: Duration = Duration::from_micros(50);

/// One rank of a group of threads. Dropping it ends the group: the others' calls fail from then on.
#[derive(Debug)]
pub struct ThreadRanks {
    rank: usize,
    /// Operations so far.
    operations: usize,
    group: Arc<Group>,
}

#[derive(Debug)]
struct Group {
    /// Two slots for each rank.
    slots: Vec<[RwLock<Slot>; 2]>,
    timeout: Duration,
    arrivals: Mutex<Arrivals>,
    all_arrived: Condvar,
    /// Meetings so far, to be looked at without the lock.
    meetings: AtomicUsize,
    is_broken: AtomicBool,
}

#[derive(Debug, Default)]
struct Arrivals {
    waiting: usize,
    /// Why no operation can succeed any more.
    broken: Option<String>,
}

/// What one rank offers to the others.
#[derive(Debug, Default)]
struct Slot {
    operation: &'static str,
    len: usize,
    values: Vec<f32>,
}

impl ThreadRanks {
    /// The ranks of a group, to be handed to a thread each. A rank that is not there within `timeout` of the first
    /// fails the operation.
    #[must_use]
    pub fn group(num_ranks: usize, timeout: Duration) -> Vec<Self> {
        let group = Arc::new(Group {
            slots: (0..num_ranks).map(|_| Default::default()).collect(),
            timeout,
            arrivals: Mutex::default(),
            all_arrived: Condvar::new(),
            meetings: AtomicUsize::new(0),
            is_broken: AtomicBool::new(false),
        });
        let rank = |rank| Self {
            rank,
            operations: 0,
            group: Arc::clone(&group),
        };
        (0..num_ranks).map(rank).collect()
    }

    /// Writes this rank's numbers where the others will find them.
    fn offer(&mut self, operation: &'static str, len: usize, values: &[f32]) {
        self.operations += 1;
        let own = self.group.slots[self.rank][self.operations % 2].write();
        let mut own = own.unwrap_or_else(PoisonError::into_inner);
        (own.operation, own.len) = (operation, len);
        own.values.clear();
        own.values.extend_from_slice(values);
    }

    /// Meets the others, and lets `read` look at what all have offered, by rank.
    fn collect(
        &self,
        operation: &'static str,
        len: usize,
        mut read: impl FnMut(usize, &[f32]),
    ) -> Result<(), TensorError> {
        let group = &self.group;
        group.meet(operation)?;
        for rank in 0..group.slots.len() {
            let slot = group.slots[rank][self.operations % 2].read();
            let slot = slot.unwrap_or_else(PoisonError::into_inner);
            if (slot.operation, slot.len) != (operation, len) {
                let message = format!(
                    "rank {rank} called {} of {} numbers where rank {} called {operation} of {len}",
                    slot.operation, slot.len, self.rank
                );
                return Err(group.fail(operation, message));
            }
            read(rank, &slot.values);
        }
        Ok(())
    }

    fn exchange(
        &mut self,
        operation: &'static str,
        len: usize,
        values: &[f32],
        read: impl FnMut(usize, &[f32]),
    ) -> Result<(), TensorError> {
        self.offer(operation, len, values);
        self.collect(operation, len, read)
    }
}

impl Drop for ThreadRanks {
    fn drop(&mut self) {
        self.group
            .fail("drop", format!("rank {} has ended", self.rank));
    }
}

impl Group {
    /// Returns when all ranks have called it as often as this one.
    fn meet(&self, operation: &'static str) -> Result<(), TensorError> {
        let mut arrivals = self.arrivals();
        if let Some(broken) = &arrivals.broken {
            return Err(error(operation, broken.clone()));
        }
        let meeting = self.meetings.load(Ordering::Acquire);
        arrivals.waiting += 1;
        if arrivals.waiting == self.slots.len() {
            arrivals.waiting = 0;
            self.meetings.store(meeting + 1, Ordering::Release);
            self.all_arrived.notify_all();
            return Ok(());
        }
        drop(arrivals);
        let began = Instant::now();
        let is_over = || {
            self.meetings.load(Ordering::Acquire) != meeting
                || self.is_broken.load(Ordering::Acquire)
        };
        while !is_over() && began.elapsed() < SPIN {
            std::hint::spin_loop();
        }
        let arrivals = self.arrivals();
        let left = self.timeout.saturating_sub(began.elapsed());
        let waited = self
            .all_arrived
            .wait_timeout_while(arrivals, left, |_| !is_over());
        let (arrivals, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if self.meetings.load(Ordering::Acquire) != meeting {
            return Ok(());
        }
        match &arrivals.broken {
            Some(broken) => Err(error(operation, broken.clone())),
            None => {
                let missing = self.slots.len() - arrivals.waiting;
                drop(arrivals);
                let timeout = self.timeout;
                let message = format!("{missing} ranks did not come within {timeout:?}");
                Err(self.fail(operation, message))
            }
        }
    }

    /// Ends the group, unless it has ended before; then that is what is told.
    fn fail(&self, operation: &'static str, message: String) -> TensorError {
        let mut arrivals = self.arrivals();
        let broken = arrivals.broken.get_or_insert(message).clone();
        self.is_broken.store(true, Ordering::Release);
        self.all_arrived.notify_all();
        error(operation, broken)
    }

    fn arrivals(&self) -> MutexGuard<'_, Arrivals> {
        // Nothing that could panic runs under it.
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn error(operation: &'static str, message: String) -> TensorError {
    TensorError::Ranks { operation, message }
}

impl Communicator for ThreadRanks {
    fn rank(&self) -> usize {
        self.rank
    }

    fn num_ranks(&self) -> usize {
        self.group.slots.len()
    }

    fn all_reduce(&mut self, values: &mut Buffer, len: usize) -> Result<(), TensorError> {
        const NAME: &str = "all_reduce";
        let values = numbers_mut(NAME, "values", values, len)?;
        self.offer(NAME, len, values);
        self.collect(NAME, len, |rank, offered| add(rank, offered, values))
    }

    fn all_gather(
        &mut self,
        mine: &Buffer,
        len: usize,
        out: &mut Buffer,
    ) -> Result<(), TensorError> {
        const NAME: &str = "all_gather";
        let mine = numbers(NAME, "mine", mine, len)?;
        let out = numbers_mut(NAME, "out", out, len.saturating_mul(self.num_ranks()))?;
        self.exchange(NAME, len, mine, |rank, values| {
            out[rank * len..][..len].copy_from_slice(values);
        })
    }

    fn reduce_scatter(
        &mut self,
        values: &Buffer,
        len: usize,
        out: &mut Buffer,
    ) -> Result<(), TensorError> {
        const NAME: &str = "reduce_scatter";
        let all = len.saturating_mul(self.num_ranks());
        let values = numbers(NAME, "values", values, all)?;
        let out = numbers_mut(NAME, "out", out, len)?;
        let own = self.rank * len;
        self.exchange(NAME, len, values, |rank, values| {
            add(rank, &values[own..][..len], out);
        })
    }

    fn all_to_all(
        &mut self,
        values: &Buffer,
        len: usize,
        out: &mut Buffer,
    ) -> Result<(), TensorError> {
        const NAME: &str = "all_to_all";
        let all = len.saturating_mul(self.num_ranks());
        let values = numbers(NAME, "values", values, all)?;
        let out = numbers_mut(NAME, "out", out, all)?;
        let own = self.rank * len;
        self.exchange(NAME, len, values, |rank, values| {
            out[rank * len..][..len].copy_from_slice(&values[own..][..len]);
        })
    }
}

/// The sums of the ranks up to this one.
fn add(rank: usize, values: &[f32], sums: &mut [f32]) {
    if rank == 0 {
        return sums.copy_from_slice(values);
    }
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += value;
    }
}

/// The first `len` numbers of an f32 buffer in host memory.
fn numbers<'b>(
    operator: &'static str,
    argument: &'static str,
    buffer: &'b Buffer,
    len: usize,
) -> Result<&'b [f32], TensorError> {
    check(operator, argument, buffer, len)?;
    Ok(&buffer.f32s()?[..len])
}

/// The same, to be written.
fn numbers_mut<'b>(
    operator: &'static str,
    argument: &'static str,
    buffer: &'b mut Buffer,
    len: usize,
) -> Result<&'b mut [f32], TensorError> {
    check(operator, argument, buffer, len)?;
    Ok(&mut buffer.f32s_mut()?[..len])
}

fn check(
    operator: &'static str,
    argument: &'static str,
    buffer: &Buffer,
    len: usize,
) -> Result<(), TensorError> {
    buffer.memory().require_host(operator, argument)?;
    if buffer.dtype() == DType::F32 && buffer.len() >= len {
        return Ok(());
    }
    Err(TensorError::Argument {
        operator,
        argument,
        expected: format!("at least {len} f32 elements"),
        actual: format!("{} {} elements", buffer.len(), buffer.dtype()),
    })
}

#[cfg(test)]
mod tests;
