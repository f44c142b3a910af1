//! The way of some queries through their positions: tile by tile, chunk by chunk.

use std::ops::Range;

use crate::Span;
use crate::attend::{Attend, CELLS, Queries, Seen, States, TILE, Tile, TileBuffers};
use crate::cache::{CellShape, GROUP, KvFormat};
use crate::kernels::Kernels;
use crate::portable::exp::exp;
use crate::team::{Need, Scratch};

/// Positions per chunk.
const CHUNK: usize = 512;

/// Token rows of one span, and one key head.
pub(super) struct Walk<'a> {
    pub(super) kernels: &'static Kernels,
    pub(super) args: &'a Attend<'a>,
    /// Number of the span.
    pub(super) span: usize,
    /// Rows of the span, at least one.
    pub(super) tokens: Range<usize>,
    pub(super) kv_head: usize,
}

impl Walk<'_> {
    /// Calls `visit` for each span that has token rows among `rows`, with its number and the rows.
    pub(super) fn each_span(
        spans: &[Span],
        rows: Range<usize>,
        mut visit: impl FnMut(usize, Range<usize>),
    ) {
        let end = |span: &Span| span.first_token + span.num_tokens;
        let first = spans.partition_point(|span| end(span) <= rows.start);
        for (index, span) in spans.iter().enumerate().skip(first) {
            if span.first_token >= rows.end {
                break;
            }
            let tokens = span.first_token.max(rows.start)..end(span).min(rows.end);
            if !tokens.is_empty() {
                visit(index, tokens);
            }
        }
    }

    /// Queries per token.
    pub(super) fn group(&self) -> usize {
        self.args.heads / self.args.kv_heads
    }

    /// Positions that a token row sees: the last of those up to its own.
    fn seen_by(&self, token: usize) -> Range<usize> {
        let span = &self.args.spans[self.span];
        let end = span.context_len - span.num_tokens + (token - span.first_token) + 1;
        end.saturating_sub(self.args.window)..end
    }

    /// Positions that any of the token rows sees.
    fn seen(&self) -> Range<usize> {
        self.seen_by(self.tokens.start).start..self.seen_by(self.tokens.end - 1).end
    }

    /// Chunks of which any of the token rows sees something.
    pub(super) fn chunks(&self) -> Range<usize> {
        chunks_of(self.seen())
    }

    /// The token rows that see any of `positions`.
    fn tokens_to_see(&self, positions: Range<usize>) -> Range<usize> {
        let first = self.seen_by(self.tokens.start).end;
        // What a token sees ends one position later for each token before it.
        let token = |tokens: usize| {
            self.tokens
                .end
                .min(self.tokens.start.saturating_add(tokens))
        };
        let start = token((positions.start + 1).saturating_sub(first));
        let end = positions.end.saturating_add(self.args.window);
        start..token(end.saturating_sub(first)).max(start)
    }

    /// Computes the chunks given and hands `visit` what each query learns from each that it sees, in
    /// order: the number of the query (tokens by heads of the group), whether it is the first chunk
    /// that it sees, and the result.
    pub(super) fn run(
        &self,
        chunks: Range<usize>,
        scratch: &mut Scratch,
        mut visit: impl FnMut(usize, bool, Partial<'_>),
    ) {
        let shape = self.args.cache.shape();
        let (group, stride) = (self.group(), shape.value_stride());
        let count = self.tokens.len() * group;
        let (mut memory, words) = Memory::new(self, count, scratch);
        let queries = Queries {
            words,
            sums: memory.query_sums,
            factors: memory.factors,
            score_bound: self.args.score_bound,
        };
        let all = self.seen();
        for chunk in chunks {
            let bounds = chunk * CHUNK..(chunk + 1) * CHUNK;
            memory.states.reset();
            let first_tile = all.start.max(bounds.start) / TILE * TILE;
            for start in (first_tile..all.end.min(bounds.end)).step_by(TILE) {
                let seen = self.seen_of_tile(start);
                let tile = self.tile(start, &all, memory.gathered);
                let (buffers, states) = (&mut memory.buffers, &mut memory.states);
                (self.kernels.attend)(&tile, &queries, seen, buffers, states);
            }
            for token in self.tokens_to_see(bounds) {
                let is_first = self.seen_by(token).start / CHUNK == chunk;
                let first_query = (token - self.tokens.start) * group;
                for query in first_query..first_query + group {
                    let partial = Partial {
                        max: memory.states.max[query],
                        sum: tree_sum(&memory.states.sums[query * GROUP..][..GROUP]),
                        values: &memory.states.values[query * stride..][..shape.head_dim],
                    };
                    visit(query, is_first, partial);
                }
            }
        }
    }

    /// Which queries see how much of the tile that starts at a position.
    fn seen_of_tile(&self, start: usize) -> Seen {
        let group = self.group();
        let tokens = self.tokens_to_see(start..start + TILE);
        Seen {
            first: (tokens.start - self.tokens.start) * group,
            end: (tokens.end - self.tokens.start) * group,
            positions: self.seen_by(tokens.start).end - start,
            window: self.args.window,
            group,
        }
    }

    /// The cells of the tile that starts at a position, in place or gathered into `buffers`. Of blocks
    /// without a position that is `seen`, the table's entry is not read.
    fn tile<'a>(&'a self, start: usize, seen: &Range<usize>, buffers: &'a mut [u32]) -> Tile<'a> {
        let (cache, tables) = (self.args.cache, self.args.tables);
        let positions = seen.start.max(start)..seen.end.min(start + TILE);
        let (shape, block_size) = (cache.shape(), tables.block_size);
        let (table, first) = (&tables.tables[self.span], tables.first_block(self.span));
        let slot = |position: usize| {
            let block = table[position / block_size - first] as usize;
            block * block_size + position % block_size
        };
        let cell = |slot: usize| cache.cell(slot / GROUP, self.kv_head);
        if block_size.is_multiple_of(GROUP) {
            let first = cell(slot(positions.start));
            // A group of slots lies in one block.
            let at = |group: usize, other| {
                if seen.start < group + GROUP && group < seen.end {
                    cell(slot(group))
                } else {
                    other
                }
            };
            return Tile {
                shape,
                cells: std::array::from_fn(|i| at(start + i * GROUP, first)),
                ahead: std::array::from_fn(|i| at(start + TILE + i * GROUP, &[])),
            };
        }
        for position in positions {
            let (i, slot) = (position - start, slot(position));
            let target = &mut buffers[i / GROUP * shape.words()..][..shape.words()];
            shape.copy_slot((cell(slot), slot % GROUP), (target, i % GROUP));
        }
        let buffers = &*buffers;
        let cells = std::array::from_fn(|i| &buffers[i * shape.words()..][..shape.words()]);
        let ahead = [&[][..]; CELLS];
        Tile {
            shape,
            cells,
            ahead,
        }
    }
}

/// The chunks that hold `positions`.
pub(super) fn chunks_of(positions: Range<usize>) -> Range<usize> {
    positions.start / CHUNK..positions.end.div_ceil(CHUNK)
}

/// Scratch of a walk with `count` queries.
pub(super) fn need(kernels: &Kernels, shape: CellShape, block_size: usize, count: usize) -> Need {
    let int8 = usize::from(shape.format == KvFormat::Int8);
    let floats = shape.parts() * TILE + shape.value_stride() + GROUP + 4;
    let words = (kernels.weight_words)(shape) + (kernels.query_words)(shape);
    Need {
        floats: count * floats,
        words: gathered_words(shape, block_size) + count * words,
        integers: int8 * 2 * count,
        records: 0,
    }
}

/// Words of a gathered tile, none where blocks are read in place.
fn gathered_words(shape: CellShape, block_size: usize) -> usize {
    let gathers = !block_size.is_multiple_of(GROUP);
    usize::from(gathers) * CELLS * shape.words()
}

/// The memory of one walk, cut from scratch.
struct Memory<'a> {
    query_sums: &'a [i32],
    factors: &'a [f32],
    gathered: &'a mut [u32],
    buffers: TileBuffers<'a>,
    states: States<'a>,
}

impl<'a> Memory<'a> {
    /// Cuts scratch for `count` queries, and rounds them into it.
    fn new(walk: &Walk<'_>, count: usize, scratch: &'a mut Scratch) -> (Self, &'a [u32]) {
        let (shape, block_size) = (walk.args.cache.shape(), walk.args.tables.block_size);
        let gathered = gathered_words(shape, block_size);
        let (score_len, value_len) = (count * shape.parts() * TILE, count * shape.value_stride());
        let weight_len = count * (walk.kernels.weight_words)(shape);

        let need = need(walk.kernels, shape, block_size, count);
        let (floats, words, integers) = scratch.aligned(need.floats, need.words, need.integers);
        let (scores, floats) = floats.split_at_mut(score_len);
        let (values, floats) = floats.split_at_mut(value_len);
        let (sums, floats) = floats.split_at_mut(count * GROUP);
        let (max, floats) = floats.split_at_mut(count);
        let (decays, floats) = floats.split_at_mut(count);
        let (units, factors) = floats.split_at_mut(count);
        let (gathered, words) = words.split_at_mut(gathered);
        let (weights, words) = words.split_at_mut(weight_len);

        walk.load_queries(words, integers, factors);
        let memory = Self {
            query_sums: integers,
            factors,
            gathered,
            buffers: TileBuffers {
                scores,
                weights,
                units,
                decays,
            },
            states: States { max, sums, values },
        };
        (memory, words)
    }
}

impl Walk<'_> {
    fn load_queries(&self, words: &mut [u32], sums: &mut [i32], factors: &mut [f32]) {
        let (args, kernels) = (self.args, self.kernels);
        let (shape, dim, len) = (
            self.args.cache.shape(),
            args.head_dim,
            self.group() * args.head_dim,
        );
        let queries = |token: usize| &args.q[(token * args.kv_heads + self.kv_head) * len..][..len];
        let rounded = words.chunks_exact_mut((kernels.query_words)(shape));
        let mut rounded = rounded.zip(factors).enumerate();
        for token in self.tokens.clone() {
            if token + 1 < self.tokens.end {
                (kernels.fetch)(queries(token + 1));
            }
            for (query, (i, (words, factor))) in queries(token).chunks_exact(dim).zip(&mut rounded)
            {
                let sums = sums.get_mut(i * 2..i * 2 + 2).unwrap_or_default();
                *factor = (kernels.load_query)(shape, query, words, sums) * args.scale;
            }
        }
    }
}

/// What a query learned from some positions: the largest score, the sum of exponentials relative
/// to it, and the values weighted by them.
pub(super) struct Partial<'a> {
    pub(super) max: f32,
    pub(super) sum: f32,
    pub(super) values: &'a [f32],
}

impl<'a> Partial<'a> {
    /// What a [`Record`] holds.
    pub(super) fn of(record: &'a [f32]) -> Self {
        Self {
            max: record[0],
            sum: record[1],
            values: &record[2..],
        }
    }
}

/// A [`Partial`] in memory, `head_dim + 2` numbers: the largest score, the sum, the values.
pub(super) struct Record<'a>(pub(super) &'a mut [f32]);

impl Record<'_> {
    /// Numbers in a record.
    pub(super) fn len(head_dim: usize) -> usize {
        head_dim + 2
    }

    /// Takes over what is known of the first chunk, or adds what is known of the next one.
    pub(super) fn take(&mut self, is_first: bool, partial: &Partial<'_>) {
        if is_first {
            (self.0[0], self.0[1]) = (partial.max, partial.sum);
            self.0[2..].copy_from_slice(partial.values);
            return;
        }
        let max = self.0[0].max(partial.max);
        let (before, here) = (exp(self.0[0] - max), exp(partial.max - max));
        (self.0[0], self.0[1]) = (max, self.0[1] * before + partial.sum * here);
        for (value, partial) in self.0[2..].iter_mut().zip(partial.values) {
            *value = *value * before + *partial * here;
        }
    }

    /// The weighted mean of the values. Zeros are positive, and all NaNs are the same.
    pub(super) fn finish(&self, out: &mut [f32]) {
        let inverse = 1.0 / self.0[1];
        for (out, value) in out.iter_mut().zip(&self.0[2..]) {
            let mean = *value * inverse + 0.0;
            *out = if mean.is_nan() { f32::NAN } else { mean };
        }
    }
}

/// The lanes' sum, in the order of a halving vector register.
fn tree_sum(lanes: &[f32]) -> f32 {
    let mut sums = [0.0; GROUP];
    sums.copy_from_slice(lanes);
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            sums[i] += sums[i + half];
        }
    }
    sums[0]
}
