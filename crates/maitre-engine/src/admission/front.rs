//! Admission to the queue: which requests may join it, which are in flight, and when none is left.
//!
//! Everything here is decided in the caller's own thread, without waiting for the step loop, so a
//! full queue refuses at once even while a long step runs. The rules are the scheduler crate's
//! ([`BoundedQueue`]); here are its lock and what the callers hold.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use maitre_scheduler::queue::{BoundedQueue, Newcomer, QueueBounds, QueueEntry};
use maitre_scheduler::{RequestId, SchedulerError, Time};
use tokio::sync::{Notify, oneshot};

use crate::EngineError;
use crate::admission::command::{CancelledBy, Command, Mail, Submission};
use crate::observe::metrics;

/// Shared by the handle, the step loop and every [`Ticket`].
#[derive(Debug)]
pub(crate) struct Admission {
    draining: AtomicBool,
    book: Mutex<Book>,
    emptied: Notify,
    drained: Notify,
    queue: Mutex<BoundedQueue>,
}

/// The requests in flight, and the channel to the step loop. Commands are sent while the book is locked, so
/// that the loop hears of a request's submission before it hears of its end.
#[derive(Debug)]
struct Book {
    in_flight: HashMap<RequestName, Entry>,
    commands: Sender<Command>,
    /// Submissions that were taken back and whose places are free again, though their empty covers still lie
    /// in the loop's mailbox. Bounded like the queue, so that submitting and leaving can't fill the mailbox.
    taken_back: usize,
    most_taken_back: usize,
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
    queued: Vec<QueueEntry>,
    /// The submissions as long as the loop has not read them; its mailbox owns them.
    mail: Vec<Weak<Mutex<Mail>>>,
    /// The loop has been told; telling it again would only grow its mailbox.
    cancelled: bool,
}

impl Admission {
    pub(crate) fn new(
        bounds: QueueBounds,
        commands: Sender<Command>,
    ) -> Result<Self, SchedulerError> {
        let book = Book {
            in_flight: HashMap::new(),
            commands,
            taken_back: 0,
            most_taken_back: bounds.max_queue,
        };
        Ok(Self {
            draining: AtomicBool::new(false),
            book: Mutex::new(book),
            emptied: Notify::new(),
            drained: Notify::new(),
            queue: Mutex::new(BoundedQueue::new(bounds)?),
        })
    }

    /// Takes a place in the queue for each of `submissions`, the answers of the request that is the
    /// `newcomer`, enters `name` among those in flight, and submits. `now` is when the request came.
    pub(crate) fn enter(
        self: &Arc<Self>,
        name: RequestName,
        submissions: Vec<Submission>,
        newcomer: &Newcomer,
        now: Time,
    ) -> Result<Ticket, EngineError> {
        debug_assert_eq!(submissions.len(), newcomer.sequences);
        let mut book = lock(&self.book);
        // Read with the book locked: after `refuse_new` returns, no request enters any more.
        if self.draining.load(Ordering::SeqCst) {
            return Err(EngineError::Draining);
        }
        if book.in_flight.contains_key(&name) {
            return Err(EngineError::DuplicateRequest {
                request_id: name.id,
            });
        }
        let joined = lock(&self.queue).join(newcomer, now);
        let queued = joined
            .map_err(EngineError::from)
            .inspect_err(metrics::refused)?;
        let keys = submissions.iter().map(|one| one.schedule.id).collect();
        let sealed = |(one, &place)| Arc::new(Mutex::new(Mail::Sealed(Box::new(one), place)));
        let mail: Vec<Arc<Mutex<Mail>>> =
            submissions.into_iter().zip(&queued).map(sealed).collect();
        let entry = Entry {
            keys,
            queued,
            mail: mail.iter().map(Arc::downgrade).collect(),
            cancelled: false,
        };
        book.in_flight.insert(name.clone(), entry);
        let ticket = Ticket {
            admission: Arc::clone(self),
            name,
            has_left: false,
        };
        let told = mail
            .into_iter()
            .try_for_each(|one| book.commands.send(Command::Submit(one)));
        // The ticket's drop opens the book itself.
        drop(book);
        told.map(|()| ticket).map_err(|_| EngineError::Stopped)
    }

    /// Ends the request; false when no such request is in flight. After true, [`Ticket::leave`] says so too.
    pub(crate) fn abort(&self, name: &RequestName) -> bool {
        let mut book = lock(&self.book);
        let Book { in_flight, .. } = &mut *book;
        let Some(entry) = in_flight.get_mut(name) else {
            return false;
        };
        let ending = entry.end();
        self.end(book, ending.into_iter().collect(), CancelledBy::Caller);
        true
    }

    /// Ends everything in flight; returns how many requests that is.
    pub(crate) fn abort_all(&self) -> usize {
        let mut book = lock(&self.book);
        let ending = book.in_flight.values_mut().filter_map(Entry::end).collect();
        let requests = book.in_flight.len();
        self.end(book, ending, CancelledBy::Caller);
        requests
    }

    /// Gives back the places of these requests at once, and tells the loop of those that it knows.
    fn end(&self, mut book: MutexGuard<'_, Book>, ending: Vec<Ending>, why: CancelledBy) {
        let mut taken = Vec::new();
        for Ending { keys, queued, mail } in ending {
            let before = taken.len();
            // The newest first: an answer that shares its prompt's blocks must not be read without the first.
            for (mail, queued) in mail.iter().zip(&queued).rev() {
                let returned = book.taken_back < book.most_taken_back;
                if let Some(submission) = take_back(mail, (!returned).then_some(*queued)) {
                    book.taken_back += usize::from(returned);
                    taken.push(submission);
                    if !returned {
                        continue;
                    }
                }
                self.leave_queue(*queued);
            }
            if taken.len() - before < keys.len() {
                // An error means that the loop is gone, and the requests with it.
                let _ = book.commands.send(Command::Cancel { keys, why });
            }
        }
        drop(book);
        for mut submission in taken {
            metrics::cancelled();
            if why == CancelledBy::Caller {
                submission.output.fail(EngineError::Cancelled);
            }
        }
    }

    /// Opens a submission that the loop found in its mailbox, with its place in the queue; `None` if it was taken
    /// back.
    pub(crate) fn open(&self, mail: &Mutex<Mail>) -> Option<(Box<Submission>, QueueEntry)> {
        // Read first, as the senders hold the book's lock while they take the mail's.
        let found = std::mem::replace(&mut *lock(mail), Mail::Read);
        match found {
            Mail::Sealed(submission, place) => Some((submission, place)),
            Mail::TakenBack { place: Some(place) } => {
                self.leave_queue(place);
                None
            }
            Mail::TakenBack { place: None } => {
                lock(&self.book).taken_back -= 1;
                None
            }
            Mail::Read => None,
        }
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

    /// One sequence left the queue, as it has its first step.
    pub(crate) fn record_first_step(&self, queued: QueueEntry, now: Time) {
        lock(&self.queue).start(queued, now);
    }

    /// One sequence left the queue for good. Nothing if it has left before.
    pub(crate) fn leave_queue(&self, queued: QueueEntry) {
        lock(&self.queue).leave(queued);
    }

    /// Sequences that wait for their first step, and their prompt tokens.
    pub(crate) fn queue(&self) -> (usize, usize) {
        let queue = lock(&self.queue);
        (queue.waiting(), queue.waiting_tokens())
    }

    /// How long a new request would wait at the recent pace, if that is known.
    pub(crate) fn estimated_wait(&self, now: Time) -> Option<Time> {
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

/// What is needed to end a request.
struct Ending {
    keys: Vec<RequestId>,
    queued: Vec<QueueEntry>,
    mail: Vec<Weak<Mutex<Mail>>>,
}

impl Entry {
    /// Marks the request as ended from outside; `None` if it was marked before.
    fn end(&mut self) -> Option<Ending> {
        let before = std::mem::replace(&mut self.cancelled, true);
        (!before).then(|| Ending {
            keys: self.keys.clone(),
            queued: std::mem::take(&mut self.queued),
            mail: std::mem::take(&mut self.mail),
        })
    }
}

/// The submission, if the loop has not read it yet. `place` is what the loop still has to give back for it.
fn take_back(mail: &Weak<Mutex<Mail>>, place: Option<QueueEntry>) -> Option<Box<Submission>> {
    let mail = mail.upgrade()?;
    let mut mail = lock(&mail);
    match std::mem::replace(&mut *mail, Mail::Read) {
        Mail::Sealed(submission, _) => {
            *mail = Mail::TakenBack { place };
            Some(submission)
        }
        other => {
            *mail = other;
            None
        }
    }
}

/// A request's presence among those in flight. Dropping it frees the request's name and, unless the request
/// is complete, cancels what still runs of it.
#[derive(Debug)]
pub(crate) struct Ticket {
    admission: Arc<Admission>,
    name: RequestName,
    has_left: bool,
}

impl Ticket {
    /// The receiver is about to get its last event. If the request was `complete`, there is nothing left to
    /// cancel. True if it was aborted before, whose caller was told that it ends in
    /// [`EngineError::Cancelled`].
    pub(crate) fn leave(mut self, complete: bool) -> bool {
        self.forget(complete)
    }

    fn forget(&mut self, complete: bool) -> bool {
        if std::mem::replace(&mut self.has_left, true) {
            return false;
        }
        let mut book = lock(&self.admission.book);
        let entry = book.in_flight.remove(&self.name);
        if book.in_flight.is_empty() {
            self.admission.emptied.notify_waiters();
        }
        let Some(mut entry) = entry else {
            return false;
        };
        let aborted = entry.cancelled;
        if let Some(ending) = entry.end().filter(|_| !complete) {
            let why = CancelledBy::Departure;
            self.admission.end(book, vec![ending], why);
        }
        aborted
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.forget(false);
    }
}

/// The maps behind these locks are consistent between any two statements, so a panic elsewhere
/// while one was held leaves nothing half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
