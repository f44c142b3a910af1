//! How a world comes to rest: all that is live ends, once, and gives everything back.

use crate::world::{MOST_DEFERRALS, Mishaps, World};

impl World {
    /// Lets everything that is left run to its end. Nothing may be lost, stuck or leaked.
    pub(crate) fn run_to_quiescence(&mut self) {
        // Each step computes a token that has to be computed anyway, except for what is computed again after
        // a preemption, of which there are at most two per request, and what is planned ahead in vain.
        let depth = self.scheduler.config().steps_in_flight;
        let times = 1 + if self.deferring { MOST_DEFERRALS } else { 0 };
        let left = self.live.values();
        let left = left.map(|entry| times * entry.answer.len() + depth);
        let left = left.sum::<usize>() + self.live.len();
        for _ in 0..=3 * left + depth {
            self.settle_oldest();
            match self.pipelined {
                true => self.fill(),
                false => drop(self.schedule()),
            }
            self.commit(&Mishaps::default());
            if !self.scheduler.has_work() {
                break;
            }
        }
        assert!(!self.scheduler.has_work(), "not quiet after {left} steps");
        while !self.in_flight.is_empty() {
            self.commit(&Mishaps::default());
        }
        while !self.transfers.is_empty() {
            self.settle_oldest();
        }
        assert_eq!(self.scheduler.num_transfers(), 0);
        assert_eq!(self.scheduler.kv_usage().used, 0, "blocks leaked");
        let counts = self.scheduler.counts().kv;
        self.tally.swapped_in = counts.swapped_in;
        self.tally.copied = counts.copied;
        self.tally.merged = counts.merged;
        let ended = self.completed.len() + self.ended_otherwise.len();
        assert_eq!(ended as u64, self.num_added, "every request ends once");
    }
}
