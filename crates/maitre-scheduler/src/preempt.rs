//! Preemption: when blocks run out, one running request gives its blocks back and waits again (PagedAttention:
//! Kwon et al. 2023, section 4.5).
//!
//! The victim is, among the running requests that the policy ranks lowest (those of the lowest priority, as a rule), the
//! one with the least work to lose. One whose blocks have come from elsewhere and that has not started counts as
//! running; one whose blocks are on their way is never the victim. What
//! it had computed is not thrown away: its named blocks stay idle until they are needed, go to the host tier
//! if there is one, and are found again at its next admission; only the rest is computed again.
//!
//! No request is preempted for ever, because the second preemption earns it a reservation: its next admission
//! takes some blocks beyond those it needs at once. Each further preemption doubles them, until the request holds
//! all blocks it may ever need. The victim is chosen among requests without a reservation as long as one of them
//! runs. A request that has reserved all its blocks is never preempted: it never asks for a block, and the
//! request that asks has not reserved all of its own, so it can be the victim itself. So a request is preempted
//! at most `3 + log2(blocks of its full length)` times.

use std::cmp::Reverse;

use crate::request::Place;
use crate::schedule::Sketch;
use crate::transfers::Awaiting;
use crate::{Preemption, RequestId, Scheduler};

impl Scheduler {
    /// Extends the table of a decoding request by its next token, at the cost of others if need be, unless
    /// it turns out to be the victim itself, now or earlier in this round. No step is in flight.
    pub(crate) fn make_space(&mut self, place: Place, sketch: &mut Sketch) {
        let Some(request) = self.running.get(&place) else {
            return;
        };
        let (needed_by, len) = (request.id, request.scheduled + 1);
        // What is kept for forks alone goes first.
        self.kv.release_behind(place.sequence(), request.committed);
        while self.kv.grow(place.sequence(), len).is_err() {
            let Some(victim) = self.victim() else {
                return;
            };
            self.preempt(victim, needed_by, sketch);
            if victim == place {
                return;
            }
        }
    }

    /// Who loses its blocks next: what others hold too is not lost. Of two with as little to lose, the
    /// later arrival.
    fn victim(&self) -> Option<Place> {
        let block_size = self.config.kv.block_size as usize;
        let running = self
            .running
            .iter()
            .map(|(place, it)| (place, it, it.committed));
        let arrived = self.awaiting.iter();
        let arrived = arrived.filter_map(|(place, it)| Some((place, &it.request, it.arrived()?)));
        let ranked = running.chain(arrived).map(|(&place, request, computed)| {
            let shared = self.kv.shared_blocks(place.sequence()) * block_size;
            let lost = computed.saturating_sub(shared);
            let reservation = request.reservation(block_size);
            let rank = self.policy.keep_rank(&request.waiting(place));
            let key = (reservation, rank, lost, Reverse(place));
            (key, place)
        });
        ranked.min().map(|(_, place)| place)
    }

    fn preempt(&mut self, victim: Place, needed_by: RequestId, sketch: &mut Sketch) {
        let arrived = || self.awaiting.remove(&victim).map(Awaiting::into_request);
        let Some(mut request) = self.running.remove(&victim).or_else(arrived) else {
            return;
        };
        request.preemptions += 1;
        let preemption = Preemption {
            request: request.id,
            needed_by,
            lost_tokens: request.restart(),
            freed_blocks: self.kv.release(victim.sequence()),
            times: request.preemptions,
        };
        self.counts.preemptions += 1;
        self.counts.preempted_tokens += preemption.lost_tokens as u64;
        sketch.plan.preempted.push(preemption);
        self.enqueue(victim, request);
    }
}
