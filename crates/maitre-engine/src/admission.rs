//! The front door: who may join the queue, who is in flight, and when the house is empty.
//!
//! Everything here is decided in the caller's own thread, without waiting for the step loop, so a
//! full queue refuses at once even while a long step runs.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use maitre_scheduler::{RequestId, Time};
use tokio::sync::Notify;

use crate::EngineError;
use crate::command::{CancelledBy, Command, Submission};

/// Shared by the handle, the step loop and every [`Ticket`].
#[derive(Debug)]
pub(crate) struct Admission {
    max_queue: usize,
    waiting: AtomicUsize,
    draining: AtomicBool,
    book: Mutex<Book>,
    emptied: Notify,
    pace: Mutex<Pace>,
}

/// Who is in flight, and the way to the step loop. Commands are sent while the book is open, so
/// that the loop hears of a request's submission before it hears of its end, whoever ends it.
#[derive(Debug)]
struct Book {
    in_flight: HashMap<String, Entry>,
    commands: Sender<Command>,
}

#[derive(Debug)]
struct Entry {
    keys: Vec<RequestId>,
    /// The loop has been told; telling it again would only grow its mailbox.
    cancelled: bool,
}

/// How fast the queue moves: a moving average of the time between two starts while somebody waits.
#[derive(Debug, Default)]
struct Pace {
    last_start: Option<Time>,
    mean_gap: Option<Duration>,
}

const SHORTEST_RETRY: Duration = Duration::from_millis(50);
const LONGEST_RETRY: Duration = Duration::from_secs(30);
const RETRY_WITHOUT_HISTORY: Duration = Duration::from_secs(1);

impl Admission {
    pub(crate) fn new(max_queue: usize, commands: Sender<Command>) -> Self {
        let book = Book {
            in_flight: HashMap::new(),
            commands,
        };
        Self {
            max_queue,
            waiting: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            book: Mutex::new(book),
            emptied: Notify::new(),
            pace: Mutex::new(Pace::default()),
        }
    }

    /// Takes a place in the queue for each of `submissions`, enters `request_id` among those in
    /// flight, and submits.
    pub(crate) fn enter(
        self: &Arc<Self>,
        request_id: &str,
        submissions: Vec<Submission>,
    ) -> Result<Ticket, EngineError> {
        let mut book = lock(&self.book);
        // Read with the book open: after `refuse_new` returns, nobody enters any more.
        if self.draining.load(Ordering::SeqCst) {
            return Err(EngineError::Draining);
        }
        if book.in_flight.contains_key(request_id) {
            return Err(EngineError::DuplicateRequest {
                request_id: request_id.to_owned(),
            });
        }
        let places = submissions.len();
        self.waiting
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |waiting| {
                (waiting + places <= self.max_queue).then_some(waiting + places)
            })
            .map_err(|_| EngineError::QueueFull {
                limit: self.max_queue,
                retry_after: self.retry_after(),
            })?;
        let keys = submissions.iter().map(|one| one.schedule.id).collect();
        let entry = Entry {
            keys,
            cancelled: false,
        };
        book.in_flight.insert(request_id.to_owned(), entry);
        let ticket = Ticket {
            admission: Arc::clone(self),
            request_id: request_id.to_owned(),
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
    pub(crate) fn abort(&self, request_id: &str) -> bool {
        let mut book = lock(&self.book);
        let Book {
            in_flight,
            commands,
        } = &mut *book;
        let Some(entry) = in_flight.get_mut(request_id) else {
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

    /// One request left the queue, to run (`started`) or for good.
    pub(crate) fn leave_queue(&self, started: Option<Time>) {
        let before = self.waiting.fetch_sub(1, Ordering::SeqCst);
        if let Some(now) = started {
            lock(&self.pace).start(now, before > 1);
        }
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    pub(crate) fn in_flight(&self) -> usize {
        lock(&self.book).in_flight.len()
    }

    pub(crate) fn refuse_new(&self) {
        let _book = lock(&self.book);
        self.draining.store(true, Ordering::SeqCst);
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

    fn retry_after(&self) -> Duration {
        lock(&self.pace)
            .mean_gap
            .map_or(RETRY_WITHOUT_HISTORY, |gap| {
                gap.clamp(SHORTEST_RETRY, LONGEST_RETRY)
            })
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

impl Pace {
    /// A request started; `others_wait` tells whether the next start follows as soon as it can. A
    /// gap in which nobody waited says nothing about how fast the queue moves.
    fn start(&mut self, now: Time, others_wait: bool) {
        if let Some(last) = self.last_start {
            let gap = now.saturating_sub(last);
            // A quarter of the newest gap: settles within about eight starts.
            self.mean_gap = Some(self.mean_gap.map_or(gap, |mean| (mean * 3 + gap) / 4));
        }
        self.last_start = others_wait.then_some(now);
    }
}

/// A request's presence in the house. Dropping it frees the request's name and, unless the request
/// is complete, cancels what still runs of it.
#[derive(Debug)]
pub(crate) struct Ticket {
    admission: Arc<Admission>,
    request_id: String,
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
        let entry = book.in_flight.remove(&self.request_id);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_gaps_in_which_somebody_waited_count() {
        let mut pace = Pace::default();
        let at = Time::from_millis;
        pace.start(at(0), true);
        pace.start(at(400), false);
        assert_eq!(pace.mean_gap, Some(at(400)));
        pace.start(at(3_600_000), true);
        assert_eq!(pace.mean_gap, Some(at(400)), "an idle hour says nothing");
        pace.start(at(3_600_800), true);
        assert_eq!(pace.mean_gap, Some(at(500)));
    }
}
