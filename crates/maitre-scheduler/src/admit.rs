//! Admission: which request leaves the queue next, and what it finds of its prompt in the cache.
//!
//! The policy names the next requests, those that it ranks alike. Among them, one whose prefix is cached goes
//! first: it costs less, and its prefix may be gone later. But no request is overtaken in that way for longer
//! than [`SchedulerConfig::reorder_within`](crate::SchedulerConfig::reorder_within).

use std::collections::HashMap;
use std::ops::Range;

use maitre_kv::{ForkStart, PrefixHit, SequenceStart};

use crate::policy::Service;
use crate::request::{Place, Request};
use crate::schedule::{Sketch, chunk};
use crate::transfers::Found;
use crate::{Admitted, Scheduler, Time};

/// Equals that are compared by their cached prefix.
const COMPARED: usize = 16;

/// What an admitted request starts from.
struct Taken {
    found: Found,
    /// Positions to be had from elsewhere.
    arriving: Range<usize>,
}

/// An admission that failed for want of blocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Blocked {
    /// The request that was first.
    place: Place,
    free_pages: usize,
    running: usize,
}

impl Blocked {
    /// Whether it would fail again, if `place` is first now: no more pages are free, and no fewer requests run that need
    /// one in reserve.
    pub(crate) fn holds(self, place: Place, free_pages: usize, running: usize) -> bool {
        self.place == place && free_pages <= self.free_pages && running >= self.running
    }
}

/// Cached blocks of waiting requests, counted while one step is planned.
type Counted = HashMap<Place, usize>;

impl Scheduler {
    /// Admits while budget, `max_seqs` and blocks last, and only requests whose
    /// [`prompt_rank`](crate::Policy::prompt_rank) is smaller than `before`. No request overtakes one that has to
    /// wait for blocks. That one is tried again only when more blocks are free, or when fewer running requests need
    /// one in reserve.
    pub(crate) fn admit(&mut self, now: Time, sketch: &mut Sketch, before: Option<i128>) {
        let mut counted = Counted::new();
        while sketch.budget > 0 && self.num_admitted() < self.config.max_seqs {
            let (free_pages, running) = (self.kv.free_pages(), self.num_admitted());
            let Some(&place) = self.policy.next(1).first() else {
                return;
            };
            if before.is_some_and(|before| !self.goes_before(place, before)) {
                return;
            }
            if self
                .blocked
                .is_some_and(|blocked| blocked.holds(place, free_pages, running))
            {
                return;
            }
            let admitted = self
                .choose(now, &mut counted)
                .into_iter()
                .flatten()
                .any(|place| {
                    before.is_none_or(|before| self.goes_before(place, before))
                        && self.start(place, sketch)
                });
            self.blocked = (!admitted).then_some(Blocked {
                place,
                free_pages,
                running,
            });
            if !admitted {
                return;
            }
        }
    }

    fn goes_before(&self, place: Place, rank: i128) -> bool {
        let request = self.waiting.get(&place);
        request.is_some_and(|request| self.prompt_rank(place, request) < rank)
    }

    /// The request that should go next, and the one to take if that one does not fit.
    fn choose(&self, now: Time, counted: &mut Counted) -> [Option<Place>; 2] {
        let equals = self.policy.next(COMPARED);
        let Some(&first) = equals.first() else {
            return [None, None];
        };
        let waited = now.saturating_sub(first.arrival());
        if equals.len() == 1 || waited >= self.config.reorder_within || self.kv.named_pages() == 0 {
            return [Some(first), None];
        }
        let mut cached = |place| {
            *counted
                .entry(place)
                .or_insert_with(|| self.cached_blocks(place))
        };
        let mut best = (first, cached(first));
        for &place in &equals[1..] {
            let cached = cached(place);
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
            .find_blocks(&request.chain, &request.tokens, self.host_pays(1.0));
        hit.blocks
    }

    /// Pages that an admission leaves free: for each admitted request those of one more block.
    pub(crate) fn headroom(&self) -> usize {
        self.num_admitted() * self.config.kv.num_block_groups()
    }

    /// Requests that hold blocks: those that run, and those that will when more of their blocks have come.
    pub(crate) fn num_admitted(&self) -> usize {
        self.running.len() + self.awaiting.len()
    }

    /// Admits one request if its blocks fit, and plans its first span, or asks for what is elsewhere.
    fn start(&mut self, place: Place, sketch: &mut Sketch) -> bool {
        let Some(Taken { found, arriving }) = self.take_blocks(place) else {
            return false;
        };
        let Some(mut request) = self.dequeue(place) else {
            return false;
        };
        self.timers.forget_queue_deadline(place, &mut request);
        request.fork_of = None;
        if arriving.is_empty() {
            request.source = None;
            self.begin(place, request, found, sketch);
        } else {
            self.await_blocks(place, request, arriving, sketch);
        }
        true
    }

    /// Plans the first span of a request that has its blocks.
    pub(crate) fn begin(
        &mut self,
        place: Place,
        mut request: Request,
        found: Found,
        sketch: &mut Sketch,
    ) {
        let known = request.tokens.len();
        request.prefill_len = known;
        request.cached = found.tokens();
        // The last token is computed in any case: its logits are wanted.
        request.committed = request.cached.min(known - 1);
        request.scheduled = request.committed;
        let computed = request.committed;
        self.charge(&mut request, computed);
        let (again, forked) = (request.preemptions > 0, found.forked > 0);
        let cached = found.cached.min(request.committed);
        let received = found.received.min(request.committed - cached);
        if request.read_cache && self.config.kv.prefix_cache && !forked && !again {
            self.counts.prefix_queries += known as u64;
            self.counts.prefix_hits += cached as u64;
        }
        sketch.plan.admitted.push(Admitted {
            request: request.id,
            cached_tokens: cached,
            received_tokens: received,
            forked_tokens: request.committed - cached - received,
            known_tokens: known,
            again,
        });
        let num_tokens = chunk(&mut self.kv, place, &request, sketch.budget);
        sketch.add_span(&mut self.kv, place, &mut request, num_tokens);
        self.running.insert(place, request);
        if self.has_computed_prompt(place) {
            self.release_forks(place);
        }
    }

    /// Takes the blocks of a waiting request: those of its parent, those that are cached, or new ones.
    /// Returns nothing if there are too few blocks.
    fn take_blocks(&mut self, place: Place) -> Option<Taken> {
        let request = self.waiting.get(&place)?;
        let sequence = place.sequence();
        let reserve = request.reserve(request.tokens.len(), self.config.kv.block_size as usize);
        let (ahead, headroom) = (self.config.ahead(), self.headroom());
        // A parent that is leaving still has a table, but its contents must not be shared any more.
        if let Some(parent) = request.fork_of
            && self.has_computed_prompt(parent)
            && self.kv.can_fork(parent.sequence(), request.prompt_len)
        {
            let (parent, shared) = (parent.sequence(), request.prompt_len);
            let start = ForkStart {
                tokens: shared,
                reserve,
                ahead,
                headroom,
            };
            let forked = self.kv.fork(parent, sequence, start);
            let found = Found {
                forked: shared,
                ..Found::default()
            };
            return forked.is_ok().then_some(Taken {
                found,
                arriving: 0..0,
            });
        }
        let (hit, arriving) = self.find(request);
        let start = SequenceStart {
            tokens: &request.tokens,
            chain: &request.chain,
            hit,
            reserve,
            ahead,
            headroom,
        };
        // The tables have to take what arrives and the token behind it.
        let covered = match arriving.is_empty() {
            true => 0,
            false => self.kv.will_cover(&start).saturating_sub(1),
        };
        let arriving = arriving.start..arriving.end.min(covered).max(arriving.start);
        let cached = match arriving.is_empty() {
            true => self.kv.admit(sequence, &start).ok()?,
            false => self.kv.admit_to_be_filled(sequence, &start).ok()?,
        };
        // After a step was taken back, a copy may be to come that still reads one of the new blocks.
        let may_arrive = !arriving.is_empty()
            && !self.kv.is_read_by_planned_moves(sequence)
            && !self.in_flight.copies_out_of(self.kv.held_pages(sequence));
        Some(Taken {
            found: Found {
                cached,
                ..Found::default()
            },
            arriving: if may_arrive { arriving } else { 0..0 },
        })
    }

    /// What is cached of a waiting request, and which positions behind it are worth a transfer: those of whole blocks,
    /// if more comes than is cached.
    fn find(&self, request: &Request) -> (PrefixHit, Range<usize>) {
        let (chain, tokens, host) = (&request.chain, &request.tokens, self.host_pays(1.0));
        let block_size = self.config.kv.block_size as usize;
        let reads = request.read_cache;
        // A state would have to come, too.
        if request.source.is_some() && !self.kv.has_state() {
            let whole = reads.then(|| self.kv.find_blocks(chain, tokens, host));
            let whole = whole.unwrap_or_default();
            let arriving = Self::worth_a_transfer(request, whole.tokens(block_size));
            let hit = reads.then(|| self.kv.find_prefix(chain, tokens, host));
            let found = hit.map_or(0, |hit| hit.tokens(block_size));
            if !arriving.is_empty() && arriving.end > found {
                return (whole, arriving);
            }
        }
        let hit = reads.then(|| self.kv.find_prefix(chain, tokens, host));
        (hit.unwrap_or_default(), 0..0)
    }

    /// Puts the tokens behind the `found` first ones, which an admitted request is about to compute, on its tenant's
    /// account, unless they were before: what a preemption costs is not the tenant's doing. A request that awaits blocks
    /// is charged at once, or its tenant would be next again.
    pub(crate) fn charge(&mut self, request: &mut Request, found: usize) {
        let known = request.tokens.len();
        let new = known - request.paid.max(found).min(known);
        request.paid = request.tokens.len();
        self.policy.served(Service {
            tenant: request.tenant,
            weight: request.weight,
            prompt_tokens: new,
            output_tokens: 0,
        });
    }
}
