//! How fast the queue moves, learnt from the requests that have started.
//!
//! Each request that starts shows how long a place in the queue took: its wait, divided by the number of its place.
//! That is learnt whether or not others wait, so a slow spell is forgotten as soon as it is over. A queue that has
//! not moved for a while is taken to be at least as slow as that, whatever was learnt before.

use crate::Time;

const SHORTEST_RETRY: Time = Time::from_millis(50);
const LONGEST_RETRY: Time = Time::from_secs(30);
const RETRY_WITHOUT_HISTORY: Time = Time::from_secs(1);

/// Starts before anything is said of the rate: one alone may be an accident.
const ENOUGH: u32 = 4;

/// A moving average of the time that one place in the queue takes.
#[derive(Debug, Clone, Default)]
pub(super) struct QueueRate {
    mean: Time,
    starts: u32,
    last_start: Time,
}

impl QueueRate {
    /// A sequence started at `now` that had waited so long, with so many `ahead` of it when it came.
    pub(super) fn started(&mut self, now: Time, waited: Time, ahead: usize) {
        let place = waited / number(ahead.saturating_add(1));
        self.starts = self.starts.saturating_add(1);
        // An eighth of the newest, and the plain mean of the first ones.
        let weight = self.starts.min(8);
        self.mean = self.mean.saturating_mul(weight - 1).saturating_add(place) / weight;
        self.last_start = self.last_start.max(now);
    }

    /// How long a new request waits behind `ahead` others, the oldest of which came at `oldest`.
    pub(super) fn wait(&self, now: Time, oldest: Time, ahead: usize) -> Option<Time> {
        let known = (self.starts >= ENOUGH).then_some(self.mean)?;
        let standing = now.saturating_sub(self.last_start.max(oldest));
        Some(
            known
                .max(standing)
                .saturating_mul(number(ahead.saturating_add(1))),
        )
    }

    /// When so many places should be free.
    pub(super) fn retry_after(&self, places: usize) -> Time {
        if self.starts < ENOUGH {
            return RETRY_WITHOUT_HISTORY;
        }
        bounded(self.mean.saturating_mul(number(places)))
    }
}

/// A delay that is neither an invitation to hammer nor to give up.
pub(super) fn bounded(wait: Time) -> Time {
    wait.clamp(SHORTEST_RETRY, LONGEST_RETRY)
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
