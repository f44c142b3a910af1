//! A step as the executor takes it: planned spans laid end to end, and what is wanted of their rows.

use std::collections::HashMap;

use maitre_model::{Batch, KvGroup, RowWant, SampledToken};
use maitre_scheduler::{KvSpec, PlannedSpan, RequestId};
use maitre_speculative::{Acceptance, Drafted};
use maitre_tensor::Span;

use crate::step::sequence::Sequence;

/// One span of a step with what was drafted for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work<'a> {
    pub(crate) span: &'a PlannedSpan,
    pub(crate) drafts: &'a [Drafted],
}

impl<'a> Work<'a> {
    pub(crate) fn of(spans: &'a [PlannedSpan], drafts: &'a [Vec<Drafted>]) -> Vec<Self> {
        let pairs = spans.iter().zip(drafts);
        pairs.map(|(span, drafts)| Self { span, drafts }).collect()
    }

    pub(crate) fn rows(&self) -> usize {
        self.span.tokens.len() + self.drafts.len()
    }
}

/// Where one output row belongs: which span, which of its tokens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowOwner {
    pub(crate) span: usize,
    pub(crate) offset: usize,
}

/// A step's batch and what goes with it. It is reused: a step that is as large as an earlier one allocates nothing
/// here.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) batch: Batch,
    pub(crate) sampled: Vec<SampledToken>,
    pub(crate) wants: Vec<RowWant>,
    pub(crate) owners: Vec<RowOwner>,
}

/// How the keys and values of sequences are kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KvShape {
    /// Tokens per block.
    pub(crate) block_size: usize,
    /// Groups of layers with block tables of their own.
    pub(crate) num_groups: usize,
    /// The group whose blocks a draft model keeps its own keys and values in: the first under full attention, whose
    /// tables have all blocks of a sequence.
    pub(crate) drafted: Option<usize>,
}

impl KvShape {
    pub(crate) fn new(block_size: usize, groups: &[KvSpec]) -> Self {
        Self {
            block_size,
            num_groups: groups.len(),
            drafted: groups.iter().position(|spec| *spec == KvSpec::Full),
        }
    }
}

impl Layout {
    pub(crate) fn new(kv: KvShape) -> Self {
        let groups = (0..kv.num_groups).map(|_| KvGroup::new(kv.block_size));
        Self {
            batch: Batch {
                tokens: Vec::new(),
                positions: Vec::new(),
                spans: Vec::new(),
                groups: groups.collect(),
                output_rows: Vec::new(),
            },
            sampled: Vec::new(),
            wants: Vec::new(),
            owners: Vec::new(),
        }
    }

    /// Lays out `work`, each span with its drafted tokens behind it.
    ///
    /// A token that a step in flight samples is taken from there; if all of a sequence's steps are committed, its
    /// newest token is known by now.
    pub(crate) fn lay(
        &mut self,
        work: &[Work<'_>],
        sequences: &HashMap<RequestId, Sequence>,
        acceptance: Acceptance,
    ) {
        self.clear();
        for (index, work) in work.iter().enumerate() {
            let sequence = sequences.get(&work.span.request);
            let first = self.batch.tokens.len();
            self.add_tokens(work, sequence);
            self.add_tables(index, sequence);
            self.add_rows(index, first, work, sequence, acceptance);
        }
        for group in &mut self.batch.groups {
            group.tables.tables.truncate(work.len());
        }
    }

    /// Whether a row is wanted that the executor does not draw: its step's tokens are known when it is waited for.
    pub(crate) fn needs_host(&self) -> bool {
        self.wants.contains(&RowWant::Logits)
    }

    fn clear(&mut self) {
        self.batch.tokens.clear();
        self.batch.positions.clear();
        self.batch.spans.clear();
        self.batch.output_rows.clear();
        for group in &mut self.batch.groups {
            group.slots.clear();
            group.tables.first_blocks.clear();
        }
        self.sampled.clear();
        self.wants.clear();
        self.owners.clear();
    }

    fn add_tokens(&mut self, work: &Work<'_>, sequence: Option<&Sequence>) {
        let Work { span, drafts } = *work;
        let batch = &mut self.batch;
        let first_token = batch.tokens.len();
        for token in &span.tokens {
            let known = token.known().or_else(|| {
                let sequence = sequence?;
                let sampled = (sequence.ahead > 0)
                    .then(|| sequence.sampled(batch.tokens.len() as u32))
                    .flatten();
                self.sampled.extend(sampled);
                sampled.is_none().then_some(sequence.newest)
            });
            batch.tokens.push(known.unwrap_or_default());
        }
        batch.tokens.extend(drafts.iter().map(|draft| draft.token));
        let (first, rows) = (span.first_position, work.rows());
        let positions = (first..first + rows).map(|position| position as u32);
        batch.positions.extend(positions);
        batch.spans.push(Span {
            first_token,
            num_tokens: rows,
            context_len: span.context_len + drafts.len(),
        });
        for (group, planned) in batch.groups.iter_mut().zip(&span.groups) {
            group.slots.extend(planned.slots.iter().take(rows));
        }
    }

    fn add_tables(&mut self, index: usize, sequence: Option<&Sequence>) {
        let own = sequence.map_or(&[][..], |sequence| &sequence.tables);
        for (number, group) in self.batch.groups.iter_mut().enumerate() {
            let tables = &mut group.tables.tables;
            if tables.len() == index {
                tables.push(Vec::new());
            }
            tables[index].clear();
            let table = own.get(number);
            tables[index].extend_from_slice(table.map_or(&[], |table| &table.blocks));
            let first = table.map_or(0, |table| table.first_block as u32);
            group.tables.first_blocks.push(first);
        }
    }

    fn add_rows(
        &mut self,
        index: usize,
        first: usize,
        work: &Work<'_>,
        sequence: Option<&Sequence>,
        acceptance: Acceptance,
    ) {
        let Work { span, drafts } = *work;
        let rules = sequence.filter(|_| span.samples).map(Sequence::rules_ahead);
        for offset in span.output_positions.start..span.output_positions.end + drafts.len() {
            self.batch.output_rows.push((first + offset) as u32);
            self.owners.push(RowOwner {
                span: index,
                offset,
            });
            // Rows in front of the last known token score the prompt.
            let index = (offset + 1).checked_sub(span.tokens.len());
            let draw = rules
                .as_ref()
                .zip(index)
                .and_then(|(rules, index)| rules.draw_row(index, drafts.len(), acceptance));
            self.wants
                .push(draw.map_or(RowWant::Logits, RowWant::Token));
        }
    }
}
