//! Steps in flight: what may be planned ahead of them, and how they are taken back.
//!
//! A world is patient or *eager*. A patient one makes a step's copies and computes it when it is committed. An
//! eager one is like a device that runs each step as soon as it is planned: it makes the copies and writes
//! garbage to all slots at once, and computes the step at its commit, as if it had failed and was run again. So it
//! sees any block that is given away while a step in flight may have to read or write it once more.

use std::collections::BTreeSet;

use maitre_scheduler::{BlockMoves, Call, PlannedSpan, StepPlan, TokenRef};

use crate::world::{Entry, Mishaps, StepInFlight, World};

impl World {
    /// Whether a decode may be planned whose token a step in flight samples.
    pub(crate) fn may_go_ahead(&self, entry: &Entry) -> bool {
        let id = entry.request.id;
        let spans = self.in_flight.iter().flat_map(|step| &step.plan.spans);
        let mut own = spans.filter(|span| span.request == id);
        let prompt_logits = (0..entry.request.prompt.len())
            .all(|position| entry.delivered.contains(&position) || !entry.request.prompt_logits);
        entry.request.plan_ahead
            && entry.next_drafts == 0
            && own.all(|span| span.drafts == 0)
            && entry.scheduled + 1 < entry.full_len()
            && prompt_logits
    }

    /// The tokens that a span should have, by the books and the steps in flight.
    pub(crate) fn expected_tokens(&self, entry: &Entry, span: &PlannedSpan) -> Vec<TokenRef> {
        if span.first_position < entry.known {
            let known = &entry.answer[span.first_position..span.context_len];
            return known.iter().copied().map(TokenRef::Known).collect();
        }
        let samples_it = |step: &&StepInFlight| {
            step.plan.spans.iter().any(|it| {
                it.request == span.request && it.context_len == span.first_position && it.samples
            })
        };
        let step = self.in_flight.iter().find(samples_it);
        let step = step.expect("the token is sampled by a step in flight");
        let step = step.plan.step_id;
        vec![TokenRef::Sampled { step }]
    }

    /// The tokens of a span whose earlier steps are all committed. What a request computes that has ended
    /// meanwhile does not matter.
    pub(crate) fn resolve(&self, span: &PlannedSpan) -> Vec<u32> {
        let entry = self.live.get(&span.request);
        let answer = |position: usize| entry.map_or(0, |entry| entry.answer[position]);
        let tokens = (span.first_position..).zip(&span.tokens);
        tokens
            .map(|(position, token)| token.known().unwrap_or_else(|| answer(position)))
            .collect()
    }

    /// Takes a plan into flight.
    pub(crate) fn launch(&mut self, plan: &StepPlan) {
        let ahead = |span: &&PlannedSpan| span.tokens.iter().any(|token| token.known().is_none());
        self.tally.ahead += plan.spans.iter().filter(ahead).count() as u64;
        if plan.is_empty() {
            return;
        }
        self.check_moves_come_again(&plan.moves);
        let made = std::mem::take(&mut self.swapped_out);
        let mut to_make = plan.moves.clone();
        to_make.swap_out.retain(|moved| !made.contains(moved));
        let skipped = plan.moves.swap_out.iter().copied();
        let skipped = skipped.filter(|moved| made.contains(moved)).collect();
        let spans = plan.spans.iter();
        let tables = spans.map(|span| {
            let entry = &self.live[&span.request];
            (entry.tables.clone(), entry.root())
        });
        let mut step = StepInFlight {
            plan: plan.clone(),
            tables: tables.collect(),
            to_make,
            skipped,
            left_before: self.left(),
        };
        if self.eager {
            self.memory.make(&step.to_make);
            step.skipped = plan.moves.swap_out.clone();
            step.to_make = BlockMoves::default();
            plan.spans.iter().for_each(|span| self.memory.spoil(span));
        }
        self.in_flight.push_back(step);
    }

    /// What was planned by steps that were taken back comes first, unless it is not needed any more.
    fn check_moves_come_again(&mut self, moves: &BlockMoves) {
        let earlier = std::mem::take(&mut self.taken_back);
        for (earlier, now) in [
            (&earlier.swap_in, &moves.swap_in),
            (&earlier.copies, &moves.copies),
        ] {
            let again: Vec<_> = earlier.iter().filter(|it| now.contains(it)).collect();
            self.tally.moved_again += again.len() as u64;
            self.tally.forgone += (earlier.len() - again.len()) as u64;
            // After a request has left, a copy that it does not need may be planned for another.
            let in_order = now.iter().zip(earlier).all(|(a, b)| a == b);
            let all_stayed = self.left() == self.left_before_taken_back;
            assert!(!all_stayed || in_order, "earlier copies come first");
        }
        let places = |moves: &BlockMoves| {
            let places = moves.swap_out.iter().map(|moved| moved.to);
            places.collect::<BTreeSet<u32>>()
        };
        assert!(
            places(&earlier).is_subset(&places(moves)),
            "a block of the host tier is lost"
        );
        self.tally.moved_again += earlier.swap_out.len() as u64;
    }

    /// Requests that have given their blocks back.
    fn left(&self) -> u64 {
        (self.completed.len() + self.ended_otherwise.len()) as u64 + self.tally.preempted
    }

    /// Takes the newest step back, if there is one.
    pub(crate) fn retract(&mut self) {
        let Some(step) = self.in_flight.pop_back() else {
            return;
        };
        let id = step.plan.step_id;
        self.calls.push(Call::Retract { step: id });
        self.scheduler.retract(id).unwrap();
        self.tally.retracted += 1;
        for span in &step.plan.spans {
            let Some(entry) = self.live.get_mut(&span.request) else {
                continue;
            };
            entry.scheduled -= span.tokens.len();
            entry.in_flight -= span.tokens.len();
            let entry = &self.live[&span.request];
            let kept = self.blocks_for(self.reserved(entry).max(entry.scheduled + 1));
            let entry = self.live.get_mut(&span.request).unwrap();
            entry.truncate(kept);
        }
        self.left_before_taken_back = step.left_before;
        self.swapped_out.extend(step.skipped);
        let newer = std::mem::replace(&mut self.taken_back, step.plan.moves);
        self.taken_back.swap_out.extend(newer.swap_out);
        self.taken_back.swap_in.extend(newer.swap_in);
        self.taken_back.copies.extend(newer.copies);
        self.check_books();
    }

    /// The oldest step failed: all later ones are taken back, newest first, then it is run again.
    pub(crate) fn run_again(&mut self, mishaps: &Mishaps) {
        while self.in_flight.len() > 1 {
            self.retract();
        }
        self.commit(mishaps);
    }

    /// Plans as many steps as may be in flight.
    pub(crate) fn fill(&mut self) {
        while self.in_flight.len() < self.scheduler.config().steps_in_flight {
            if self.schedule().is_empty() {
                return;
            }
        }
    }
}
