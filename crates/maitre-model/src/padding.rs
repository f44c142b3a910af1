//! Batches of decodes, filled up to one of few sizes: what a GPU records once serves all that are as large.
//!
//! ```text
//! rows     1 2 4 8 16 24 .. 64 80 .. 256 288 ..     up to the runner's limit, which counts too
//! context  256 512 1024 ..                          powers of two, up to the longest there may be
//! ```
//!
//! A row that fills up belongs to no span, reads position 0 and writes no slot. Its result is not used.

use maitre_tensor::{KvGroup, NO_SLOT, Span, StepShape};

use crate::batch::{Batch, BatchLimits};

/// The least context that is told apart from a longer one.
const LEAST_CONTEXT: usize = 256;

/// Fills batches of decodes up; the batch is reused.
#[derive(Debug)]
pub(crate) struct Padding {
    most_rows: usize,
    most_context: usize,
    batch: Batch,
}

impl Padding {
    pub(crate) fn new(limits: &BatchLimits) -> Self {
        let most_rows = limits.max_tokens.min(limits.max_spans);
        let group = || KvGroup::new(limits.block_size);
        Self {
            most_rows: most_rows.min(limits.max_output_rows),
            most_context: limits.max_context_len,
            batch: Batch {
                tokens: Vec::new(),
                positions: Vec::new(),
                spans: Vec::new(),
                groups: limits.groups.iter().map(|_| group()).collect(),
                output_rows: Vec::new(),
            },
        }
    }

    /// As what a batch can be played: none unless every span is one token whose logits are wanted, in order.
    pub(crate) fn shape_of(&self, batch: &Batch) -> Option<StepShape> {
        let rows = batch.spans.len();
        let decodes = batch.spans.iter().all(|span| span.num_tokens == 1);
        let in_order = batch.output_rows.len() == rows
            && batch
                .output_rows
                .iter()
                .zip(0..)
                .all(|(&row, at)| row == at);
        let longest = batch.spans.iter().map(|span| span.context_len).max()?;
        let is_decode = decodes && in_order && rows <= self.most_rows;
        is_decode.then(|| StepShape {
            rows: filled(rows).min(self.most_rows),
            context_bound: longest
                .next_power_of_two()
                .clamp(LEAST_CONTEXT.min(self.most_context), self.most_context),
        })
    }

    /// `batch` with filling rows behind its own.
    pub(crate) fn fill(&mut self, batch: &Batch, shape: StepShape) -> &Batch {
        let Batch {
            tokens,
            positions,
            spans,
            groups,
            output_rows,
        } = &mut self.batch;
        let rows = shape.rows;
        for (list, own) in [(tokens, &batch.tokens), (positions, &batch.positions)] {
            list.clone_from(own);
            list.resize(rows, 0);
        }
        for (KvGroup { tables, slots }, from) in groups.iter_mut().zip(&batch.groups) {
            slots.clone_from(&from.slots);
            slots.resize(rows, NO_SLOT);
            tables.tables.clone_from(&from.tables.tables);
            tables.tables.resize_with(rows, Vec::new);
            tables.first_blocks.clone_from(&from.tables.first_blocks);
            tables.first_blocks.resize(rows, 0);
        }
        spans.clone_from(&batch.spans);
        spans.extend((spans.len()..rows).map(|row| Span {
            first_token: row,
            num_tokens: 0,
            context_len: 0,
        }));
        output_rows.clear();
        output_rows.extend(0..rows as u32);
        &self.batch
    }
}

/// The least size of a batch that is told apart and holds `rows`.
fn filled(rows: usize) -> usize {
    match rows {
        0..=8 => rows.next_power_of_two(),
        9..=64 => rows.next_multiple_of(8),
        65..=256 => rows.next_multiple_of(16),
        _ => rows.next_multiple_of(32),
    }
}

#[cfg(test)]
mod tests {
    use maitre_tensor::BlockTables;

    use super::*;
    use crate::kv_layout::Reads;

    fn limits() -> BatchLimits {
        BatchLimits {
            vocab_size: 10,
            max_context_len: 1000,
            groups: vec![Reads::Full, Reads::Window(300)],
            max_tokens: 100,
            max_spans: 30,
            max_output_rows: 100,
            num_blocks: 1000,
            num_host_blocks: 0,
            block_size: 4,
        }
    }

    fn decodes(contexts: &[usize]) -> Batch {
        let spans = contexts
            .iter()
            .enumerate()
            .map(|(first_token, &context_len)| Span {
                first_token,
                num_tokens: 1,
                context_len,
            });
        let group = |from: u32| KvGroup {
            tables: BlockTables {
                tables: contexts
                    .iter()
                    .map(|&len| (from..from + len.div_ceil(4) as u32).collect())
                    .collect(),
                first_blocks: vec![0; contexts.len()],
                block_size: 4,
            },
            slots: contexts
                .iter()
                .map(|&len| 4 * from + len as u32 - 1)
                .collect(),
        };
        Batch {
            tokens: vec![3; contexts.len()],
            positions: contexts.iter().map(|&len| len as u32 - 1).collect(),
            spans: spans.collect(),
            groups: vec![group(0), group(250)],
            output_rows: (0..contexts.len() as u32).collect(),
        }
    }

    #[test]
    fn decodes_are_filled_up_to_few_sizes() {
        let padding = Padding::new(&limits());
        let shape = |contexts: &[usize]| {
            let shape = padding.shape_of(&decodes(contexts)).unwrap();
            (shape.rows, shape.context_bound)
        };
        assert_eq!(shape(&[1]), (1, 256));
        assert_eq!(shape(&[5, 257, 3]), (4, 512));
        assert_eq!(shape(&[900; 17]), (24, 1000));
        assert_eq!(shape(&[9; 29]), (30, 256), "the limit");
    }

    #[test]
    fn anything_else_runs_as_it_is() {
        let padding = Padding::new(&limits());
        assert_eq!(padding.shape_of(&decodes(&[])), None);
        assert_eq!(padding.shape_of(&decodes(&[1; 31])), None);
        let mut chunk = decodes(&[8, 9]);
        chunk.spans[1].num_tokens = 2;
        assert_eq!(padding.shape_of(&chunk), None);
        let mut silent = decodes(&[8, 9]);
        silent.output_rows.pop();
        assert_eq!(padding.shape_of(&silent), None);
        let mut swapped = decodes(&[8, 9]);
        swapped.output_rows.swap(0, 1);
        assert_eq!(padding.shape_of(&swapped), None);
    }

    #[test]
    fn rows_of_nobody_touch_nothing() {
        let mut padding = Padding::new(&limits());
        for contexts in [&[7, 300, 2][..], &[1; 9], &[4]] {
            let batch = decodes(contexts);
            let shape = padding.shape_of(&batch).unwrap();
            let filled = padding.fill(&batch, shape);
            let (own, rows) = (contexts.len(), shape.rows);
            assert_eq!(filled.tokens[..own], batch.tokens);
            assert_eq!(filled.positions[..own], batch.positions);
            assert_eq!(filled.spans[..own], batch.spans);
            assert_eq!(filled.groups.len(), batch.groups.len());
            for (group, from) in filled.groups.iter().zip(&batch.groups) {
                assert_eq!(group.slots[..own], from.slots);
                assert_eq!(group.tables.tables[..own], from.tables.tables);
                assert_eq!(group.tables.first_blocks[..own], from.tables.first_blocks);
                assert!(group.slots[own..].iter().all(|&slot| slot == NO_SLOT));
                assert_eq!(group.tables.tables.len(), rows);
                assert_eq!(group.tables.first_blocks.len(), rows);
            }
            assert!(filled.spans[own..].iter().all(|span| span.context_len == 0));
            for len in [filled.tokens.len(), filled.spans.len()] {
                assert_eq!(len, rows);
            }
            assert_eq!(filled.output_rows, Vec::from_iter(0..rows as u32));
        }
    }
}
