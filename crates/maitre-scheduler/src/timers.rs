//! The times at which requests end unanswered, ordered so that a step looks only at those that are up.
//!
//! Entries are removed with their request, not skipped later, so the set is as large as the number of
//! live deadlines, and the next one is known exactly.

use std::collections::BTreeSet;

use crate::request::{Place, Request};
use crate::{ExpiredWhy, Time};

/// One time of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Timer {
    at: Time,
    place: Place,
    why: ExpiredWhy,
}

/// The deadlines of all live requests.
#[derive(Debug, Clone, Default)]
pub(crate) struct Timers(BTreeSet<Timer>);

impl Timers {
    pub(crate) fn watch(&mut self, place: Place, request: &Request) {
        self.0.extend(timers_of(place, request));
    }

    pub(crate) fn forget(&mut self, place: Place, request: &Request) {
        for timer in timers_of(place, request) {
            self.0.remove(&timer);
        }
    }

    /// Clears the queue deadline of a request that is being admitted.
    pub(crate) fn forget_queue_deadline(&mut self, place: Place, request: &mut Request) {
        if let Some(at) = request.queue_deadline.take() {
            self.0.remove(&Timer {
                at,
                place,
                why: ExpiredWhy::QueueTimeout,
            });
        }
    }

    pub(crate) fn next(&self) -> Option<Time> {
        self.0.first().map(|timer| timer.at)
    }

    /// The earliest timer that is up at `now`.
    pub(crate) fn first_due(&self, now: Time) -> Option<(Place, ExpiredWhy)> {
        self.0
            .first()
            .filter(|timer| timer.at <= now)
            .map(|timer| (timer.place, timer.why))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

fn timers_of(place: Place, request: &Request) -> impl Iterator<Item = Timer> {
    let deadline = request.deadline.map(|at| Timer {
        at,
        place,
        why: ExpiredWhy::Deadline,
    });
    let queue = request.queue_deadline.map(|at| Timer {
        at,
        place,
        why: ExpiredWhy::QueueTimeout,
    });
    deadline.into_iter().chain(queue)
}
