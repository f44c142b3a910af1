//! Committing a step: checking the outcomes against the plan, then applying them all or none.

use std::collections::HashMap;

use maitre_kv::{BlockId, KvManager};

use crate::in_flight::{SpanInFlight, StepInFlight};
use crate::policy::Service;
use crate::request::{Place, Request};
use crate::{Outcome, RequestId, Scheduler, SchedulerError, StepId};

impl Scheduler {
    /// Learns what came of the oldest step in flight. Every span has one outcome, in any order;
    /// requests that were cancelled or expired since need none, and theirs are ignored.
    ///
    /// A request that finished, failed or has its `max_tokens` is gone afterwards. Its blocks are free, as are
    /// those of requests that were cancelled while the step was in flight, unless later steps in flight use
    /// them: then they are free after the newest of these.
    ///
    /// A request whose outcome was [deferred](Outcome::deferred) computes its last token again with the next plan that
    /// has space for it.
    ///
    /// # Errors
    ///
    /// [`SchedulerError::UnexpectedStep`], [`SchedulerError::MissingOutcome`],
    /// [`SchedulerError::UnplannedOutcome`], [`SchedulerError::DuplicateOutcome`],
    /// [`SchedulerError::WrongTokenCount`] or [`SchedulerError::NotDeferrable`]. Nothing has changed then; the step is still in flight.
    pub fn commit(&mut self, step: StepId, outcomes: &[Outcome]) -> Result<(), SchedulerError> {
        let expected = self.in_flight.oldest().map(|oldest| oldest.step);
        let Some(planned) = self.in_flight.oldest().filter(|oldest| oldest.step == step) else {
            return Err(SchedulerError::UnexpectedStep { step, expected });
        };
        let answers = self.match_outcomes(planned, outcomes)?;
        let done = self.in_flight.complete_oldest();
        if let Some(done) = &done {
            self.kv.settle(&done.moves);
            for (_, block) in &done.replaced {
                self.kv.let_go_replaced(&[*block]);
            }
        }
        for (span, outcome) in answers {
            self.apply(span, outcome);
        }
        for place in done.into_iter().flat_map(|step| step.release_after) {
            self.kv.release(place.sequence());
        }
        debug_assert_eq!(self.check_invariants(), Ok(()));
        Ok(())
    }

    /// Pairs each span whose request still runs with its outcome. Spans whose request is gone may be among
    /// them. Outcomes in the order of the plan, as they usually are, need not be looked for.
    pub(crate) fn match_outcomes<'a>(
        &self,
        planned: &StepInFlight,
        outcomes: &'a [Outcome],
    ) -> Result<Vec<(SpanInFlight, &'a Outcome)>, SchedulerError> {
        let step = planned.step;
        let pairs = || planned.spans.iter().copied().zip(outcomes);
        let in_order = outcomes.len() == planned.spans.len()
            && pairs().all(|(span, outcome)| span.request == outcome.request);
        if in_order {
            for (span, outcome) in pairs() {
                let checked = check_outcome(step, span, outcome);
                if checked.is_err() && self.running.contains_key(&span.place) {
                    return checked.map(|()| Vec::new());
                }
            }
            return Ok(pairs().collect());
        }
        let mut by_request = HashMap::with_capacity(outcomes.len());
        for outcome in outcomes {
            let request = outcome.request;
            if by_request.insert(request, outcome).is_some() {
                return Err(SchedulerError::DuplicateOutcome { step, request });
            }
        }
        let mut answers = Vec::with_capacity(planned.spans.len());
        for &span in &planned.spans {
            let outcome = by_request.remove(&span.request);
            if !self.running.contains_key(&span.place) {
                continue;
            }
            let request = span.request;
            let outcome = outcome.ok_or(SchedulerError::MissingOutcome { step, request })?;
            check_outcome(step, span, outcome)?;
            answers.push((span, outcome));
        }
        match by_request.into_keys().min() {
            Some(request) => Err(SchedulerError::UnplannedOutcome { step, request }),
            None => Ok(answers),
        }
    }

    fn apply(&mut self, span: SpanInFlight, outcome: &Outcome) {
        let Some(request) = self.running.get_mut(&span.place) else {
            return;
        };
        // The last new token has yet to be computed; those before it were drafted, and are.
        let accepted = outcome.tokens.len().saturating_sub(1);
        request.committed += span.num_tokens + accepted;
        // A token whose sample was not taken is computed once more.
        let again = usize::from(outcome.deferred && !outcome.ends());
        request.committed -= again;
        request.scheduled += accepted;
        request.scheduled -= again;
        request.next_drafts = outcome.next_drafts;
        request.delivered = request.delivered.max(request.committed);
        let prompt_is_computed = request.committed >= request.prompt_len;
        if !outcome.failed {
            request.tokens.extend_from_slice(&outcome.tokens);
            request.paid += outcome.tokens.len();
            let service = Service {
                tenant: request.tenant,
                weight: request.weight,
                prompt_tokens: 0,
                output_tokens: outcome.tokens.len(),
            };
            if service.output_tokens > 0 {
                self.policy.served(service);
            }
            // A fork computes the last token of the prompt again: until the next commit, what that reads is kept.
            let ends_prompt = usize::from(request.committed == request.prompt_len);
            let behind = request.committed - ends_prompt;
            let replaced = remember(&mut self.kv, span.place, request, behind);
            let unread = self.in_flight.keep_for(span.place, replaced);
            self.kv.let_go_replaced(&unread);
        }
        if span.drafts > 0 || again > 0 {
            self.kv
                .rewind_states(span.place.sequence(), request.scheduled);
        }
        if span.drafts > 0 {
            let kept = request.reserved(self.config.kv.block_size as usize);
            let kept = kept.max(request.committed + again);
            self.kv.shrink(span.place.sequence(), kept);
        }
        let ends = outcome.ends() || request.tokens.len() >= request.full_len;
        if prompt_is_computed {
            self.release_forks(span.place);
        }
        if ends {
            self.remove(span.place);
        }
    }
}

/// Names the blocks that a request has filled, and gives back what is not read from position `behind` on: steps in flight
/// compute later ones. Returns the blocks that were replaced by equal ones and that steps in flight still read.
pub(crate) fn remember(
    kv: &mut KvManager,
    place: Place,
    request: &mut Request,
    behind: usize,
) -> Vec<BlockId> {
    let (sequence, committed) = (place.sequence(), request.committed);
    let full = committed / kv.config().block_size as usize;
    let mut replaced = Vec::new();
    if request.write_cache && full > request.remembered {
        kv.extend_chain(&mut request.chain, &request.tokens);
        if request.is_in_flight() {
            replaced = kv.commit_in_flight(sequence, &request.chain, &request.tokens, committed);
        } else {
            kv.commit(sequence, &request.chain, &request.tokens, committed);
        }
        request.remembered = full;
    }
    kv.release_behind(sequence, behind);
    replaced
}

fn check_outcome(
    step: StepId,
    span: SpanInFlight,
    outcome: &Outcome,
) -> Result<(), SchedulerError> {
    let request: RequestId = span.request;
    if outcome.deferred && !outcome.ends() {
        return match span.deferrable && outcome.tokens.is_empty() {
            true => Ok(()),
            false => Err(SchedulerError::NotDeferrable { step, request }),
        };
    }
    let sampled = usize::from(span.samples);
    let expected = sampled..=sampled + span.drafts;
    let got = outcome.tokens.len();
    if expected.contains(&got) || (outcome.ends() && got < sampled) {
        return Ok(());
    }
    Err(SchedulerError::WrongTokenCount {
        step,
        request,
        expected,
        got,
    })
}
