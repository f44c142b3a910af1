//! Attention over the paged cache.
//!
//! Work is cut into some token rows of the query heads that share one key head, so that each key
//! and value loaded meets all of them. Where that leaves threads without work (few sequences, few
//! key heads), contexts are cut too, at the fixed boundaries of chunks, and the chunks' results are
//! merged in a second pass over the team.

mod walk;

use std::ops::Range;

use super::{Processor, floats, floats_mut};
use crate::attend::Attend;
use crate::kernels::Kernels;
use crate::operators::PagedAttention;
use crate::team::{Need, Scratch, Turn};
use crate::tiles::{Grid, Rect, RowBlocks};
use crate::{Attention, LayerCache, TensorError};

use walk::{Partial, Record, Walk};

/// Work items per thread below which they are made smaller, as far as they stay [full](Kernels::full_queries). Each item
/// of a span reads its keys and values once more.
const ITEMS_PER_THREAD: usize = 4;

/// Work items per thread below which contexts are split.
const SPLIT_BELOW: usize = 2;

/// Most numbers that the chunks of split contexts may leave behind.
const MOST_RECORDED: usize = 4 << 20;

impl PagedAttention for Processor {
    fn paged_attention(&self, args: Attention<'_>, rows: usize) -> Result<(), TensorError> {
        let width = args.heads * args.head_dim;
        let attend = Attend {
            q: floats(args.q, rows * width)?,
            cache: args.cache,
            spans: args.spans,
            tables: args.tables,
            heads: args.heads,
            kv_heads: args.kv_heads,
            head_dim: args.head_dim,
            scale: args.scale,
            score_bound: args.score_bound,
            window: args.window.unwrap_or(usize::MAX),
        };
        let out = floats_mut(args.out, rows * width)?;
        let plan = Plan::new(self.kernels, &attend, rows, self.team.threads());
        let mut turn = self.team.lead("paged_attention");
        let work = Work {
            kernels: self.kernels,
            args: &attend,
            plan,
        };
        if plan.chunks == 1 {
            return turn.for_each(plan.grid(&attend, out), |rect, scratch| {
                work.whole(rect, scratch);
            });
        }
        let mut scratch = turn.borrow_scratch();
        let result = work.split(&mut turn, out, &mut scratch);
        turn.give_back(scratch);
        result
    }
}

/// How the work is cut up. No result depends on it.
#[derive(Clone, Copy)]
struct Plan {
    /// Token rows per work item.
    block: usize,
    /// Blocks of token rows.
    blocks: usize,
    /// The most chunks that the tokens of a span see, if contexts are split, else 1.
    chunks: usize,
}

impl Plan {
    fn new(kernels: &Kernels, args: &Attend<'_>, rows: usize, threads: usize) -> Self {
        let group = args.heads / args.kv_heads;
        let pieces = rows * args.kv_heads;
        // Rather items that are not full than threads without one.
        let least = kernels.full_queries.div_ceil(group).min(pieces / threads);
        let block = (pieces / (threads * ITEMS_PER_THREAD)).max(least);
        let block = block.clamp(1, kernels.queries.div_ceil(group));
        let blocks = rows.div_ceil(block);
        let chunks = args.spans.iter().map(|span| {
            let seen = span.first_seen(Some(args.window))..span.context_len;
            walk::chunks_of(seen).len()
        });
        let chunks = chunks.max().unwrap_or(0).max(1);
        let recorded = blocks * block * args.heads * Record::len(args.head_dim);
        let few = threads > 1 && blocks * args.kv_heads < threads * SPLIT_BELOW;
        let splits = few && recorded.saturating_mul(chunks) <= MOST_RECORDED;
        Self {
            block,
            blocks,
            chunks: if splits { chunks } else { 1 },
        }
    }

    /// Rectangles of token rows by the query heads of a key head.
    fn grid<'a>(&self, args: &Attend<'_>, out: &'a mut [f32]) -> Grid<'a, f32> {
        let width = args.heads * args.head_dim;
        Grid::new(out, width, self.block, width / args.kv_heads)
    }
}

/// What every work item knows.
#[derive(Clone, Copy)]
struct Work<'a> {
    kernels: &'static Kernels,
    args: &'a Attend<'a>,
    plan: Plan,
}

impl<'a> Work<'a> {
    fn walk(&self, kv_head: usize, span: usize, tokens: Range<usize>) -> Walk<'a> {
        Walk {
            kernels: self.kernels,
            args: self.args,
            span,
            tokens,
            kv_head,
        }
    }

    /// The key head of a rectangle.
    fn kv_head(&self, rect: &Rect<'_, f32>) -> usize {
        rect.cols().start / (self.args.heads / self.args.kv_heads * self.args.head_dim)
    }

    /// Whole contexts, one chunk after the other.
    fn whole(&self, mut out: Rect<'_, f32>, scratch: &mut Scratch) {
        let (dim, kv_head) = (self.args.head_dim, self.kv_head(&out));
        let mut records = scratch.take_records();
        Walk::each_span(self.args.spans, out.rows(), |span, tokens| {
            let walk = self.walk(kv_head, span, tokens.clone());
            let (group, len) = (walk.group(), Record::len(dim));
            records.resize(records.len().max(tokens.len() * group * len), 0.0);
            walk.run(walk.chunks(), scratch, |query, is_first, partial| {
                Record(&mut records[query * len..][..len]).take(is_first, &partial);
            });
            for (query, record) in records[..tokens.len() * group * len]
                .chunks_exact_mut(len)
                .enumerate()
            {
                let row = out.row_mut(tokens.start + query / group);
                Record(record).finish(&mut row[query % group * dim..][..dim]);
            }
        });
        scratch.give_records(records);
    }

    /// Every chunk on its own, then the merging.
    ///
    /// ```text
    /// records   [kv_heads][blocks of rows][chunks] of [block][group][head_dim + 2]
    /// ```
    ///
    /// The chunks of a block count from the first that its rows of a span see.
    fn split(
        &self,
        turn: &mut Turn<'_>,
        out: &mut [f32],
        scratch: &mut Scratch,
    ) -> Result<(), TensorError> {
        let (args, plan) = (self.args, self.plan);
        let group = args.heads / args.kv_heads;
        let (dim, len) = (args.head_dim, Record::len(args.head_dim));
        let item = plan.block * group * len;
        let records = args.kv_heads * plan.blocks * plan.chunks * item;
        let records = scratch.floats(records);
        turn.for_each(RowBlocks::new(records, item, 1), |part, scratch| {
            let (item, chunk) = (part.first / plan.chunks, part.first % plan.chunks);
            let (kv_head, first) = (item / plan.blocks, item % plan.blocks * plan.block);
            Walk::each_span(args.spans, first..first + plan.block, |span, tokens| {
                let walk = self.walk(kv_head, span, tokens.clone());
                if let Some(chunk) = walk.chunks().nth(chunk) {
                    let offset = (tokens.start - first) * group;
                    walk.run(chunk..chunk + 1, scratch, |query, _, partial| {
                        let start = (offset + query) * len;
                        Record(&mut part.data[start..start + len]).take(true, &partial);
                    });
                }
            });
        })?;
        let records = &*records;
        turn.for_each(plan.grid(args, out), |mut rect, scratch| {
            let kv_head = self.kv_head(&rect);
            let first = rect.rows().start;
            let items = (kv_head * plan.blocks + first / plan.block) * plan.chunks;
            let total = scratch.floats(len);
            Walk::each_span(args.spans, rect.rows(), |span, tokens| {
                let first_chunk = self.walk(kv_head, span, tokens.clone()).chunks().start;
                for token in tokens {
                    let chunks = self.walk(kv_head, span, token..token + 1).chunks();
                    for head in 0..group {
                        let offset = ((token - first) * group + head) * len;
                        for chunk in chunks.clone() {
                            let start = (items + chunk - first_chunk) * item + offset;
                            let partial = Partial::of(&records[start..start + len]);
                            Record(total).take(chunk == chunks.start, &partial);
                        }
                        let out = &mut rect.row_mut(token)[head * dim..][..dim];
                        Record(total).finish(out);
                    }
                }
            });
        })
    }
}

/// Scratch of a tile, and of a whole call of [`Backend::paged_attention`](crate::Backend::paged_attention), at most.
pub(super) fn most_needed(
    kernels: &Kernels,
    cache: &LayerCache,
    heads: usize,
    block_size: usize,
    threads: usize,
) -> (Need, Need) {
    let group = heads / cache.kv_heads();
    let count = kernels.queries.div_ceil(group) * group;
    let tile = Need {
        records: count * Record::len(cache.head_dim()),
        ..walk::need(kernels, cache.shape(), block_size, count)
    };
    let operator = Need {
        floats: if threads > 1 { MOST_RECORDED } else { 0 },
        ..Need::default()
    };
    (tile, operator)
}

#[cfg(test)]
mod tests;
