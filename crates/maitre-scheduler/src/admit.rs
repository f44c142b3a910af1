//! Admission: who leaves the queue, with what it finds of its beginning.
//!
//! The policy names the next requests that are equals to it. Among them, one whose prefix is cached goes
//! first: it costs less, and its prefix may be gone later. But none is overtaken in that way for longer than
//! [`SchedulerConfig::reorder_within`](crate::SchedulerConfig::reorder_within).

use maitre_kv::{Admission, PrefixHit};

use crate::policy::Service;
use crate::request::{Place, Request};
use crate::schedule::Draft;
use crate::{Admitted, Scheduler, Time};

/// Equals that are compared by their cached prefix.
const COMPARED: usize = 16;

impl Scheduler {
    /// Admits while budget, seats and blocks last. Nobody overtakes a request that has to wait for blocks.
    pub(crate) fn admit(&mut self, now: Time, draft: &mut Draft) {
        while draft.budget > 0 && self.running.len() < self.config.max_seqs {
            let admitted = self
                .choose(now)
                .into_iter()
                .flatten()
                .any(|place| self.seat(place, draft));
            if !admitted {
                return;
            }
        }
    }

    /// The request that should go next, and the one to take if that one does not fit.
    fn choose(&self, now: Time) -> [Option<Place>; 2] {
        let equals = self.policy.next(COMPARED);
        let Some(&first) = equals.first() else {
            return [None, None];
        };
        let waited = now.saturating_sub(first.arrival());
        if equals.len() == 1 || waited >= self.config.reorder_within || self.kv.named_blocks() == 0
        {
            return [Some(first), None];
        }
        let mut best = (first, self.cached_blocks(first));
        for &place in &equals[1..] {
            let cached = self.cached_blocks(place);
            if cached > best.1 {
                best = (place, cached);
            }
        }
        [Some(best.0), (best.0 != first).then_some(first)]
    }

    fn cached_blocks(&self, place: Place) -> usize {
        let Some(request) = self.waiting.get(&place).filter(|it| it.read_cache) else {
            return 0;
        };
        let hit = self
            .kv
            .find_prefix(&request.chain, &request.tokens, self.host_pays(1.0));
        hit.pool_blocks + hit.host_blocks
    }

    /// Admits one request if its blocks fit, and plans its first span.
    fn seat(&mut self, place: Place, draft: &mut Draft) -> bool {
        let Some(cached) = self.take_blocks(place) else {
            return false;
        };
        let Some(mut request) = self.dequeue(place) else {
            return false;
        };
        self.timers.forget_queue_deadline(place, &mut request);
        let known = request.tokens.len();
        request.fork_of = None;
        request.prefill_len = known;
        request.cached = cached;
        // The last token is computed in any case: its logits are wanted.
        request.committed = cached.min(known - 1);
        request.scheduled = request.committed;
        self.charge(&mut request);
        if request.read_cache {
            self.counts.prefix_queries += known as u64;
            self.counts.prefix_hits += request.committed as u64;
        }
        draft.plan.admitted.push(Admitted {
            request: request.id,
            cached_tokens: request.committed,
            known_tokens: known,
            again: request.preemptions > 0,
        });
        let num_tokens = request.unscheduled().min(draft.budget);
        draft.add_span(&mut self.kv, place, &mut request, num_tokens);
        self.running.insert(place, request);
        if self.has_computed_prompt(place) {
            self.release_forks(place);
        }
        true
    }

    /// Takes the blocks of a waiting request: those of its parent, those that are cached, or new ones.
    /// Returns how many positions need no computing, or nothing if there are too few blocks.
    fn take_blocks(&mut self, place: Place) -> Option<usize> {
        let request = self.waiting.get(&place)?;
        let sequence = place.sequence();
        let reserve = match request.has_reservation() {
            true => request.full_len,
            false => request.tokens.len() + 1,
        };
        let headroom = self.running.len();
        // A parent that is leaving still has a table, but what is in it is nobody's business any more.
        if let Some(parent) = request.fork_of
            && self.has_computed_prompt(parent)
            && self.kv.can_fork(parent.sequence(), request.prompt_len)
        {
            let (parent, shared) = (parent.sequence(), request.prompt_len);
            let forked = self.kv.fork(parent, sequence, shared, reserve, headroom);
            return forked.is_ok().then_some(shared);
        }
        let hit = if request.read_cache {
            self.kv
                .find_prefix(&request.chain, &request.tokens, self.host_pays(1.0))
        } else {
            PrefixHit::default()
        };
        let admission = Admission {
            tokens: &request.tokens,
            chain: &request.chain,
            hit,
            reserve,
            headroom,
        };
        self.kv.admit(sequence, &admission).ok()
    }

    /// Puts the tokens that an admitted request is about to compute on its tenant's account, unless they
    /// were before: what a preemption costs is not the tenant's doing.
    fn charge(&mut self, request: &mut Request) {
        let new = request.tokens.len()
            - request
                .paid
                .max(request.committed)
                .min(request.tokens.len());
        request.paid = request.tokens.len();
        self.policy.served(Service {
            tenant: request.tenant,
            weight: request.weight,
            prompt_tokens: new,
            output_tokens: 0,
        });
    }
}
