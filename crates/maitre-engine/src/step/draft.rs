//! Speculation in the step: before the model runs, tokens are drafted for the sequences that decode; afterwards
//! the speculator learns which of them were accepted.

use std::collections::HashMap;
use std::time::Duration;

use maitre_scheduler::{NO_SLOT, PlannedSpan, RequestId, StepPlan};
use maitre_speculative::{DraftRequest, Drafted};

use crate::step::layout::Work;
use crate::step::result::SpanResult;
use crate::step::runner::StepRunner;
use crate::step::sequence::Sequence;

impl StepRunner {
    /// Drafts tokens for the places that the plan has for them. One list per span, mostly empty.
    pub(crate) fn draft(
        &mut self,
        plan: &StepPlan,
        sequences: &HashMap<RequestId, Sequence>,
    ) -> Vec<Vec<Drafted>> {
        let mut drafts = vec![Vec::new(); plan.spans.len()];
        let (indices, requests): (Vec<usize>, Vec<DraftRequest<'_>>) = plan
            .spans
            .iter()
            .enumerate()
            // What comes behind a token that is not known yet cannot be guessed.
            .filter(|(_, span)| span.tokens.iter().all(|token| token.known().is_some()))
            .filter_map(|(index, span)| {
                Some((index, self.request(span, sequences.get(&span.request)?)?))
            })
            .unzip();
        if requests.is_empty() {
            return drafts;
        }
        let others = plan.spans.iter().filter(|span| is_decode(span)).count() - requests.len();
        let decodes = requests.len() + others;
        let prompt_tokens = plan.num_tokens() - decodes;
        let began = self.clock.now();
        let clock = || self.clock.now().saturating_sub(began);
        let proposed = self
            .speculator
            .propose(&requests, others, prompt_tokens, &clock);
        for (index, proposed) in indices.into_iter().zip(proposed) {
            drafts[index] = proposed;
        }
        drafts
    }

    /// What the step that took this long made of `work`.
    pub(crate) fn learn(
        &mut self,
        work: &[Work<'_>],
        results: &[SpanResult],
        sequences: &HashMap<RequestId, Sequence>,
        took: Duration,
    ) {
        let (mut decodes, mut rows) = (0, 0);
        let mut prompt_tokens = 0;
        for (work, result) in work.iter().zip(results) {
            let Work { span, drafts } = *work;
            rows += work.rows();
            match is_decode(span) {
                true => decodes += 1,
                false => prompt_tokens += span.tokens.len(),
            }
            let Some(sequence) = sequences.get(&span.request) else {
                continue;
            };
            match self.request(span, sequence) {
                Some(request) if result.failure.is_none() => {
                    let tokens: Vec<u32> = result.tokens.iter().map(|it| it.token).collect();
                    let (known, drafted) = (span.context_len, result.drafted);
                    self.speculator
                        .verified(&request, known, drafted, &tokens, result.accepted);
                }
                _ => {
                    let slots = self.drafted_slots(span).iter();
                    let there = slots.take_while(|&&slot| slot == NO_SLOT);
                    let kept = span.first_position + there.count();
                    let end = span.context_len + drafts.len();
                    let table = sequence.whole_table(self.kv.drafted);
                    self.speculator.written(table, kept, end);
                    // Perhaps the first token of an answer.
                    let first: Vec<u32> = result.tokens.iter().map(|it| it.token).collect();
                    self.speculator.said(span.request.0, &first);
                }
            }
        }
        self.speculator.ran(decodes, prompt_tokens, rows, took);
    }
}

impl StepRunner {
    fn request<'a>(
        &self,
        span: &'a PlannedSpan,
        sequence: &'a Sequence,
    ) -> Option<DraftRequest<'a>> {
        is_decode(span).then(|| DraftRequest {
            id: span.request.0,
            most: span.drafts,
            rules: sequence.rules(),
            table: sequence.whole_table(self.kv.drafted),
            slots: self.drafted_slots(span),
        })
    }

    /// Where a draft model keeps the keys and values of a span, if it can keep them anywhere.
    fn drafted_slots<'a>(&self, span: &'a PlannedSpan) -> &'a [u32] {
        let group = self.kv.drafted.and_then(|group| span.groups.get(group));
        group.map_or(&[], |group| &group.slots)
    }
}

/// One known token whose logits yield the next: what tokens can be drafted for.
fn is_decode(span: &PlannedSpan) -> bool {
    span.samples && span.tokens.len() == 1
}
