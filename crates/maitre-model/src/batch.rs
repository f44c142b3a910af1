//! The ragged batch: tokens of any number of sequences, in any mix of prefill and decode.
//!
//! ```text
//! tokens, positions   [T]   all spans' tokens one after the other
//! spans               [S]   {first_token, num_tokens, context_len}
//! groups              [G]   {a block table per span, slots [T]}
//! output_rows         [L]   which of the T rows need logits
//! ```
//!
//! A batch is plain data built by the caller; [`Batch::validate`] is what stands between a mistake
//! there and another sequence's cache.

use maitre_tensor::{BlockTables, NO_SLOT, Span};

use crate::error::ModelError;

/// One step's input.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Token ids, `[T]`.
    pub tokens: Vec<u32>,
    /// Each token's position in its sequence, `[T]`.
    pub positions: Vec<u32>,
    /// Which tokens belong together, `[S]`; in order and without gaps.
    pub spans: Vec<Span>,
    /// Where keys and values live. Exactly one group: all layers attend to the same positions.
    pub groups: Vec<KvGroup>,
    /// Rows of `tokens` whose logits are wanted, `[L]`; any order.
    pub output_rows: Vec<u32>,
}

/// The places in the cache that a batch reads and writes.
#[derive(Debug, Clone)]
pub struct KvGroup {
    /// One block table per span. If the model has a sliding window, entries of blocks that lie
    /// wholly behind that of the span's first token are not read and may be any number.
    pub tables: BlockTables,
    /// Where each token's key and value go, `[T]`: `block · block_size + offset`, or [`NO_SLOT`] to
    /// compute without writing.
    pub slots: Vec<u32>,
}

/// What a runner was sized for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchLimits {
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// The longest context: of the model and, unless that has a sliding window, of what the whole
    /// cache can hold.
    pub max_context_len: usize,
    /// Positions that a token attends to at most, its own included.
    pub sliding_window: Option<usize>,
    /// Tokens per step.
    pub max_tokens: usize,
    /// Spans per step.
    pub max_spans: usize,
    /// Output rows per step.
    pub max_output_rows: usize,
    /// Blocks in the cache.
    pub num_blocks: usize,
    /// Blocks in the host pool.
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
        let group = self.group()?;
        self.check_tokens(limits)?;
        self.check_lengths(group, limits)?;
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
            let table = group
                .tables
                .tables
                .get(index)
                .map_or(&[][..], Vec::as_slice);
            check_table(index, span, table, limits)?;
            self.check_slots(span, table, group, limits)?;
            next_row += span.num_tokens;
        }
        check_length("tokens in its spans", next_row, self.tokens.len())
    }

    /// The one group a batch has.
    pub(crate) fn group(&self) -> Result<&KvGroup, ModelError> {
        match self.groups.as_slice() {
            [group] => Ok(group),
            groups => Err(ModelError::BatchLength {
                what: "KV groups",
                found: groups.len(),
                expected: 1,
            }),
        }
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

    fn check_lengths(&self, group: &KvGroup, limits: &BatchLimits) -> Result<(), ModelError> {
        let (rows, spans) = (self.tokens.len(), self.spans.len());
        check_length("positions", self.positions.len(), rows)?;
        check_length("slots", group.slots.len(), rows)?;
        check_length("block tables", group.tables.tables.len(), spans)?;
        check_length(
            "tokens per block",
            group.tables.block_size,
            limits.block_size,
        )
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

    /// A token is written where its sequence's table says, or nowhere.
    fn check_slots(
        &self,
        span: &Span,
        table: &[u32],
        group: &KvGroup,
        limits: &BatchLimits,
    ) -> Result<(), ModelError> {
        let block_size = limits.block_size;
        for row in span.first_token..span.first_token + span.num_tokens {
            let position = self.positions[row] as usize;
            let expected =
                table[position / block_size] as usize * block_size + position % block_size;
            let found = group.slots[row];
            if found != NO_SLOT && found as usize != expected {
                return Err(ModelError::SlotMismatch {
                    row,
                    found,
                    expected,
                });
            }
        }
        Ok(())
    }
}

fn check_table(
    index: usize,
    span: &Span,
    table: &[u32],
    limits: &BatchLimits,
) -> Result<(), ModelError> {
    let needed = span.context_len.div_ceil(limits.block_size);
    if table.len() < needed {
        return Err(ModelError::TableTooShort {
            span: index,
            found: table.len(),
            needed,
        });
    }
    // Blocks behind the window have been given back.
    let held = span.first_seen(limits.sliding_window) / limits.block_size;
    let mut blocks = table.iter().skip(held);
    match blocks.find(|block| **block as usize >= limits.num_blocks) {
        None => Ok(()),
        Some(block) => Err(ModelError::BlockOutOfRange {
            span: index,
            block: *block,
            num_blocks: limits.num_blocks,
        }),
    }
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
