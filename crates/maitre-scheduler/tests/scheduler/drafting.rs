//! The drafter of the toy model: how many tokens each request wants to draft next, and how many of those turn
//! out right. Both depend on a seed, the request and how far it is, so that they stay the same when a failing
//! random run is made shorter.

use maitre_scheduler::RequestId;

use crate::life::Random;

/// Wishes and luck.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Drafting {
    pub(crate) seed: u64,
    /// Whether any draft is ever right.
    pub(crate) lucky: bool,
}

impl Drafting {
    /// Mostly a few, sometimes none, now and then as many as there can be.
    pub(crate) fn wish(self, request: RequestId, known: usize) -> usize {
        let mut random = self.random(request, known);
        match random.below(10) {
            0 | 1 => 0,
            2 => usize::MAX,
            _ => 1 + random.below(7),
        }
    }

    /// How many of `drafts` are right: all, none, or some.
    pub(crate) fn right(self, request: RequestId, known: usize, drafts: usize) -> usize {
        let mut random = self.random(request, known);
        random.below(100);
        match random.below(4) {
            _ if !self.lucky => 0,
            0 => 0,
            1 => drafts,
            _ => random.below(drafts + 1),
        }
    }

    fn random(self, request: RequestId, known: usize) -> Random {
        let place = (request.0 << 32) ^ known as u64;
        Random(self.seed ^ place.wrapping_mul(0x9e6d_62d0_6f6a_02d5))
    }
}
