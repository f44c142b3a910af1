//! Drafting for one step: which sequence gets tokens from which source, and how many are worth their rows.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::calibration::{Class, Habit};
use crate::controller::{Chain, Offer, Shape};
use crate::drafter::{DraftError, DraftRequest, Drafter, Drafting};
use crate::speculator::{MOST_FAILURES, Sequence};
use crate::{Acceptance, Drafted, Speculate, Speculator};

/// How much longer than the draft model has to catch up its sequence must be expected to gain.
const CATCH_UP_MARGIN: f64 = 2.0;

/// Of so many steps one tells what a sequence's own text would have been good for, where no guess is verified.
const SHADOWED: u64 = 8;

/// Tokens that the draft model is behind by itself: the last one it drafted, if that was accepted.
const USUAL_LAG: usize = 1;

/// Who proposes the tokens of a sequence in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    History,
    Model,
}

/// Drafts in the making, with the probability that all up to a token are accepted.
struct Plan<'a> {
    drafting: Drafting<'a>,
    survival: Vec<f64>,
    habit: Habit,
    source: Source,
    /// What the model drafted.
    model: Vec<(Class, u32)>,
}

impl Speculator {
    /// Drafts tokens for the decoding sequences of a step that also computes `prompt_tokens` of prompts and
    /// has `other_decodes` that are not to be speculated for. One list per sequence, each of at most
    /// [`DraftRequest::most`] tokens. `clock` tells the time since a fixed moment; the cost of drafting is measured
    /// by it.
    pub fn propose(
        &mut self,
        requests: &[DraftRequest<'_>],
        other_decodes: usize,
        prompt_tokens: usize,
        clock: &dyn Fn() -> Duration,
    ) -> Vec<Vec<Drafted>> {
        let shape = Shape {
            decodes: requests.len() + other_decodes,
            prompt_tokens,
        };
        for request in requests {
            // Without a place to verify it, a guess is only compared with what comes, which need not be in every
            // step.
            let is_due = request.most > 0 || (self.steps + request.id).is_multiple_of(SHADOWED);
            if let Some(sequence) = self.sequences.get_mut(&request.id).filter(|_| is_due) {
                sequence.look_back(request, self.config.speculate);
            }
        }
        let sequences = std::mem::take(&mut self.sequences);
        let mut plans: Vec<Option<Plan<'_>>> = requests
            .iter()
            .map(|request| self.begin(request, sequences.get(&request.id)?))
            .collect();
        let sunk = self.run_drafter(&mut plans, shape, clock);
        if self.config.speculate == Speculate::Auto {
            self.trim(&mut plans, shape, sunk);
        }
        let (drafts, models): (Vec<_>, Vec<_>) = plans
            .into_iter()
            .map(|plan| plan.map_or_else(Default::default, |it| (it.drafting.drafts, it.model)))
            .unzip();
        self.sequences = sequences;
        for (request, model) in requests.iter().zip(models) {
            if let Some(sequence) = self.sequences.get_mut(&request.id) {
                sequence.pending.model = model;
            }
        }
        drafts
    }

    /// What a sequence's own text offers, or an empty draft for the model to fill.
    fn begin<'a>(&self, request: &DraftRequest<'a>, sequence: &'a Sequence) -> Option<Plan<'a>> {
        if request.most == 0 {
            return None;
        }
        let allowed = request.rules.constraint;
        if let Some(allowed) = allowed {
            // Without masks nothing may be drafted.
            allowed.masks.first()?;
            if allowed.forced {
                return Some(Plan::forced(*request, sequence));
            }
        }
        let habit = sequence.habit;
        let mut plan = Plan {
            drafting: Drafting::new(*request, sequence.history.tokens()),
            survival: Vec::new(),
            habit,
            source: Source::Model,
            model: Vec::new(),
        };
        let guess = sequence.pending.guess.as_ref();
        // A guess goes as far as the constraint was asked about it and allows it.
        let tokens = guess.map_or(&[][..], |guess| match allowed {
            None => &guess.tokens,
            Some(allowed) => common(&guess.tokens, allowed.drafts),
        });
        let match_len = guess.map_or(0, |guess| guess.match_len);
        let calibration = &self.controller.calibration;
        let acceptance =
            |index: usize| calibration.acceptance(Class::of_match(match_len + index), habit);
        let is_better = self.config.speculate != Speculate::Auto
            || self.drafter.is_none()
            || acceptance(0) >= calibration.of_model(habit);
        if !tokens.is_empty() && is_better {
            plan.source = Source::History;
            let mut survival = 1.0;
            for (index, &token) in tokens.iter().enumerate().take(request.most) {
                survival *= acceptance(index);
                plan.survival.push(survival);
                plan.drafting.drafts.push(Drafted {
                    token,
                    distribution: None,
                });
            }
        } else if allowed.is_some() {
            // What may follow a token that is not drafted yet is not known: the model drafts one.
            plan.drafting.request.most = 1;
        }
        Some(plan)
    }

    /// Lets the draft model run, round by round, for sequences without a better guess. Returns the seconds
    /// it is reckoned to have taken.
    fn run_drafter(
        &mut self,
        plans: &mut [Option<Plan<'_>>],
        shape: Shape,
        clock: &dyn Fn() -> Duration,
    ) -> f64 {
        let Some(mut drafter) = self.drafter.take() else {
            return 0.0;
        };
        let mut sunk = 0.0;
        let mut active = self.choose_active(plans, shape, drafter.as_ref());
        let mut is_late = active.iter().any(|&(_, late)| late > USUAL_LAG);
        while !active.is_empty() {
            let began = clock();
            let before: Vec<usize> = active
                .iter()
                .map(|&(index, _)| drafted(plans, index))
                .collect();
            let result = draft_once(drafter.as_mut(), plans, &active, self.config.acceptance);
            if let Err(error) = result {
                self.report(&error);
                for &(index, _) in &active {
                    plans[index] = None;
                }
                break;
            }
            let took = clock().saturating_sub(began);
            let sequences = active.len();
            if is_late {
                let read = late_tokens(plans, &active, drafter.as_ref());
                self.controller.observe_catch_up(active.len(), read, took);
            } else {
                self.controller.observe_round(active.len(), took);
            }
            sunk += took.as_secs_f64();
            let mut before = before.into_iter();
            let mut silent = 0;
            active.retain_mut(|(index, late)| {
                let before = before.next().unwrap_or(0);
                let goes_on = self.note_token(&mut plans[*index], before);
                let has_drafted = drafted(plans, *index) > before;
                silent += usize::from(!has_drafted && *late <= USUAL_LAG);
                *late = 0;
                goes_on
            });
            self.note_silence(silent, sequences);
            is_late = false;
            if self.config.speculate == Speculate::Auto {
                self.keep_worthwhile(plans, &mut active, shape, sunk);
            }
        }
        if self.failures < MOST_FAILURES {
            self.drafter = Some(drafter);
        }
        sunk
    }

    /// Whose drafts the model makes, and how many tokens it has to catch up on for each.
    fn choose_active(
        &self,
        plans: &[Option<Plan<'_>>],
        shape: Shape,
        drafter: &dyn Drafter,
    ) -> Vec<(usize, usize)> {
        if !matches!(self.config.speculate, Speculate::Draft | Speculate::Auto) {
            return Vec::new();
        }
        let late = |plan: &Plan<'_>| behind(drafter, plan);
        let of_model = plans.iter().enumerate().filter_map(|(index, plan)| {
            let plan = plan.as_ref()?;
            (plan.source == Source::Model).then_some((index, late(plan)?))
        });
        let mut active: Vec<(usize, usize)> = of_model.collect();
        if self.config.speculate == Speculate::Auto {
            let gain = self.keep_worthwhile(plans, &mut active, shape, 0.0);
            active.retain(|&(index, late)| {
                let plan = plans[index].as_ref();
                late <= USUAL_LAG
                    || plan.is_some_and(|plan| self.catch_up_pays(plan, late, gain, shape))
            });
        }
        active
    }

    /// Of a round's `sequences`, `silent` got no token although nothing was missing: as good as a wrong one.
    /// If none got any, the drafter has failed.
    fn note_silence(&mut self, silent: usize, sequences: usize) {
        for _ in 0..silent {
            self.controller.calibration.observe_silence();
        }
        if silent < sequences {
            self.failures = 0;
        } else {
            self.report(&DraftError {
                message: "it proposed nothing".into(),
            });
        }
    }

    /// Whether what the sequence is expected to gain to its end is worth letting the draft model read what
    /// it has not seen.
    fn catch_up_pays(&self, plan: &Plan<'_>, behind: usize, gain: f64, shape: Shape) -> bool {
        let rules = plan.drafting.request.rules;
        let most = rules.max_tokens.saturating_sub(rules.generated) as f64;
        // An answer that is long already is likely to grow by as much again.
        let left = most.min(self.usual_answer.max(rules.generated as f64));
        let Some(step) = self.controller.step_seconds(shape, shape.rows()) else {
            return false;
        };
        let saved = left * (1.0 - 1.0 / gain) * step / shape.rows().max(1) as f64;
        saved > CATCH_UP_MARGIN * self.controller.catch_up_seconds(behind)
    }

    /// Keeps the sequences of `active` for which one more token from the model pays: the likeliest, as many as
    /// gain the most, or none. Returns by how much tokens per second grow.
    fn keep_worthwhile(
        &self,
        plans: &[Option<Plan<'_>>],
        active: &mut Vec<(usize, usize)>,
        shape: Shape,
        sunk: f64,
    ) -> f64 {
        let mut offer = Offer {
            rows: shape.rows(),
            tokens: shape.rows() as f64,
            sunk,
        };
        for plan in plans.iter().flatten() {
            offer.rows += plan.survival.len();
            offer.tokens += plan.survival.iter().sum::<f64>();
        }
        let mut chains: Vec<(Chain, (usize, usize))> = active
            .iter()
            .filter_map(|&entry| Some((self.chain(plans[entry.0].as_ref()?), entry)))
            .collect();
        chains.sort_by(|(a, _), (b, _)| b.survives().total_cmp(&a.survives()));
        let falling: Vec<Chain> = chains.iter().map(|&(chain, _)| chain).collect();
        let (kept, gain) = self.controller.worth_drafting(shape, offer, &falling);
        active.clear();
        active.extend(chains.iter().take(kept).map(|&(_, entry)| entry));
        active.sort_unstable();
        gain
    }

    fn chain(&self, plan: &Plan<'_>) -> Chain {
        Chain {
            survival: plan.survival.last().copied().unwrap_or(1.0),
            next: self.controller.calibration.of_model(plan.habit),
            space: plan
                .drafting
                .request
                .most
                .saturating_sub(plan.drafting.drafts.len()),
        }
    }

    /// Enters what the model has just drafted for a sequence; whether it may draft more.
    fn note_token(&self, plan: &mut Option<Plan<'_>>, before: usize) -> bool {
        let Some(plan) = plan else {
            return false;
        };
        // Whatever a drafter does, a step never runs more than its plan has places for, nor a token that the
        // model does not have or the sequence's constraint does not allow.
        let drafts = &mut plan.drafting.drafts;
        drafts.truncate(before + 1);
        drafts.truncate(plan.drafting.request.most);
        let rules = plan.drafting.request.rules;
        let position = rules.generated + before as u64;
        let may_be = |draft: &Drafted| {
            (draft.token as usize) < self.config.vocab_size && rules.allows(position, draft.token)
        };
        if drafts.len() <= before || !drafts.last().is_some_and(may_be) {
            drafts.truncate(before);
            return false;
        }
        let calibration = &self.controller.calibration;
        let probability = plan.drafting.probability;
        let class = Class::of_probability(probability);
        // Under rejection, whether a token is shown to the verifier must not depend on which one it is.
        let next = match self.config.acceptance {
            Acceptance::Coupling if probability.is_finite() => {
                calibration.acceptance(class, plan.habit)
            }
            _ => calibration.of_model(plan.habit),
        };
        if let Some(newest) = plan.drafting.drafts.last() {
            plan.model.push((class, newest.token));
        }
        plan.survival
            .push(plan.survival.last().unwrap_or(&1.0) * next);
        let newest = plan.drafting.drafts.last();
        let ends = newest.is_some_and(|it| rules.ends(plan.drafting.position() - 1, it.token));
        !ends && plan.drafting.drafts.len() < plan.drafting.request.most
    }

    /// Keeps the likeliest tokens on offer, as many as are worth their rows.
    fn trim(&self, plans: &mut [Option<Plan<'_>>], shape: Shape, sunk: f64) {
        let survival = plans.iter().flatten().flat_map(|plan| &plan.survival);
        let mut falling: Vec<f64> = survival.copied().collect();
        if falling.is_empty() {
            return;
        }
        falling.sort_unstable_by(|a, b| b.total_cmp(a));
        let mut left = self.controller.worth_verifying(shape, sunk, &falling);
        let least = left
            .checked_sub(1)
            .map_or(f64::INFINITY, |last| falling[last]);
        for plan in plans.iter_mut().flatten() {
            // A chain never rises, so what is kept of it is its beginning.
            let kept = plan
                .survival
                .iter()
                .take_while(|&&it| it >= least)
                .count()
                .min(left);
            left -= kept;
            plan.drafting.drafts.truncate(kept);
        }
    }
}

impl<'a> Plan<'a> {
    /// Tokens that have to come.
    fn forced(request: DraftRequest<'a>, sequence: &'a Sequence) -> Self {
        let mut drafting = Drafting::new(request, sequence.history.tokens());
        let tokens = request.rules.constraint.unwrap_or_default().drafts;
        let drafts = tokens.iter().take(request.most).map(|&token| Drafted {
            token,
            distribution: None,
        });
        drafting.drafts.extend(drafts);
        Self {
            survival: vec![1.0; drafting.drafts.len()],
            drafting,
            habit: sequence.habit,
            source: Source::History,
            model: Vec::new(),
        }
    }
}

/// The first tokens of `guess` that are those of `allowed`.
fn common<'g>(guess: &'g [u32], allowed: &[u32]) -> &'g [u32] {
    let pairs = guess.iter().zip(allowed);
    let len = pairs.take_while(|(guessed, allowed)| guessed == allowed);
    guess.get(..len.count()).unwrap_or_default()
}

fn drafted(plans: &[Option<Plan<'_>>], index: usize) -> usize {
    plans[index]
        .as_ref()
        .map_or(0, |plan| plan.drafting.drafts.len())
}

/// One round for `active`, which is in the order of `plans`. A panic is an error like any other.
fn draft_once(
    drafter: &mut dyn Drafter,
    plans: &mut [Option<Plan<'_>>],
    active: &[(usize, usize)],
    acceptance: Acceptance,
) -> Result<(), DraftError> {
    let mut wanted = active.iter().map(|&(index, _)| index).peekable();
    let mut draftings: Vec<&mut Drafting<'_>> = Vec::with_capacity(active.len());
    for (index, plan) in plans.iter_mut().enumerate() {
        if wanted.next_if_eq(&index).is_some()
            && let Some(plan) = plan
        {
            draftings.push(&mut plan.drafting);
        }
    }
    // Unwind safety: the drafts of this step are thrown away, and the drafter's own state is what a
    // failed step leaves, which is all that it promises.
    catch_unwind(AssertUnwindSafe(|| {
        drafter.draft(&mut draftings, acceptance)
    }))
    .unwrap_or_else(|panic| Err(DraftError::from_panic(&*panic)))
}

/// Tokens that the draft model has caught up on since `active` was told how late it was for each.
fn late_tokens(
    plans: &[Option<Plan<'_>>],
    active: &[(usize, usize)],
    drafter: &dyn Drafter,
) -> usize {
    let read = |&(index, late): &(usize, usize)| {
        let plan = plans.get(index)?.as_ref()?;
        let left = behind(drafter, plan)?;
        Some(late.saturating_sub(left))
    };
    active.iter().filter_map(read).sum()
}

/// What the drafter has still to read of a sequence; `None` if it can't draft for it. A panic means that too.
fn behind(drafter: &dyn Drafter, plan: &Plan<'_>) -> Option<usize> {
    let Drafting { request, text, .. } = &plan.drafting;
    // Unwind safety: the drafter is only looked at.
    catch_unwind(AssertUnwindSafe(|| drafter.behind(request, text))).unwrap_or(None)
}
