//! Whose turn it is at a GPU.
//!
//! What one thread queues while another records a step would be recorded with it, and run again with every replay. So
//! a thread that uses a GPU holds it meanwhile: for one operator, for one copy, or for a whole step, within which its
//! operators find that it is theirs already. There is one of these locks per GPU, whatever backends compute on it.
//!
//! What is recorded names memory by its address. So while a step is recorded, all memory that it uses is noted, and
//! lives as long as the recording.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use super::DeviceBytes;
use super::memory::Allocation;

/// A lock that the thread that has it may take again.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    holder: Mutex<Option<Holder>>,
    freed: Condvar,
    /// What the step uses that is being recorded, by address.
    used: Mutex<Option<HashMap<u64, Arc<Allocation>>>>,
}

#[derive(Debug)]
struct Holder {
    thread: ThreadId,
    /// How often it has taken the lock and not given it back.
    holds: usize,
}

/// The GPU is this thread's until it is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Hold<'t> {
    turns: &'t Turns,
    /// It is given back by the thread that took it.
    bound: PhantomData<*const ()>,
}

impl Turns {
    /// Waits until no other thread holds it.
    pub(crate) fn hold(&self) -> Hold<'_> {
        let me = thread::current().id();
        let mut holder = self.holder();
        loop {
            match &mut *holder {
                Some(it) if it.thread == me => it.holds += 1,
                Some(_) => {
                    let waited = self.freed.wait(holder);
                    holder = waited.unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
                none => {
                    *none = Some(Holder {
                        thread: me,
                        holds: 1,
                    });
                }
            }
            return Hold {
                turns: self,
                bound: PhantomData,
            };
        }
    }

    /// From now on what is queued is kept, until [`take_kept`](Self::take_kept).
    pub(crate) fn begin_keeping(&self) {
        *self.used() = Some(HashMap::new());
    }

    /// Notes memory that something queued uses.
    pub(crate) fn keep(&self, bytes: &DeviceBytes) {
        if let Some(used) = &mut *self.used() {
            let entry = used.entry(bytes.address().0);
            entry.or_insert_with(|| bytes.share());
        }
    }

    /// What was kept; nothing is kept from now on.
    pub(crate) fn take_kept(&self) -> Vec<Arc<Allocation>> {
        let used = self.used().take();
        used.unwrap_or_default().into_values().collect()
    }

    fn used(&self) -> MutexGuard<'_, Option<HashMap<u64, Arc<Allocation>>>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn holder(&self) -> MutexGuard<'_, Option<Holder>> {
        // Nothing that could panic runs under it.
        self.holder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let mut holder = self.turns.holder();
        if let Some(it) = &mut *holder {
            it.holds -= 1;
            if it.holds == 0 {
                *holder = None;
                drop(holder);
                self.turns.freed.notify_one();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn a_thread_waits_until_the_last_hold_of_another_is_dropped() {
        let turns = Turns::default();
        let is_given_back = AtomicBool::new(false);
        thread::scope(|scope| {
            let outer = turns.hold();
            let inner = turns.hold();
            let other = scope.spawn(|| {
                let _hold = turns.hold();
                assert!(is_given_back.load(Ordering::SeqCst));
            });
            drop(inner);
            thread::yield_now();
            is_given_back.store(true, Ordering::SeqCst);
            drop(outer);
            other.join().unwrap();
        });
        assert!(turns.holder().is_none());
    }
}
