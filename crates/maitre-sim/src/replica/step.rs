//! Planned steps: what is committed when they end, and how long each of them takes.

use std::collections::VecDeque;

use maitre_scheduler::{Outcome, PlannedSpan, RequestId, StepId, StepPlan, Time};

use super::live::{Live, Lives};
use crate::speculation::{DraftCounts, Drafting};
use crate::{StepPricer, StepSeconds, StepWork};

/// The token of every answer: a simulation knows lengths, not text.
pub(crate) const TOKEN: u32 = 0;

/// One step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PricedStep {
    pub(crate) work: StepWork,
    pub(crate) seconds: StepSeconds,
    pub(crate) took: Time,
    pub(super) copying: Time,
    /// Blocks that requests hold while it runs; of a step that repeats another, known when that one is committed.
    pub(crate) kv_used: usize,
    /// When it ends, once it is known when it begins.
    pub(super) end: Time,
}

impl PricedStep {
    fn new(work: StepWork, pricer: &StepPricer, kv_used: usize, drafts: f64) -> Self {
        let seconds = StepSeconds {
            drafts,
            ..pricer.price(&work)
        };
        // A step takes time, or time would stand still.
        let took = Time::try_from_secs_f64(seconds.total()).unwrap_or(Time::MAX);
        Self {
            took: took.max(Time::from_nanos(1)),
            copying: pricer.copy_time(&work),
            work,
            seconds,
            kv_used,
            end: Time::MAX,
        }
    }
}

/// A planned step, and those that repeat it one position further on. Its memory is used for later ones again.
#[derive(Debug)]
pub(crate) struct PlannedSteps {
    /// The step that the scheduler has in flight: the first of those that have not ended.
    pub(super) id: StepId,
    /// What comes of each of the steps.
    pub(super) outcomes: Vec<Outcome>,
    /// Outcomes beyond those of the step, kept for their memory.
    spare: Vec<Outcome>,
    /// What comes of its drafts.
    pub(super) drafts: DraftCounts,
    /// Those that have not ended, at least one.
    pub(super) steps: VecDeque<PricedStep>,
}

impl Default for PlannedSteps {
    fn default() -> Self {
        Self {
            id: StepId(0),
            outcomes: Vec::new(),
            spare: Vec::new(),
            drafts: DraftCounts::default(),
            steps: VecDeque::new(),
        }
    }
}

impl PlannedSteps {
    /// Takes on a plan: each span that samples will have one token, and its drafts that are accepted.
    pub(super) fn fill(
        &mut self,
        plan: &StepPlan,
        pricer: &StepPricer,
        kv_used: usize,
        drafting: Option<&Drafting>,
        lives: &mut Lives,
    ) {
        self.id = plan.step_id;
        let behind = |id| lives.get(id).map_or(0, |live| live.draft_behind);
        let drafts = drafting.map_or(0.0, |drafting| drafting.seconds(plan, behind));
        for span in &plan.spans {
            let mut outcome = self.spare.pop().unwrap_or_else(empty);
            outcome.request = span.request;
            if span.samples {
                outcome.tokens.push(TOKEN);
            }
            if let (Some(drafting), Some(live)) = (drafting, lives.get_mut(span.request)) {
                self.draft(span, &mut outcome, drafting, live);
            }
            self.outcomes.push(outcome);
        }
        let step = PricedStep::new(pricer.work(plan), pricer, kv_used, drafts);
        self.steps.push_back(step);
    }

    /// Adds the drafts of a span that are accepted, and asks for others in the next step.
    fn draft(
        &mut self,
        span: &PlannedSpan,
        outcome: &mut Outcome,
        drafting: &Drafting,
        live: &mut Live,
    ) {
        let accepted = drafting.accepted(&live.request, span);
        live.draft_behind = Drafting::behind_after(span, accepted, live.draft_behind);
        outcome.tokens.extend((0..accepted).map(|_| TOKEN));
        outcome.next_drafts = if span.samples { drafting.most } else { 0 };
        let is_decode = span.first_position >= live.request.prompt_tokens as usize;
        if is_decode && !StepWork::is_chunk(span) {
            self.drafts.decode(span.drafts, accepted);
        }
    }

    /// Whether each sequence has one token, which gives it the next one, and no layer has a window.
    pub(super) fn only_decodes(&self) -> bool {
        let works = |step: &PricedStep| {
            let StepWork {
                sequences,
                chunks,
                tokens,
                rows,
                window_positions,
                ..
            } = step.work;
            (chunks, window_positions) == (0, 0) && tokens == sequences && rows == sequences
        };
        self.steps.iter().all(works)
    }

    /// Adds at most so many steps that repeat the newest one and begin before `until`.
    pub(super) fn repeat(&mut self, most: usize, until: Option<Time>, pricer: &StepPricer) {
        for _ in 0..most {
            let Some(newest) = self.steps.back() else {
                return;
            };
            let begins = newest.end;
            if until.is_some_and(|until| begins >= until) {
                return;
            }
            let mut step = PricedStep::new(newest.work.one_further(), pricer, 0, 0.0);
            step.end = begins.saturating_add(step.took);
            self.steps.push_back(step);
        }
    }

    /// They run from `now` on. Returns when the last of them ends.
    pub(super) fn begin(&mut self, now: Time) -> Time {
        let mut end = now;
        for step in &mut self.steps {
            end = end.saturating_add(step.took);
            step.end = end;
        }
        end
    }

    /// Those that have ended before `now`, but for the last one, which ends with an event.
    pub(super) fn ended_before(&self, now: Time) -> usize {
        let ended = self.steps.partition_point(|step| step.end < now);
        ended.min(self.steps.len().saturating_sub(1))
    }

    /// Empties it.
    pub(super) fn clear(&mut self) {
        self.steps.clear();
        self.drafts.clear();
        for mut outcome in self.outcomes.drain(..) {
            outcome.tokens.clear();
            outcome.next_drafts = 0;
            self.spare.push(outcome);
        }
    }
}

fn empty() -> Outcome {
    Outcome::of(RequestId(0), Vec::with_capacity(1))
}
