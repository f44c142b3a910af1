//! The front door: who may join the queue, who is in flight, and when the house is empty.
//!
//! Everything here is decided in the caller's own thread, without waiting for the step loop, so a
//! full queue refuses at once even while a long step runs.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use maitre_scheduler::{RequestId, Time};
use tokio::sync::{Notify, oneshot};

use crate::EngineError;
use crate::command::{CancelledBy, Command, Submission};
use crate::queue::Queue;
pub(crate) use crate::queue::{Queued, Rules};

/// Shared by the handle, the step loop and every [`Ticket`].
#[derive(Debug)]
pub(crate) struct Admission {
    draining: AtomicBool,
    book: Mutex<Book>,
    emptied: Notify,
    drained: Notify,
    queue: Mutex<Queue>,
}

/// Who is in flight, and the way to the step loop. Commands are sent while the book is open, so
/// that the loop hears of a request's submission before it hears of its end, whoever ends it.
#[derive(Debug)]
struct Book {
    in_flight: HashMap<RequestName, Entry>,
    commands: Sender<Command>,
}

/// What a request is known by. A tenant chooses the ids of its own requests and reaches no other tenant's:
/// two tenants may use one id, and neither learns of the other's use.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct RequestName {
    /// The tenant, empty where the request names none.
    pub(crate) tenant: String,
    /// Unique among the tenant's requests in flight.
    pub(crate) id: String,
}

#[derive(Debug)]
struct Entry {
    keys: Vec<RequestId>,
    /// The loop has been told; telling it again would only grow its mailbox.
    cancelled: bool,
}

impl Admission {
    pub(crate) fn new(rules: Rules, commands: Sender<Command>) -> Self {
        let book = Book {
            in_flight: HashMap::new(),
            commands,
        };
        Self {
            draining: AtomicBool::new(false),
            book: Mutex::new(book),
            emptied: Notify::new(),
            drained: Notify::new(),
            queue: Mutex::new(Queue::new(rules)),
        }
    }

    /// Takes a place in the queue for each of `submissions`, enters `name` among those in
    /// flight, and submits. `patience` is how long the request is ready to wait.
    pub(crate) fn enter(
        self: &Arc<Self>,
        name: RequestName,
        mut submissions: Vec<Submission>,
        patience: Option<Duration>,
    ) -> Result<Ticket, EngineError> {
        let mut book = lock(&self.book);
        // Read with the book open: after `refuse_new` returns, nobody enters any more.
        if self.draining.load(Ordering::SeqCst) {
            return Err(EngineError::Draining);
        }
        if book.in_flight.contains_key(&name) {
            return Err(EngineError::DuplicateRequest {
                request_id: name.id,
            });
        }
        let mut queued: Vec<Queued> = submissions.iter().map(|one| one.queued).collect();
        let entered = lock(&self.queue).enter(&mut queued, patience);
        entered.inspect_err(crate::metrics::refused)?;
        for (one, queued) in submissions.iter_mut().zip(queued) {
            one.queued = queued;
        }
        let keys = submissions.iter().map(|one| one.schedule.id).collect();
        let entry = Entry {
            keys,
            cancelled: false,
        };
        book.in_flight.insert(name.clone(), entry);
        let ticket = Ticket {
            admission: Arc::clone(self),
            name,
            completed: false,
        };
        let told = submissions
            .into_iter()
            .try_for_each(|one| book.commands.send(Command::Submit(Box::new(one))));
        // The ticket's drop opens the book itself.
        drop(book);
        told.map(|()| ticket).map_err(|_| EngineError::Stopped)
    }

    /// Has the loop end the request; false when no such request is in flight.
    pub(crate) fn abort(&self, name: &RequestName) -> bool {
        let mut book = lock(&self.book);
        let Book {
            in_flight,
            commands,
        } = &mut *book;
        let Some(entry) = in_flight.get_mut(name) else {
            return false;
        };
        entry.abort(commands);
        true
    }

    /// Has the loop end everything in flight; returns how many requests that is.
    pub(crate) fn abort_all(&self) -> usize {
        let mut book = lock(&self.book);
        let Book {
            in_flight,
            commands,
        } = &mut *book;
        for entry in in_flight.values_mut() {
            entry.abort(commands);
        }
        in_flight.len()
    }

    /// Ends the loop itself.
    pub(crate) fn stop(&self) {
        // An error means that it has ended already.
        let _ = lock(&self.book).commands.send(Command::Stop);
    }

    /// Has the loop forget all prefixes and say how many blocks that were.
    pub(crate) fn reset_prefix_cache(
        &self,
        answer: oneshot::Sender<usize>,
    ) -> Result<(), EngineError> {
        let command = Command::ResetPrefixCache(answer);
        let told = lock(&self.book).commands.send(command);
        told.map_err(|_| EngineError::Stopped)
    }

    /// One sequence left the queue, to run (`started`) or for good.
    pub(crate) fn leave_queue(&self, queued: Queued, started: Option<Time>) {
        lock(&self.queue).leave(queued, started);
    }

    /// Sequences that wait for their first step, and their prompt tokens.
    pub(crate) fn queue(&self) -> (usize, usize) {
        lock(&self.queue).size()
    }

    /// How long a newcomer would wait at the pace of late, if there is one.
    pub(crate) fn estimated_wait(&self, now: Time) -> Option<Duration> {
        lock(&self.queue).estimated_wait(now)
    }

    /// How many wait for blocks they had before; they count as waiting.
    pub(crate) fn set_preempted(&self, preempted: usize) {
        lock(&self.queue).set_preempted(preempted);
    }

    /// Resolves once new requests are refused.
    pub(crate) async fn draining(&self) {
        loop {
            let changed = self.drained.notified();
            tokio::pin!(changed);
            // Enabled before the check, or a drain that begins between the two would be missed.
            changed.as_mut().enable();
            if self.is_draining() {
                return;
            }
            changed.await;
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        lock(&self.book).in_flight.len()
    }

    pub(crate) fn refuse_new(&self) {
        let _book = lock(&self.book);
        self.draining.store(true, Ordering::SeqCst);
        self.drained.notify_waiters();
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Resolves once nothing is in flight.
    pub(crate) async fn empty(&self) {
        loop {
            let emptied = self.emptied.notified();
            tokio::pin!(emptied);
            // Enabled before the check, or an exit between the two would be missed.
            emptied.as_mut().enable();
            if self.in_flight() == 0 {
                return;
            }
            emptied.await;
        }
    }
}

impl Entry {
    fn abort(&mut self, commands: &Sender<Command>) {
        if !std::mem::replace(&mut self.cancelled, true) {
            // An error means that the loop is gone, and the request with it.
            let _ = commands.send(Command::Cancel {
                keys: self.keys.clone(),
                why: CancelledBy::Caller,
            });
        }
    }
}

/// A request's presence in the house. Dropping it frees the request's name and, unless the request
/// is complete, cancels what still runs of it.
#[derive(Debug)]
pub(crate) struct Ticket {
    admission: Arc<Admission>,
    name: RequestName,
    completed: bool,
}

impl Ticket {
    /// The request ended by itself: there is nothing left to cancel.
    pub(crate) fn complete(mut self) {
        self.completed = true;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut book = lock(&self.admission.book);
        let entry = book.in_flight.remove(&self.name);
        if book.in_flight.is_empty() {
            self.admission.emptied.notify_waiters();
        }
        if let Some(Entry {
            keys,
            cancelled: false,
        }) = entry
            && !self.completed
        {
            // An error means that the loop is gone, and with it everything there was to cancel.
            let _ = book.commands.send(Command::Cancel {
                keys,
                why: CancelledBy::Departure,
            });
        }
    }
}

/// The maps behind these locks are consistent between any two statements, so a panic elsewhere
/// while one was held leaves nothing half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
