//! What a span's rows of logits amount to: prompt scores, and the next tokens.
//!
//! The masks of a constrained sequence are asked for with the first row that it samples from, as late as can be.

use maitre_sampling::{Logits, Sampler, SamplingError};
use maitre_speculative::{Acceptance, Rules, Verified, Verifier};

use crate::step::constraint::Verdict;
use crate::step::layout::Work;
use crate::step::result::SpanResult;
use crate::step::sequence::Sequence;

/// One span while its rows come in, in order.
pub(crate) struct SpanSampler<'a> {
    work: &'a Work<'a>,
    sequence: Option<&'a Sequence>,
    /// From the first row on that it samples from.
    verifier: Option<Verifier<'a>>,
    acceptance: Acceptance,
    result: SpanResult,
}

impl<'a> SpanSampler<'a> {
    pub(crate) fn new(
        work: &'a Work<'a>,
        sequence: Option<&'a Sequence>,
        acceptance: Acceptance,
    ) -> Self {
        Self {
            work,
            sequence,
            verifier: None,
            acceptance,
            result: SpanResult::empty(work.span.request),
        }
    }

    /// Whether further rows change nothing.
    pub(crate) fn is_done(&self) -> bool {
        self.sequence.is_none()
            || self.result.failure.is_some()
            || self.result.deferred
            || self.result.is_complete
            || self.verifier.as_ref().is_some_and(Verifier::is_done)
    }

    /// Turns the row of the token at `offset` into what its position asks for: a next token, or the score
    /// of the prompt token that is known to come next. A row that can't be used fails its span alone.
    pub(crate) fn row(&mut self, sampler: &mut Sampler, row: Logits<'_>, offset: usize) {
        if !self.is_done()
            && let Err(error) = self.sample(sampler, row, offset)
        {
            self.result = SpanResult::failed(self.work.span.request, error.to_string());
        }
    }

    fn sample(
        &mut self,
        sampler: &mut Sampler,
        row: Logits<'_>,
        offset: usize,
    ) -> Result<(), SamplingError> {
        let span = self.work.span;
        if span.samples && offset + 1 >= span.tokens.len() {
            self.begin_to_verify();
            let verifier = self.verifier.as_mut();
            return verifier.map_or(Ok(()), |verifier| verifier.row(sampler, row));
        }
        if let Some(sequence) = self.sequence
            && let Some(k) = sequence.choice.prompt_logprobs
            && let Some(&next) = sequence.scored_prompt.get(span.first_position + offset + 1)
        {
            let scored = sampler.token_logprobs(row, next, k)?;
            self.result.prompt_logprobs.push(scored);
        }
        Ok(())
    }

    /// Sees to it that there is a verifier, unless a constraint stands in the way of any token.
    fn begin_to_verify(&mut self) {
        let Some(sequence) = self.sequence.filter(|_| self.verifier.is_none()) else {
            return;
        };
        let constraint = match &sequence.constraint {
            None => None,
            Some(constraint) => match constraint.verdict(self.work.drafts) {
                Verdict::Allowed(allowed) => Some(allowed),
                Verdict::Late => return self.result.deferred = true,
                Verdict::Complete => return self.result.is_complete = true,
                Verdict::Stuck(message) => {
                    self.result = SpanResult::failed(self.work.span.request, message);
                    self.result.is_stuck = true;
                    return;
                }
                Verdict::Failed(message) => {
                    self.result = SpanResult::failed(self.work.span.request, message);
                    return;
                }
            },
        };
        let rules = Rules {
            constraint,
            ..sequence.rules()
        };
        self.verifier = Some(Verifier::new(rules, self.work.drafts, self.acceptance));
    }

    /// The row of the token at `offset` has become `token`, as `Rules::draw_row` said.
    pub(crate) fn token(&mut self, token: u32) {
        if self.is_done() {
            return;
        }
        self.begin_to_verify();
        if let Some(verifier) = &mut self.verifier {
            verifier.token(token);
        }
    }

    /// The executor could not draw from a row of this span.
    pub(crate) fn faulty(&mut self) {
        if !self.is_done() {
            let message = "no token can be drawn from the logits: they are not all numbers, or all of them are -inf; \
                           the model's weights or activations overflowed, try a wider dtype";
            self.result = SpanResult::failed(self.work.span.request, message.to_owned());
        }
    }

    pub(crate) fn finish(mut self) -> SpanResult {
        if self.result.failure.is_some() {
            return self.result;
        }
        if let Some(verifier) = self.verifier {
            let Verified { tokens, accepted } = verifier.finish();
            self.result.tokens = tokens;
            self.result.accepted = accepted;
            self.result.drafted = self.work.drafts.len();
        }
        self.result
    }
}
