//! The middle of a step: planned spans in, one result per span out.
//!
//! A step that fails or panics has committed nothing, so it is run again in halves until the
//! culprit stands alone and fails alone; by batch invariance the others get the tokens they would
//! have got. Logits exist for one tile of rows at a time. Where no step can succeed any more (the GPU has
//! lost what it held), nothing is run again and everything has failed.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use maitre_model::{CacheMove, CacheMoves, StepInput, StepTicket};
use maitre_sampling::{BLOCK, Sampler};
use maitre_scheduler::{BlockMove, BlockMoves, RequestId, StepId, StepPlan, Time};
use maitre_speculative::Speculator;
use maitre_tensor::{Heartbeat, PEAK_BLOCK};

use crate::step::constraint::Constrained;
use crate::step::in_flight::{Stage, StepInFlight, goes_ahead};
use crate::step::layout::{KvShape, Layout, Work};
use crate::step::result::{Failure, SpanResult, StepResult};
use crate::step::rows::Rows;
use crate::step::sequence::Sequence;
use crate::{Clock, Executor};

// What the scheduler calls "do not write" is what the model does not write.
const _: () = assert!(maitre_tensor::NO_SLOT == maitre_scheduler::NO_SLOT);
// The peaks that the output layer computes are those that the sampler knows what to do with.
const _: () = assert!(PEAK_BLOCK == BLOCK);

/// The sequences of all live requests.
pub(crate) type Sequences = HashMap<RequestId, Sequence>;

/// The executor, the sampler and the speculator, with the buffers they reuse from step to step.
pub(crate) struct StepRunner {
    pub(super) executor: Box<dyn Executor>,
    pub(super) heartbeat: Heartbeat,
    pub(super) clock: Arc<dyn Clock>,
    sampler: Sampler,
    pub(crate) speculator: Speculator,
    /// Steps that have no result yet, oldest first.
    in_flight: VecDeque<StepInFlight>,
    /// A plan with block copies that waits until no step is in flight: the copies would wait for those steps in any
    /// case, so their time could not be told, and the loss of blocks in a failed copy must find no step behind it.
    held: Option<(StepPlan, Time)>,
    /// Layouts that no step uses.
    layouts: Vec<Layout>,
    /// When the last step had its result.
    finished: Time,
    pub(super) kv: KvShape,
    /// Ids from here on belong to no text: padding rows of the embedding.
    pub(crate) choosable: usize,
    /// Why no further step can succeed, once that is known.
    fatal: Option<String>,
}

impl StepRunner {
    pub(crate) fn new(
        executor: Box<dyn Executor>,
        speculator: Speculator,
        clock: Arc<dyn Clock>,
        kv: KvShape,
        choosable: usize,
    ) -> Self {
        Self {
            heartbeat: executor.heartbeat(),
            executor,
            clock,
            sampler: Sampler::new(),
            speculator,
            in_flight: VecDeque::new(),
            held: None,
            layouts: Vec::new(),
            finished: Time::ZERO,
            kv,
            choosable,
            fatal: None,
        }
    }

    /// Steps that may be in flight at once.
    pub(crate) fn depth(&self) -> usize {
        self.executor.depth().max(1)
    }

    /// Whether no step is in flight, or about to be.
    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.held.is_none()
    }

    /// Whether another step can be submitted now.
    pub(crate) fn has_space(&self) -> bool {
        let may_follow = self
            .in_flight
            .back()
            .is_none_or(StepInFlight::may_be_followed);
        self.held.is_none() && self.in_flight.len() < self.depth() && may_follow
    }

    /// Takes a planned step that is not empty: begins it, or holds it until it can be begun.
    pub(crate) fn submit(&mut self, plan: StepPlan, sequences: &mut Sequences, began: Time) {
        // At once: the scheduler does not tell them again, even if a step that is held is given up.
        for span in &plan.spans {
            if let Some(sequence) = sequences.get_mut(&span.request) {
                sequence.follow(&span.groups);
            }
        }
        if plan.moves.is_empty() || self.in_flight.is_empty() {
            self.begin_step(plan, sequences, began);
        } else {
            self.held = Some((plan, began));
        }
    }

    /// Begins the step that was held, if it can be begun now.
    pub(crate) fn submit_held(&mut self, sequences: &mut Sequences) {
        if self.in_flight.is_empty()
            && let Some((plan, began)) = self.held.take()
        {
            self.begin_step(plan, sequences, began);
        }
    }

    /// Begins a step: its copies, then its spans with what is drafted for them. Whatever fails is told by
    /// [`finish_oldest`](Self::finish_oldest).
    fn begin_step(&mut self, plan: StepPlan, sequences: &mut Sequences, began: Time) {
        for span in &plan.spans {
            if let Some(sequence) = sequences.get_mut(&span.request) {
                sequence
                    .constraint
                    .iter_mut()
                    .for_each(Constrained::refresh);
            }
        }
        let moves_began = self.clock.now();
        let moved = self.move_blocks(&plan.moves);
        let moving = self.clock.now().saturating_sub(moves_began);
        let mut step = StepInFlight {
            drafts: vec![Vec::new(); plan.spans.len()],
            layout: self.layouts.pop().unwrap_or_else(|| Layout::new(self.kv)),
            // It stays so if its copies failed.
            stage: Stage::NotMoved(Failure::default()),
            began,
            submitted: moves_began,
            moving,
            leaves_none_behind: true,
            plan,
        };
        match moved {
            Err(failure) => step.stage = Stage::NotMoved(failure),
            Ok(()) => {
                step.drafts = self.draft(&step.plan, sequences);
                step.look_at_drafts(sequences);
                step.submitted = self.clock.now();
                let work = Work::of(&step.plan.spans, &step.drafts);
                let begun = self.begin(&mut step.layout, &work, sequences);
                step.stage = match begun {
                    Ok(ticket) => Stage::Submitted(ticket),
                    Err(failure) if self.in_flight.is_empty() => Stage::Refused(failure),
                    Err(failure) => Stage::RefusedBehind(failure),
                };
            }
        }
        if self.depth() > 1 {
            step.note_samples(sequences);
            step.leaves_none_behind = goes_ahead(&step, sequences);
        }
        self.in_flight.push_back(step);
    }

    /// Waits for the oldest step and says what came of it; `None` if no step is in flight. If it failed, steps behind
    /// it are given up: `retract` is called for each, the newest first.
    pub(crate) fn finish_oldest<E>(
        &mut self,
        sequences: &mut Sequences,
        mut retract: impl FnMut(StepId) -> Result<(), E>,
    ) -> Result<Option<StepResult>, E> {
        let Some(mut step) = self.in_flight.pop_front() else {
            return Ok(None);
        };
        step.forget_samples(sequences);
        let work = Work::of(&step.plan.spans, &step.drafts);
        let (spans, cache_is_lost) =
            match self.outcome(&mut step.stage, &step.layout, &work, sequences) {
                Ok(spans) => (spans, false),
                Err(failed) => {
                    self.give_up_later(sequences, &mut retract)?;
                    match failed {
                        Failed::Moves(failure) => (self.not_moved(&work, failure), true),
                        Failed::Begin => (self.run(&work, sequences), false),
                        Failed::Step(failure) => {
                            let spans = self.run_again(&work, failure, sequences);
                            (spans, false)
                        }
                    }
                }
            };
        let now = self.clock.now();
        let since = |moment: Time| now.saturating_sub(moment.max(self.finished));
        let (took, computing) = (since(step.began), since(step.submitted));
        self.finished = now;
        if !cache_is_lost {
            self.learn(&work, &spans, sequences, computing);
        }
        let rows = if cache_is_lost {
            0
        } else {
            work.iter().map(Work::rows).sum()
        };
        self.layouts.push(step.layout);
        Ok(Some(StepResult {
            rows,
            spans,
            took,
            moving: step.moving,
            cache_is_lost,
            fatal: self.fatal.clone(),
            plan: step.plan,
        }))
    }

    /// What the executor says of the oldest step.
    fn outcome(
        &mut self,
        stage: &mut Stage,
        layout: &Layout,
        work: &[Work<'_>],
        sequences: &Sequences,
    ) -> Result<Vec<SpanResult>, Failed> {
        match stage {
            Stage::Submitted(ticket) => self
                .wait(*ticket, layout, work, sequences)
                .map_err(Failed::Step),
            // It may have been refused for what was in flight before it.
            Stage::RefusedBehind(failure) if !failure.is_fatal => Err(Failed::Begin),
            Stage::Refused(failure) | Stage::RefusedBehind(failure) => {
                Err(Failed::Step(std::mem::take(failure)))
            }
            Stage::NotMoved(failure) => Err(Failed::Moves(std::mem::take(failure))),
        }
    }

    /// Gives up the steps behind the oldest, newest first.
    fn give_up_later<E>(
        &mut self,
        sequences: &mut Sequences,
        retract: &mut impl FnMut(StepId) -> Result<(), E>,
    ) -> Result<(), E> {
        if let Some((plan, _)) = self.held.take() {
            retract(plan.step_id)?;
        }
        while let Some(later) = self.in_flight.pop_back() {
            if let Stage::Submitted(ticket) = later.stage {
                // Unwind safety: the slots it was to write hold nothing to rely on in any case.
                let discarded = catch_unwind(AssertUnwindSafe(|| self.executor.discard(ticket)));
                if let Err(panic) = discarded {
                    self.note(Failure::panicked(panic.as_ref()).for_good());
                }
            }
            later.forget_samples(sequences);
            retract(later.plan.step_id)?;
            self.layouts.push(later.layout);
        }
        Ok(())
    }

    fn not_moved(&mut self, work: &[Work<'_>], failure: Failure) -> Vec<SpanResult> {
        tracing::error!(message = %failure.message, "the step's block copies failed");
        let spans = failed(work, &failure.message);
        self.note(failure);
        spans
    }

    /// Remembers a failure after which there is nothing to be tried.
    fn note(&mut self, failure: Failure) {
        if failure.is_fatal {
            self.fatal.get_or_insert(failure.message);
        }
    }

    fn move_blocks(&mut self, moves: &BlockMoves) -> Result<(), Failure> {
        if moves.is_empty() {
            return Ok(());
        }
        let list = |moves: &[BlockMove]| -> Vec<CacheMove> {
            moves
                .iter()
                .map(|moved| CacheMove {
                    from: moved.from,
                    to: moved.to,
                })
                .collect()
        };
        let (swap_out, swap_in) = (list(&moves.swap_out), list(&moves.swap_in));
        let moves = CacheMoves {
            swap_out: &swap_out,
            swap_in: &swap_in,
            copies: &list(&moves.copies),
        };
        // Unwind safety: what half a copy left behind is not used, as the error says.
        let moved = catch_unwind(AssertUnwindSafe(|| {
            self.executor.move_blocks(&moves).map_err(Failure::from)
        }))
        .unwrap_or_else(|panic| Err(Failure::panicked(panic.as_ref())));
        self.speculator.moved(&moves);
        moved
    }
}

/// What of a step failed.
enum Failed {
    Moves(Failure),
    /// The executor did not take it, while it had others.
    Begin,
    Step(Failure),
}

/// Attempts.
impl StepRunner {
    /// Runs a step that failed once more, in halves where that is needed to find a culprit, while no other step is in
    /// flight. One result per span.
    fn run_again(
        &mut self,
        work: &[Work<'_>],
        failure: Failure,
        sequences: &Sequences,
    ) -> Vec<SpanResult> {
        let message = failure.message.clone();
        match work {
            _ if failure.is_fatal => {
                tracing::error!(spans = work.len(), %message, "no step can succeed any more");
                self.note(failure);
                failed(work, &message)
            }
            [only] if !only.drafts.is_empty() => {
                // The drafts may be the cause, and a draft must not fail a request.
                tracing::warn!(request = only.span.request.0, %message, "running it without drafts");
                let bare = Work {
                    drafts: &[],
                    ..*only
                };
                self.run(&[bare], sequences)
            }
            [only] => {
                let request = only.span.request;
                tracing::warn!(request = request.0, %message, "a request failed alone");
                failed(work, &message)
            }
            _ => {
                tracing::warn!(spans = work.len(), %message, "a step failed; running it in halves");
                let (left, right) = work.split_at(work.len() / 2);
                let mut results = self.run(left, sequences);
                results.extend(self.run(right, sequences));
                results
            }
        }
    }

    fn run(&mut self, work: &[Work<'_>], sequences: &Sequences) -> Vec<SpanResult> {
        if let Some(message) = &self.fatal {
            return failed(work, message);
        }
        // Requests that were cancelled meanwhile have nothing to be computed for.
        if !work
            .iter()
            .all(|it| sequences.contains_key(&it.span.request))
        {
            return self.run_living(work, sequences);
        }
        let mut layout = self.layouts.pop().unwrap_or_else(|| Layout::new(self.kv));
        let begun = self.begin(&mut layout, work, sequences);
        let done = begun.and_then(|ticket| self.wait(ticket, &layout, work, sequences));
        self.layouts.push(layout);
        done.unwrap_or_else(|failure| self.run_again(work, failure, sequences))
    }

    fn run_living(&mut self, work: &[Work<'_>], sequences: &Sequences) -> Vec<SpanResult> {
        let lives = |work: &&Work<'_>| sequences.contains_key(&work.span.request);
        let living: Vec<Work<'_>> = work.iter().filter(lives).copied().collect();
        let results = match living.is_empty() {
            true => Vec::new(),
            false => self.run(&living, sequences),
        };
        let mut results = results.into_iter();
        let result = |work: &Work<'_>| match lives(&work) {
            true => results.next(),
            false => None,
        };
        let requests = work.iter().map(|work| work.span.request);
        let results = work.iter().map(result).collect::<Vec<_>>();
        requests
            .zip(results)
            .map(|(request, result)| result.unwrap_or_else(|| SpanResult::empty(request)))
            .collect()
    }

    /// Submits `work` to the executor; a panic becomes a message like any other failure.
    fn begin(
        &mut self,
        layout: &mut Layout,
        work: &[Work<'_>],
        sequences: &Sequences,
    ) -> Result<StepTicket, Failure> {
        // Unwind safety: layouts and the executor's buffers are written from the start by the next attempt, and
        // `sequences` is only read.
        catch_unwind(AssertUnwindSafe(|| {
            layout.lay(work, sequences, self.speculator.config().acceptance);
            let step = StepInput {
                batch: &layout.batch,
                sampled: &layout.sampled,
                wants: &layout.wants,
                choosable: self.choosable,
            };
            self.executor.submit(&step).map_err(Failure::from)
        }))
        .unwrap_or_else(|panic| Err(Failure::panicked(panic.as_ref())))
    }

    /// Waits for `work`, and turns its output rows into results. A panic becomes a failure.
    fn wait(
        &mut self,
        ticket: StepTicket,
        layout: &Layout,
        work: &[Work<'_>],
        sequences: &Sequences,
    ) -> Result<Vec<SpanResult>, Failure> {
        // Unwind safety: as in `begin`, and for the sampler's buffers.
        let waited = catch_unwind(AssertUnwindSafe(|| {
            let widths = [self.executor.vocab_size(), self.choosable];
            let acceptance = self.speculator.config().acceptance;
            let (sampler, heartbeat) = (&mut self.sampler, &self.heartbeat);
            let mut rows = Rows::new(
                work,
                &layout.owners,
                sequences,
                acceptance,
                sampler,
                heartbeat,
                widths,
            );
            self.executor.wait(ticket, &mut rows)?;
            Ok(rows.finish())
        }));
        waited.unwrap_or_else(|panic| {
            // What a panic has interrupted may still be in flight.
            let discarded = catch_unwind(AssertUnwindSafe(|| self.executor.discard(ticket)));
            let failure = Failure::panicked(panic.as_ref());
            Err(if discarded.is_err() {
                failure.for_good()
            } else {
                failure
            })
        })
    }
}

fn failed(work: &[Work<'_>], message: &str) -> Vec<SpanResult> {
    let spans = work.iter().map(|work| work.span.request);
    spans
        .map(|request| SpanResult::failed(request, message.to_owned()))
        .collect()
}
