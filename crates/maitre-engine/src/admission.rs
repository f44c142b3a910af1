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
use crate::command::Command;

/// Shared by the handle, the step loop and every [`Ticket`].
#[derive(Debug)]
pub(crate) struct Admission {
    max_queue: usize,
    waiting: AtomicUsize,
    draining: AtomicBool,
    in_flight: Mutex<HashMap<String, Vec<RequestId>>>,
    emptied: Notify,
    pace: Mutex<Pace>,
}

/// How fast the queue moves: a moving average of the time between two starts.
#[derive(Debug, Default)]
struct Pace {
    last_start: Option<Time>,
    mean_gap: Option<Duration>,
}

const SHORTEST_RETRY: Duration = Duration::from_millis(50);
const LONGEST_RETRY: Duration = Duration::from_secs(30);
const RETRY_WITHOUT_HISTORY: Duration = Duration::from_secs(1);

impl Admission {
    pub(crate) fn new(max_queue: usize) -> Self {
        Self {
            max_queue,
            waiting: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            in_flight: Mutex::new(HashMap::new()),
            emptied: Notify::new(),
            pace: Mutex::new(Pace::default()),
        }
    }

    /// Takes a place in the queue for each of `keys` and enters `request_id` among those in flight.
    pub(crate) fn enter(
        self: &Arc<Self>,
        request_id: &str,
        keys: &[RequestId],
        commands: Sender<Command>,
    ) -> Result<Ticket, EngineError> {
        let mut in_flight = lock(&self.in_flight);
        // Read under the lock: after `refuse_new` returns, nobody enters any more.
        if self.draining.load(Ordering::SeqCst) {
            return Err(EngineError::Draining);
        }
        if in_flight.contains_key(request_id) {
            return Err(EngineError::DuplicateRequest {
                request_id: request_id.to_owned(),
            });
        }
        self.waiting
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |waiting| {
                (waiting + keys.len() <= self.max_queue).then_some(waiting + keys.len())
            })
            .map_err(|_| EngineError::QueueFull {
                limit: self.max_queue,
                retry_after: self.retry_after(),
            })?;
        in_flight.insert(request_id.to_owned(), keys.to_vec());
        Ok(Ticket {
            admission: Arc::clone(self),
            request_id: request_id.to_owned(),
            commands,
            completed: false,
        })
    }

    /// One request left the queue, to run (`started`) or for good.
    pub(crate) fn leave_queue(&self, started: Option<Time>) {
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        if let Some(now) = started {
            lock(&self.pace).start(now);
        }
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    pub(crate) fn in_flight(&self) -> usize {
        lock(&self.in_flight).len()
    }

    pub(crate) fn keys_of(&self, request_id: &str) -> Option<Vec<RequestId>> {
        lock(&self.in_flight).get(request_id).cloned()
    }

    pub(crate) fn all_keys(&self) -> Vec<RequestId> {
        lock(&self.in_flight).values().flatten().copied().collect()
    }

    pub(crate) fn refuse_new(&self) {
        let _in_flight = lock(&self.in_flight);
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

impl Pace {
    fn start(&mut self, now: Time) {
        if let Some(last) = self.last_start.replace(now) {
            let gap = now.saturating_sub(last);
            // A quarter of the newest gap: settles within about eight starts.
            self.mean_gap = Some(self.mean_gap.map_or(gap, |mean| (mean * 3 + gap) / 4));
        }
    }
}

/// A request's presence in the house. Dropping it frees the request's name and, unless the request
/// is complete, cancels what still runs of it.
#[derive(Debug)]
pub(crate) struct Ticket {
    admission: Arc<Admission>,
    request_id: String,
    commands: Sender<Command>,
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
        let mut in_flight = lock(&self.admission.in_flight);
        let keys = in_flight.remove(&self.request_id).unwrap_or_default();
        if in_flight.is_empty() {
            self.admission.emptied.notify_waiters();
        }
        drop(in_flight);
        if !self.completed {
            // A send error means that the loop is gone, and with it everything there was to cancel.
            let _ = self.commands.send(Command::Cancel {
                keys,
                notify: false,
            });
        }
    }
}

/// The maps behind these locks are consistent between any two statements, so a panic elsewhere
/// while one was held leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    fn door(
        max_queue: usize,
    ) -> (
        Arc<Admission>,
        Sender<Command>,
        std::sync::mpsc::Receiver<Command>,
    ) {
        let (sender, receiver) = channel();
        (Arc::new(Admission::new(max_queue)), sender, receiver)
    }

    #[test]
    fn a_full_queue_refuses_and_names_a_delay() {
        let (door, commands, _loop) = door(2);
        let _first = door
            .enter("a", &[RequestId(1), RequestId(2)], commands.clone())
            .unwrap();
        let refused = door
            .enter("b", &[RequestId(3)], commands.clone())
            .unwrap_err();
        assert_eq!(
            refused,
            EngineError::QueueFull {
                limit: 2,
                retry_after: RETRY_WITHOUT_HISTORY
            }
        );
        door.leave_queue(Some(Time::from_millis(0)));
        door.leave_queue(Some(Time::from_millis(400)));
        let _b = door
            .enter("b", &[RequestId(3), RequestId(4)], commands.clone())
            .unwrap();
        let refused = door.enter("c", &[RequestId(5)], commands).unwrap_err();
        assert_eq!(
            refused,
            EngineError::QueueFull {
                limit: 2,
                retry_after: Duration::from_millis(400)
            }
        );
    }

    #[test]
    fn a_name_is_free_again_once_its_ticket_is_gone() {
        let (door, commands, _loop) = door(8);
        let first = door.enter("a", &[RequestId(1)], commands.clone()).unwrap();
        let duplicate = door
            .enter("a", &[RequestId(2)], commands.clone())
            .unwrap_err();
        assert!(matches!(duplicate, EngineError::DuplicateRequest { .. }));
        first.complete();
        assert!(door.enter("a", &[RequestId(3)], commands).is_ok());
    }

    #[test]
    fn only_an_incomplete_request_is_cancelled_on_drop() {
        let (door, commands, received) = door(8);
        door.enter("a", &[RequestId(1)], commands.clone())
            .unwrap()
            .complete();
        assert!(received.try_recv().is_err());
        drop(door.enter("b", &[RequestId(2)], commands).unwrap());
        assert!(matches!(
            received.try_recv().unwrap(),
            Command::Cancel { keys, notify: false } if keys == [RequestId(2)]
        ));
    }
}
