//! Policies that rank a request once and for all by what it brings with it.

use std::collections::BTreeSet;
use std::fmt;

use super::{Policy, QueueOrder, Waiting};
use crate::request::{Place, Time};

/// How long a request without a deadline counts as having.
const IMPLIED_DEADLINE: Time = Time::from_secs(60);

type Rank = fn(&Waiting) -> i128;

/// Admits by a fixed rank, smaller first, and by arrival within one. Prompts in progress go by the same rank.
#[derive(Clone)]
pub struct Ranked {
    rank: Rank,
    keep: Rank,
    order: QueueOrder,
    waiting: BTreeSet<(i128, Place)>,
}

impl Ranked {
    fn by(rank: Rank, order: QueueOrder) -> Self {
        Self {
            rank,
            keep: |request| i128::from(request.priority),
            order,
            waiting: BTreeSet::new(),
        }
    }

    /// First come, first served: all have the same rank.
    pub fn fcfs() -> Self {
        Self::by(|_| 0, QueueOrder::Arrival)
    }

    /// The highest priority first.
    pub fn priority() -> Self {
        Self::by(
            |request| -i128::from(request.priority),
            QueueOrder::Overtaking,
        )
    }

    /// The earliest deadline first. When blocks run out, the latest deadline is preempted, whatever the priorities.
    pub fn deadline() -> Self {
        Self {
            keep: |request| -deadline_of(request),
            ..Self::by(deadline_of, QueueOrder::Overtaking)
        }
    }
}

/// In nanoseconds.
fn deadline_of(request: &Waiting) -> i128 {
    let implied = request.place.arrival().saturating_add(IMPLIED_DEADLINE);
    // A Duration has less than 2^94 nanoseconds.
    request.deadline.unwrap_or(implied).as_nanos() as i128
}

impl Policy for Ranked {
    fn enter(&mut self, request: &Waiting) {
        self.waiting.insert(((self.rank)(request), request.place));
    }

    fn leave(&mut self, request: &Waiting) {
        self.waiting.remove(&((self.rank)(request), request.place));
    }

    fn next(&self, limit: usize) -> Vec<Place> {
        let Some(&(best, _)) = self.waiting.first() else {
            return Vec::new();
        };
        let equals = self.waiting.iter().take_while(|(rank, _)| *rank == best);
        equals.take(limit).map(|&(_, place)| place).collect()
    }

    fn prompt_rank(&self, request: &Waiting) -> i128 {
        (self.rank)(request)
    }

    fn keep_rank(&self, running: &Waiting) -> i128 {
        (self.keep)(running)
    }

    fn queue_order(&self) -> QueueOrder {
        self.order
    }
}

impl fmt::Debug for Ranked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ranked")
            .field("waiting", &self.waiting)
            .finish_non_exhaustive()
    }
}
