//! The link over which keys and values come from another replica.
//!
//! Transfers go over it one after the other, in the order in which admissions ask for them.

use std::collections::VecDeque;

use maitre_scheduler::{PlannedTransfer, Time, TransferId};

/// A transfer on its way.
#[derive(Debug, Clone, Copy)]
pub(super) struct UnderWay {
    pub(super) ends: Time,
    pub(super) id: TransferId,
    pub(super) tokens: usize,
}

/// The link into one replica.
#[derive(Debug, Clone)]
pub(super) struct Link {
    seconds_per_token: f64,
    under_way: VecDeque<UnderWay>,
    free_at: Time,
}

impl Link {
    /// One over which a token's keys and values take so long.
    pub(super) fn new(seconds_per_token: f64) -> Self {
        Self {
            seconds_per_token,
            under_way: VecDeque::new(),
            free_at: Time::ZERO,
        }
    }

    /// Begins as soon as the link is free. Returns how many tokens it is for.
    pub(super) fn begin(&mut self, transfer: &PlannedTransfer, now: Time) -> u64 {
        let tokens = transfer.positions.len();
        let seconds = self.seconds_per_token * tokens as f64;
        let took = Time::try_from_secs_f64(seconds).unwrap_or(Time::MAX);
        self.free_at = self.free_at.max(now).saturating_add(took);
        self.under_way.push_back(UnderWay {
            ends: self.free_at,
            id: transfer.id,
            tokens,
        });
        tokens as u64
    }

    /// When the next transfer ends.
    pub(super) fn next_end(&self) -> Option<Time> {
        self.under_way.front().map(|it| it.ends)
    }

    /// A transfer that has ended by `now`.
    pub(super) fn take_ended(&mut self, now: Time) -> Option<UnderWay> {
        self.next_end().filter(|&ends| ends <= now)?;
        self.under_way.pop_front()
    }
}
