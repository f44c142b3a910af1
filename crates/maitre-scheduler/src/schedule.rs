//! Planning a step: expire, decode, go on with prefills, admit, and let the decodes draft with what is left.
//!
//! One rule keeps the need for blocks simple: **admission reserves blocks for all tokens known by
//! then**. A prefill therefore never stops halfway for want of blocks, and only a decode that enters a
//! new block can run out. (A group that forgets has its pages once its window is filled or its ring of states is complete, and goes
//! on with those that it leaves behind. Only if others hold these too, or may find them, it takes further ones, and may run out
//! like a decode.)
//! Admission also leaves one free block for every request that already runs, in every KV group, so
//! each of them can decode `block_size` more tokens before a request has to be preempted. Without
//! it, a new request would take the last blocks and lose them, with all its work, a step later.

use maitre_kv::{BlockMoves, KvManager, StateRequest};
use smallvec::SmallVec;

use crate::drafts::Wish;
use crate::in_flight::SpanInFlight;
use crate::request::{Place, Request};
use crate::{
    Expired, GroupSpan, NO_SLOT, PlannedSpan, Scheduler, StepId, StepPlan, Time, TokenRef,
};

/// Prompt tokens that a step takes on beside its decodes whatever the latency target says: prompts have
/// to get on.
const LEAST_CHUNK: usize = 16;

/// A plan in the making.
pub(crate) struct Sketch {
    pub(crate) plan: StepPlan,
    /// What is remembered of each span.
    pub(crate) spans: Vec<SpanInFlight>,
    /// The decodes that want to draft.
    pub(crate) wishes: Vec<Wish>,
    /// Tokens that may still be planned.
    pub(crate) budget: usize,
    /// Pages that checkpoints leave free.
    headroom: usize,
}

impl Sketch {
    fn new(step_id: StepId, budget: usize, num_spans: usize, headroom: usize) -> Self {
        let plan = StepPlan {
            step_id,
            moves: BlockMoves::default(),
            transfers: Vec::new(),
            spans: Vec::with_capacity(num_spans),
            admitted: Vec::new(),
            preempted: Vec::new(),
            expired: Vec::new(),
        };
        Self {
            plan,
            spans: Vec::with_capacity(num_spans),
            wishes: Vec::new(),
            budget,
            headroom,
        }
    }

    /// Adds the next `num_tokens` tokens of a running request, whose table covers them: known ones, or the one
    /// that a step in flight samples.
    pub(crate) fn add_span(
        &mut self,
        kv: &mut KvManager,
        place: Place,
        request: &mut Request,
        num_tokens: usize,
    ) {
        let positions = request.scheduled..request.scheduled + num_tokens;
        let samples = positions.end >= request.tokens.len();
        let cached = request.cached.saturating_sub(positions.start);
        let mut groups = SmallVec::new();
        for (table, slots) in kv.take_deltas(place.sequence(), positions.end, positions.clone()) {
            let mut slots: SmallVec<[u32; 4]> = slots.collect();
            let cached = cached.min(slots.len());
            slots[..cached].fill(NO_SLOT);
            groups.push(GroupSpan {
                table,
                slots,
                state: None,
            });
        }
        self.plan.spans.push(PlannedSpan {
            request: request.id,
            first_position: positions.start,
            tokens: tokens_at(request, positions.clone()),
            context_len: positions.end,
            groups,
            output_positions: output_positions(request, num_tokens, samples),
            samples,
            drafts: 0,
        });
        if kv.has_state() {
            let span = StateRequest {
                positions: positions.clone(),
                again: samples,
                checkpoints: request.write_cache,
                headroom: self.headroom,
            };
            self.plan_states(kv, place, &span);
        }
        self.spans.push(SpanInFlight {
            place,
            request: request.id,
            num_tokens,
            drafts: 0,
            samples,
            deferrable: samples && !request.plan_ahead,
            sampled_before: request.sampled_in,
        });
        if samples {
            request.sampled_in = Some(self.plan.step_id);
        }
        self.budget -= num_tokens;
        request.scheduled = positions.end;
    }

    /// Adds the states that the newest span reads and writes.
    fn plan_states(&mut self, kv: &mut KvManager, place: Place, request: &StateRequest) {
        let groups = self.plan.spans.last_mut().map(|span| &mut span.groups[..]);
        for (group, span) in groups.unwrap_or_default().iter_mut().enumerate() {
            let state = kv.plan_states(place.sequence(), group, request);
            span.state = state.map(Box::new);
        }
    }
}

impl Scheduler {
    /// Plans the next step at time `now`.
    ///
    /// A plan with spans is in flight until [`Scheduler::commit`]. Further steps may be planned
    /// meanwhile: they go on with prefills, with requests whose next token is known, and with those that may be
    /// [planned ahead](crate::NewRequest::plan_ahead) of it. No request is preempted while a step is in flight: if
    /// one would have to be, the plan is empty, and so are all others until no step is in flight. With
    /// [`steps_in_flight`](crate::SchedulerConfig::steps_in_flight) steps in flight, the plan only says which
    /// requests expired.
    pub fn schedule(&mut self, now: Time) -> StepPlan {
        let budget = self.config.max_batched_tokens;
        let (step_id, headroom) = (self.next_step_id(), self.headroom());
        let mut sketch = Sketch::new(step_id, budget, self.running.len(), headroom);
        self.expire(now, &mut sketch);
        if self.in_flight.len() < self.config.steps_in_flight {
            let nobody_stalls = self.plan_decodes(&mut sketch);
            if nobody_stalls {
                self.plan_prompts(now, &mut sketch);
                self.grant_drafts(&mut sketch);
            }
        }
        let Sketch {
            mut plan, spans, ..
        } = sketch;
        if !spans.is_empty() {
            plan.moves = self.kv.take_moves();
            self.in_flight
                .launch(plan.step_id, spans, plan.moves.clone());
        }
        plan
    }

    fn expire(&mut self, now: Time, sketch: &mut Sketch) {
        while let Some((place, why)) = self.timers.first_due(now) {
            let Some(request) = self.remove(place) else {
                return;
            };
            sketch.plan.expired.push(Expired {
                request: request.id,
                why,
            });
        }
    }

    /// One token for every decoding request, by arrival. All find their blocks before any is planned, and prompts in
    /// progress those of one token, so a request that is preempted for one of them is not in the plan.
    ///
    /// Returns whether the step may go on. If a request finds no block while a step is in flight, another may
    /// have to be preempted, which needs an empty pipeline. The pipeline would never be empty if the other
    /// requests went on, so the step stays empty.
    fn plan_decodes(&mut self, sketch: &mut Sketch) -> bool {
        let kv = &mut self.kv;
        let forgets = kv.forgets();
        let mut running = self.running.iter();
        let all_have_space = running.all(|(place, request)| {
            let needs_space = request.is_ready() || forgets && request.is_in_prompt();
            !needs_space || kv.grow(place.sequence(), request.scheduled + 1).is_ok()
        });
        if !all_have_space {
            if !self.in_flight.is_empty() {
                return false;
            }
            self.make_space_for_all(sketch);
        }
        self.limit_latency(sketch);
        let ready = self.running.iter_mut();
        for (&place, request) in ready.filter(|(_, it)| it.is_ready()) {
            let span = sketch.plan.spans.len();
            sketch.add_span(&mut self.kv, place, request, 1);
            sketch.wishes.extend(Wish::new(span, place, request));
        }
        true
    }

    /// Afterwards every request that runs and whose next token can be planned has the blocks for it.
    fn make_space_for_all(&mut self, sketch: &mut Sketch) {
        let running = self.running.iter();
        let ready = running.filter(|(_, it)| it.is_ready() || it.is_in_prompt());
        let places: Vec<Place> = ready.map(|(&place, _)| place).collect();
        for place in places {
            self.make_space(place, sketch);
        }
    }

    /// Cuts the budget of a step that computes some request's next token to what the latency target allows.
    /// A request that waits for a token of a step in flight waits for this step too.
    fn limit_latency(&self, sketch: &mut Sketch) {
        let Some(target) = self.config.itl_target else {
            return;
        };
        let running = self.running.values();
        let decodes = running.filter(|request| request.is_decoding()).count();
        if decodes > 0
            && let Some(tokens) = self.cost.tokens_within(target)
        {
            sketch.budget = sketch.budget.min(tokens.max(decodes + LEAST_CHUNK));
        }
    }

    /// Goes on with the prompts in progress, those whose transfers have ended among them, and admits further ones until the budget ends, in the order of their
    /// [`prompt_rank`](crate::Policy::prompt_rank); of equals, those in progress first.
    fn plan_prompts(&mut self, now: Time, sketch: &mut Sketch) {
        let prefills = self.running.iter().filter(|(_, it)| !it.is_decoding());
        let arrived = self.awaiting.iter().filter(|(_, it)| it.received.is_some());
        let in_progress = prefills.chain(arrived.map(|(place, it)| (place, &it.request)));
        let ranked = in_progress.map(|(&place, request)| (self.prompt_rank(place, request), place));
        let mut in_progress: Vec<(i128, Place)> = ranked.collect();
        in_progress.sort_unstable();
        for (rank, place) in in_progress {
            self.admit(now, sketch, Some(rank));
            if self.start_arrived(place, sketch) {
                continue;
            }
            let Some(request) = self.running.get_mut(&place) else {
                continue;
            };
            let num_tokens = chunk(&mut self.kv, place, request, sketch.budget);
            if num_tokens > 0 {
                sketch.add_span(&mut self.kv, place, request, num_tokens);
            }
        }
        self.admit(now, sketch, None);
    }

    pub(crate) fn prompt_rank(&self, place: Place, request: &Request) -> i128 {
        self.policy.prompt_rank(&request.waiting(place))
    }
}

/// How many of a request's known tokens a step computes that has `budget` for them: those whose blocks it has or gets.
/// Only in a group that forgets it may get too few, if the pages that it leaves behind are held by others too.
pub(crate) fn chunk(kv: &mut KvManager, place: Place, request: &Request, budget: usize) -> usize {
    let num_tokens = request.unscheduled().min(budget);
    let (sequence, scheduled) = (place.sequence(), request.scheduled);
    if !kv.forgets() {
        return num_tokens;
    }
    if kv.reserve_states(sequence, 1).is_err() {
        return 0;
    }
    let mut more = num_tokens;
    while more > 0 && kv.grow(sequence, scheduled + more).is_err() {
        more /= 2;
    }
    let covered = kv.covered(sequence).saturating_sub(scheduled);
    let num_tokens = covered.min(num_tokens);
    // The last token may have to be computed again, which takes the state before it. Where there is no page for one more, the
    // last token is left to a step of its own, which reads that state.
    let is_last = num_tokens > 1 && num_tokens == request.unscheduled();
    match is_last && kv.reserve_states(sequence, 2).is_err() {
        true => num_tokens - 1,
        false => num_tokens,
    }
}

/// The tokens at `positions`, or the newest one that a step in flight samples if they are not known.
fn tokens_at(request: &Request, positions: std::ops::Range<usize>) -> Vec<TokenRef> {
    let sampled = request.sampled_in.map(|step| TokenRef::Sampled { step });
    match request.tokens.get(positions) {
        Some(known) => known.iter().copied().map(TokenRef::Known).collect(),
        None => sampled.into_iter().collect(),
    }
}

/// The offsets in the request's next span whose logits are still needed.
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
