//! Where the output rows of a step go: each to the span that asked for it.

use std::collections::HashMap;
use std::ops::Range;

use maitre_model::{Drawn, RowSink};
use maitre_sampling::{Logits, Sampler};
use maitre_scheduler::RequestId;
use maitre_speculative::Acceptance;
use maitre_tensor::Heartbeat;

use crate::observe::metrics;
use crate::step::layout::{RowOwner, Work};
use crate::step::result::SpanResult;
use crate::step::sequence::Sequence;
use crate::step::span_sampler::SpanSampler;

/// Turns output rows into the results of their spans.
pub(crate) struct Rows<'a> {
    owners: &'a [RowOwner],
    samplers: Vec<SpanSampler<'a>>,
    sampler: &'a mut Sampler,
    heartbeat: &'a Heartbeat,
    vocab_size: usize,
    /// Logits from here on belong to ids that no text has: padding rows of the embedding.
    choosable: usize,
    drawn: usize,
}

impl<'a> Rows<'a> {
    pub(crate) fn new(
        work: &'a [Work<'a>],
        owners: &'a [RowOwner],
        sequences: &'a HashMap<RequestId, Sequence>,
        acceptance: Acceptance,
        sampler: &'a mut Sampler,
        heartbeat: &'a Heartbeat,
        [vocab_size, choosable]: [usize; 2],
    ) -> Self {
        let sampler_of = |work: &'a Work<'a>| {
            SpanSampler::new(work, sequences.get(&work.span.request), acceptance)
        };
        Self {
            owners,
            samplers: work.iter().map(sampler_of).collect(),
            sampler,
            heartbeat,
            vocab_size,
            choosable,
            drawn: 0,
        }
    }

    /// One result per span.
    pub(crate) fn finish(self) -> Vec<SpanResult> {
        if self.drawn > 0 {
            metrics::drawn_on_device(self.drawn);
        }
        self.samplers.into_iter().map(SpanSampler::finish).collect()
    }

    /// The span that `row` belongs to, and the token of it. None for rows that the step does not have.
    fn owner(&mut self, row: usize) -> Option<(&mut SpanSampler<'a>, usize)> {
        let owner = self.owners.get(row)?;
        Some((self.samplers.get_mut(owner.span)?, owner.offset))
    }
}

impl RowSink for Rows<'_> {
    fn wants(&self, rows: Range<usize>) -> bool {
        let mut owners = self.owners.get(rows).unwrap_or_default().iter();
        owners.any(|owner| !self.samplers[owner.span].is_done())
    }

    fn token(&mut self, row: usize, drawn: Drawn) {
        self.heartbeat.beat();
        self.drawn += 1;
        if let Some((span, _)) = self.owner(row) {
            span.token(drawn.token);
        }
    }

    fn logits(&mut self, rows: Range<usize>, logits: maitre_model::Logits<'_>) {
        let blocks = logits.peaks.len() / rows.len().max(1);
        let width = self.vocab_size;
        for (index, row) in rows.enumerate() {
            self.heartbeat.beat();
            let Some(owner) = self.owners.get(row) else {
                return;
            };
            let row = Logits {
                values: &logits.values[index * width..][..self.choosable.min(width)],
                peaks: &logits.peaks[index * blocks..][..blocks],
            };
            self.samplers[owner.span].row(self.sampler, row, owner.offset);
        }
    }

    fn faulty(&mut self, row: usize) {
        self.heartbeat.beat();
        if let Some((span, _)) = self.owner(row) {
            span.faulty();
        }
    }
}
