//! The ragged batch: tokens of any number of sequences, in any mix of prefill and decode.
//!
//! ```text
//! tokens, positions   [T]   all spans' tokens one after the other
//! spans               [S]   {first_token, num_tokens, context_len}
//! groups              [G]   {a block table per span, slots [T]}, in the order of the model's groups of layers
//! output_rows         [L]   which of the T rows need logits
//! ```
//!
//! A batch is plain data built by the caller; [`Batch::validate`] is what stands between a mistake
//! there and another sequence's cache.

use maitre_tensor::{KvGroup, NO_SLOT, Span};

use crate::error::ModelError;
use crate::kv_layout::Reads;
use crate::table_error::TableError;

/// One step's input.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Token ids, `[T]`.
    pub tokens: Vec<u32>,
    /// Each token's position in its sequence, `[T]`.
    pub positions: Vec<u32>,
    /// Which tokens belong together, `[S]`; in order and without gaps.
    pub spans: Vec<Span>,
    /// Where keys and values live, for each of [`KvLayout::groups`](crate::KvLayout::groups) in their order. No page is in
    /// the tables of two groups.
    pub groups: Vec<KvGroup>,
    /// Rows of `tokens` whose logits are wanted, `[L]`; any order.
    pub output_rows: Vec<u32>,
}

/// What a runner was sized for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchLimits {
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// The longest context: of the model and, unless all its layers have a sliding window, of what the whole
    /// cache can hold.
    pub max_context_len: usize,
    /// For each KV group, how far back its layers read.
    pub groups: Vec<Reads>,
    /// Tokens per step.
    pub max_tokens: usize,
    /// Spans per step.
    pub max_spans: usize,
    /// Output rows per step.
    pub max_output_rows: usize,
    /// Pages in the cache: blocks that its groups share.
    pub num_blocks: usize,
    /// Pages in the host pool.
    pub num_host_blocks: usize,
    /// Tokens per block.
    pub block_size: usize,
}

impl Batch {
    /// Checks everything that the operators rely on.
    ///
    /// # Errors
    /// The first thing found wrong, with row or span, value and expectation.
    pub fn validate(&self, limits: &BatchLimits) -> Result<(), ModelError> {
        self.check_sizes(limits)?;
        self.check_tokens(limits)?;
        self.check_lengths(limits)?;
        let mut next_row = 0;
        for (index, span) in self.spans.iter().enumerate() {
            if span.first_token != next_row {
                return Err(ModelError::SpanNotContiguous {
                    span: index,
                    found: span.first_token,
                    expected: next_row,
                });
            }
            self.check_span(index, span, limits)?;
            for (group, reads) in limits.groups.iter().enumerate() {
                let table = self.check_table(group, *reads, index, span, limits)?;
                self.check_slots(group, span, table, limits)?;
            }
            next_row += span.num_tokens;
        }
        check_length("tokens in its spans", next_row, self.tokens.len())
    }

    fn check_sizes(&self, limits: &BatchLimits) -> Result<(), ModelError> {
        for (what, found, limit) in [
            ("tokens", self.tokens.len(), limits.max_tokens),
            ("spans", self.spans.len(), limits.max_spans),
            (
                "output rows",
                self.output_rows.len(),
                limits.max_output_rows,
            ),
        ] {
            if found > limit {
                return Err(ModelError::BatchTooLarge { what, found, limit });
            }
        }
        if self.tokens.is_empty() {
            return Err(ModelError::BatchLength {
                what: "tokens",
                found: 0,
                expected: 1,
            });
        }
        Ok(())
    }

    fn check_tokens(&self, limits: &BatchLimits) -> Result<(), ModelError> {
        let vocab_size = limits.vocab_size;
        let beyond = |token: &u32| *token as usize >= vocab_size;
        if let Some(row) = self.tokens.iter().position(beyond) {
            return Err(ModelError::TokenOutOfRange {
                row,
                token: self.tokens[row],
                vocab_size,
            });
        }
        let rows = self.tokens.len();
        let beyond = |row: &u32| *row as usize >= rows;
        if let Some(index) = self.output_rows.iter().position(beyond) {
            return Err(ModelError::OutputRowOutOfRange {
                index,
                row: self.output_rows[index],
                rows,
            });
        }
        Ok(())
    }

    fn check_lengths(&self, limits: &BatchLimits) -> Result<(), ModelError> {
        let (rows, spans) = (self.tokens.len(), self.spans.len());
        check_length("positions", self.positions.len(), rows)?;
        check_length("KV groups", self.groups.len(), limits.groups.len())?;
        for KvGroup { tables, slots } in &self.groups {
            check_length("slots", slots.len(), rows)?;
            check_length("block tables", tables.tables.len(), spans)?;
            if !tables.first_blocks.is_empty() {
                check_length("first blocks", tables.first_blocks.len(), spans)?;
            }
            check_length("tokens per block", tables.block_size, limits.block_size)?;
        }
        Ok(())
    }

    /// A span holds the last `num_tokens` positions of its context.
    fn check_span(
        &self,
        index: usize,
        span: &Span,
        limits: &BatchLimits,
    ) -> Result<(), ModelError> {
        let Span {
            first_token,
            num_tokens,
            context_len,
        } = *span;
        if num_tokens == 0 {
            return Err(ModelError::EmptySpan { span: index });
        }
        if num_tokens > context_len || context_len > limits.max_context_len {
            return Err(ModelError::ContextLength {
                span: index,
                num_tokens,
                context_len,
                limit: limits.max_context_len,
            });
        }
        let rows = self.positions.get(first_token..).unwrap_or_default();
        let Some(positions) = rows.get(..num_tokens) else {
            return check_length(
                "tokens in its spans",
                first_token + num_tokens,
                self.tokens.len(),
            );
        };
        for (offset, position) in positions.iter().enumerate() {
            let expected = context_len - num_tokens + offset;
            if *position as usize != expected {
                return Err(ModelError::PositionMismatch {
                    row: first_token + offset,
                    found: *position,
                    expected,
                });
            }
        }
        Ok(())
    }

    /// A span's table in a group names a page for every block that its tokens see.
    fn check_table(
        &self,
        group: usize,
        reads: Reads,
        index: usize,
        span: &Span,
        limits: &BatchLimits,
    ) -> Result<Table<'_>, ModelError> {
        let tables = &self.groups[group].tables;
        let table = Table {
            first_block: tables.first_block(index),
            blocks: tables.tables.get(index).map_or(&[], Vec::as_slice),
        };
        // Blocks behind the window have been given back.
        let held = span.first_seen(reads.window()) / limits.block_size;
        if table.first_block > held {
            return Err(TableError::BeginsLate {
                group,
                span: index,
                found: table.first_block,
                needed: held,
            }
            .into());
        }
        let needed = span.context_len.div_ceil(limits.block_size);
        let found = table.first_block + table.blocks.len();
        if found < needed {
            return Err(TableError::TooShort {
                group,
                span: index,
                found,
                needed,
            }
            .into());
        }
        let mut blocks = table.blocks.iter().skip(held - table.first_block);
        match blocks.find(|block| **block as usize >= limits.num_blocks) {
            None => Ok(table),
            Some(block) => Err(TableError::BlockOutOfRange {
                group,
                span: index,
                block: *block,
                num_blocks: limits.num_blocks,
            }
            .into()),
        }
    }

    /// A token is written where its sequence's table says, or nowhere.
    fn check_slots(
        &self,
        group: usize,
        span: &Span,
        table: Table<'_>,
        limits: &BatchLimits,
    ) -> Result<(), ModelError> {
        let block_size = limits.block_size;
        let slots = &self.groups[group].slots;
        let rows = slots.iter().enumerate().skip(span.first_token);
        for (row, &found) in rows.take(span.num_tokens) {
            let position = self.positions[row] as usize;
            let block = table.blocks[position / block_size - table.first_block] as usize;
            let expected = block * block_size + position % block_size;
            if found != NO_SLOT && found as usize != expected {
                return Err(TableError::SlotMismatch {
                    group,
                    row,
                    found,
                    expected,
                }
                .into());
            }
        }
        Ok(())
    }
}

/// A span's blocks from one of them on.
#[derive(Debug, Clone, Copy)]
struct Table<'a> {
    first_block: usize,
    blocks: &'a [u32],
}

fn check_length(what: &'static str, found: usize, expected: usize) -> Result<(), ModelError> {
    if found == expected {
        return Ok(());
    }
    Err(ModelError::BatchLength {
        what,
        found,
        expected,
    })
}

#[cfg(test)]
mod tests {
    use maitre_tensor::BlockTables;

    use super::*;

    /// A group under full attention and one with a window of six; blocks of four tokens.
    fn limits() -> BatchLimits {
        BatchLimits {
            vocab_size: 10,
            max_context_len: 100,
            groups: vec![Reads::Full, Reads::Window(6)],
            max_tokens: 10,
            max_spans: 2,
            max_output_rows: 10,
            num_blocks: 50,
            num_host_blocks: 0,
            block_size: 4,
        }
    }

    /// Positions 13 and 14 of one sequence: the first of them sees position 8 at the earliest.
    fn good() -> Batch {
        let group = |first: u32, blocks: &[u32], slots: [u32; 2]| KvGroup {
            tables: BlockTables {
                tables: vec![blocks.to_vec()],
                first_blocks: vec![first],
                block_size: 4,
            },
            slots: slots.to_vec(),
        };
        Batch {
            tokens: vec![1, 2],
            positions: vec![13, 14],
            spans: vec![Span {
                first_token: 0,
                num_tokens: 2,
                context_len: 15,
            }],
            groups: vec![
                group(0, &[7, 3, 9, 11], [45, 46]),
                group(2, &[20, 2], [9, 10]),
            ],
            output_rows: vec![1],
        }
    }

    #[test]
    fn each_group_has_the_blocks_that_its_layers_read() {
        assert!(good().validate(&limits()).is_ok());
        type Breakage = fn(&mut Batch);
        let table: &[(&str, Breakage)] = &[
            ("the batch has 1 KV groups; expected 2", |b| {
                b.groups.pop();
            }),
            (
                "the block table of span 0 in KV group 1 begins with block 3; its tokens see block 2",
                |b| {
                    b.groups[1].tables.first_blocks[0] = 3;
                },
            ),
            (
                "the block table of span 0 in KV group 0 begins with block 1; its tokens see block 0",
                |b| {
                    b.groups[0].tables.first_blocks[0] = 1;
                },
            ),
            (
                "the block table of span 0 in KV group 1 has 3 blocks; its context needs 4",
                |b| {
                    b.groups[1].tables.tables[0].pop();
                },
            ),
            (
                "the block table of span 0 in KV group 1 names block 50 of 50",
                |b| b.groups[1].tables.tables[0][0] = 50,
            ),
            (
                "row 1 writes slot 46 in KV group 1; its block table implies 10",
                |b| {
                    b.groups[1].slots[1] = 46;
                },
            ),
            ("the batch has 1 slots; expected 2", |b| {
                b.groups[1].slots.pop();
            }),
        ];
        for (message, breakage) in table {
            let mut broken = good();
            breakage(&mut broken);
            let error = broken.validate(&limits()).unwrap_err();
            assert_eq!(error.to_string(), *message);
        }
    }
}
