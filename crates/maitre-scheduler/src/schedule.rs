//! Planning a step: expire, decode, go on with prefills, admit.
//!
//! Who needs blocks is kept simple by one rule: **admission reserves blocks for all tokens known by
//! then**. A prefill therefore never stops halfway for want of blocks, and only a decode that enters a
//! new block can run out. Admission also leaves one free block for every request that already runs, so
//! each of them can decode `block_size` more tokens before anybody has to be preempted; without
//! it, a newcomer would take the last blocks and lose them, with all its work, a step later.

use crate::in_flight::SpanInFlight;
use crate::request::{Place, Request};
use crate::{Expired, PlannedSpan, Preemption, Scheduler, StepId, StepPlan, Time};

/// Steps that may be planned before the oldest of them is committed: while one runs, the next can be
/// prepared.
pub const MAX_STEPS_IN_FLIGHT: usize = 2;

/// A plan in the making.
struct Draft {
    plan: StepPlan,
    spans: Vec<SpanInFlight>,
    /// Tokens that may still be planned.
    budget: usize,
}

impl Draft {
    fn new(step_id: StepId, budget: usize) -> Self {
        let plan = StepPlan {
            step_id,
            spans: Vec::new(),
            preempted: Vec::new(),
            expired: Vec::new(),
        };
        Self {
            plan,
            spans: Vec::new(),
            budget,
        }
    }
}

impl Scheduler {
    /// Plans the next step at time `now`.
    ///
    /// A plan with spans is in flight until [`Scheduler::commit`]. A second step may be planned
    /// meanwhile: it goes on with prefills and with requests that are not in the first one, but nobody
    /// is preempted while a step is in flight. With [`MAX_STEPS_IN_FLIGHT`] steps in flight, the plan
    /// only says who expired.
    pub fn schedule(&mut self, now: Time) -> StepPlan {
        let mut draft = Draft::new(self.next_step_id(), self.config.max_batched_tokens);
        self.expire(now, &mut draft);
        if self.in_flight.len() < MAX_STEPS_IN_FLIGHT {
            self.plan_decodes(&mut draft);
            self.plan_prefills(&mut draft);
            self.admit(&mut draft);
        }
        if !draft.spans.is_empty() {
            self.in_flight.launch(draft.plan.step_id, draft.spans);
        }
        draft.plan
    }

    fn expire(&mut self, now: Time, draft: &mut Draft) {
        while let Some((place, why)) = self.timers.first_due(now) {
            let Some(request) = self.remove(place) else {
                return;
            };
            draft.plan.expired.push(Expired {
                request: request.id,
                why,
            });
        }
    }

    /// One token for every decoding request, by arrival. The first one that finds no block while a step is
    /// in flight ends the round: somebody may have to be preempted for it, which takes an empty
    /// pipeline, and that would never come if the later arrivals went on.
    fn plan_decodes(&mut self, draft: &mut Draft) {
        let ready: Vec<Place> = self
            .running
            .iter()
            .filter(|(_, request)| request.is_decoding() && request.unscheduled() > 0)
            .map(|(&place, _)| place)
            .collect();
        for place in ready {
            if self.make_room(place, draft) {
                self.plan_span(place, 1, draft);
            } else if !self.in_flight.is_empty() {
                return;
            }
        }
    }

    /// Extends the table of a decoding request by its next token, at the cost of the latest arrivals.
    /// There is no room if that turns out to be the request itself, now or earlier in this round, or
    /// if a step is in flight.
    fn make_room(&mut self, place: Place, draft: &mut Draft) -> bool {
        let Some(request) = self.running.get(&place) else {
            return false;
        };
        let (needed_by, len) = (request.id, request.scheduled + 1);
        while self.kv.grow(place.sequence(), len).is_err() {
            if !self.in_flight.is_empty() {
                return false;
            }
            let Some((victim, mut request)) = self.running.pop_last() else {
                return false;
            };
            draft.plan.preempted.push(Preemption {
                request: request.id,
                needed_by,
                lost_tokens: request.restart(),
                freed_blocks: self.kv.release(victim.sequence()),
            });
            self.preemptions += 1;
            self.waiting.insert(victim, request);
            if victim == place {
                return false;
            }
        }
        true
    }

    /// Goes on with the prompts in progress, by arrival, until the budget ends.
    fn plan_prefills(&mut self, draft: &mut Draft) {
        let in_progress: Vec<(Place, usize)> = self
            .running
            .iter()
            .filter(|(_, request)| !request.is_decoding())
            .map(|(&place, request)| (place, request.unscheduled()))
            .collect();
        for (place, unscheduled) in in_progress {
            let num_tokens = unscheduled.min(draft.budget);
            if num_tokens == 0 {
                return;
            }
            self.plan_span(place, num_tokens, draft);
        }
    }

    /// Admits from the head of the queue while budget, seats and blocks last. Nobody overtakes a head
    /// that has to wait for blocks.
    fn admit(&mut self, draft: &mut Draft) {
        while draft.budget > 0 && self.running.len() < self.config.max_seqs {
            let Some((&place, head)) = self.waiting.first_key_value() else {
                return;
            };
            let known = head.tokens.len();
            let headroom = self.running.len();
            if self.kv.blocks_for(known + 1) + headroom > self.kv.free_blocks() {
                return;
            }
            if self.kv.grow(place.sequence(), known).is_err() {
                return;
            }
            let Some((place, mut request)) = self.waiting.pop_first() else {
                return;
            };
            self.timers.forget_queue_deadline(place, &mut request);
            request.prefill_len = known;
            self.running.insert(place, request);
            self.plan_span(place, known.min(draft.budget), draft);
        }
    }

    /// Adds the next `num_tokens` known tokens of a running request, whose table covers them.
    fn plan_span(&mut self, place: Place, num_tokens: usize, draft: &mut Draft) {
        let Some(request) = self.running.get_mut(&place) else {
            return;
        };
        let positions = request.scheduled..request.scheduled + num_tokens;
        let samples = positions.end == request.tokens.len();
        let blocks = self.kv.blocks_for(positions.end);
        let table = self.kv.block_table(place.sequence());
        draft.plan.spans.push(PlannedSpan {
            request: request.id,
            first_position: positions.start,
            tokens: request.tokens[positions.clone()].to_vec(),
            context_len: positions.end,
            block_table: table.iter().take(blocks).copied().collect(),
            slots: self.config.kv.slots(table, positions.clone()).collect(),
            output_positions: output_positions(request, num_tokens, samples),
            samples,
        });
        draft.spans.push(SpanInFlight {
            place,
            request: request.id,
            num_tokens,
            samples,
        });
        draft.budget -= num_tokens;
        request.scheduled = positions.end;
    }
}

/// The offsets in the request's next span whose logits somebody still waits for.
fn output_positions(request: &Request, num_tokens: usize, samples: bool) -> std::ops::Range<usize> {
    if request.prompt_logits {
        let undelivered = request.delivered.saturating_sub(request.scheduled);
        if undelivered < num_tokens {
            return undelivered..num_tokens;
        }
    } else if samples {
        return num_tokens - 1..num_tokens;
    }
    0..0
}
