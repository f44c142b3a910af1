//! Attention over paged keys and values.
//!
//! ```text
//! positions   0 ........ 63 | 64 ....... 127 | 128 ...      tiles at absolute multiples of 64,
//! a query     [ whole tile ][ whole tile    ][ up to it ]   whatever block size, chunk or batch
//! ```
//!
//! Each tile yields, for each query, the maximum of its scores, the sum of their exponentials and
//! the weighted sum of its values; tiles are merged in order (online softmax: Milakov and
//! Gimelshein 2018, arXiv 1805.02867). So the bits of a row depend on its query and on the keys and
//! values of its own positions, and on nothing else. Keys and values of a tile are widened once and
//! meet all queries of the work item: `2 * 64 * head_dim` stored numbers read for
//! `2 * 64 * head_dim * queries` multiplications and additions.

use std::ops::Range;

use super::dot::{LANES, dot, four_dots, tree_sum};
use super::exp::exp;
use super::gather::widen_from;
use crate::Span;
use crate::buffer::View;
use crate::element::Element;
use crate::kernels::Attend;
use crate::team::Scratch;
use crate::tiles::Rect;

/// Positions per tile.
const TILE: usize = 64;

/// See [`Kernels::attend`](crate::kernels::Kernels::attend).
pub(super) fn attend(args: &Attend<'_>, mut out: Rect<'_, f32>, scratch: &mut Scratch) {
    let rows = out.rows();
    let end = |span: &Span| span.first_token + span.num_tokens;
    let first = args.spans.partition_point(|span| end(span) <= rows.start);
    for (index, span) in args.spans.iter().enumerate().skip(first) {
        if span.first_token >= rows.end {
            break;
        }
        let tokens = span.first_token.max(rows.start)..end(span).min(rows.end);
        if !tokens.is_empty() {
            attend_tokens(args, index, tokens, &mut out, scratch);
        }
    }
}

/// Token rows of one span.
fn attend_tokens(
    args: &Attend<'_>,
    index: usize,
    tokens: Range<usize>,
    out: &mut Rect<'_, f32>,
    scratch: &mut Scratch,
) {
    let dim = args.head_dim;
    let span = &args.spans[index];
    let group = args.heads / args.kv_heads;
    let kv_head = out.cols().start / (group * dim);
    // Number of positions that a token sees: those before it, and its own.
    let visible =
        |token: usize| span.context_len - span.num_tokens + (token - span.first_token) + 1;
    let queries = tokens.len() * group;
    let room = scratch.floats(2 * TILE * dim + dim + queries * (dim + 2));
    let (keys, room) = room.split_at_mut(TILE * dim);
    let (values, room) = room.split_at_mut(TILE * dim);
    let (tile_sum, states) = room.split_at_mut(dim);
    for state in states.chunks_exact_mut(dim + 2) {
        State::split(state).reset();
    }
    for start in (0..visible(tokens.end - 1)).step_by(TILE) {
        let loaded = TILE.min(visible(tokens.end - 1) - start);
        let positions = Positions {
            table: &args.tables.tables[index],
            block_size: args.tables.block_size,
            range: start..start + loaded,
            width: args.kv_heads * dim,
            offset: kv_head * dim,
        };
        positions.load(args.k, dim, keys);
        positions.load(args.v, dim, values);
        for (i, state) in states.chunks_exact_mut(dim + 2).enumerate() {
            let token = tokens.start + i / group;
            let seen = visible(token).saturating_sub(start).min(TILE);
            if seen > 0 {
                let head = kv_head * group + i % group;
                let query = &args.q[(token * args.heads + head) * dim..][..dim];
                let tile = Tile { keys, values, seen };
                tile.merge(query, args.scale, tile_sum, State::split(state));
            }
        }
    }
    for (i, state) in states.chunks_exact_mut(dim + 2).enumerate() {
        let place = &mut out.row_mut(tokens.start + i / group)[(i % group) * dim..][..dim];
        State::split(state).finish(place);
    }
}

/// Where one tile's keys or values lie in the cache.
struct Positions<'a> {
    table: &'a [u32],
    block_size: usize,
    range: Range<usize>,
    /// Numbers per slot.
    width: usize,
    /// Where the head starts within a slot.
    offset: usize,
}

impl Positions<'_> {
    fn load(&self, cache: View<'_>, dim: usize, out: &mut [f32]) {
        match cache {
            View::F32(cache) => self.load_from(cache, dim, out),
            View::Bf16(cache) => self.load_from(cache, dim, out),
            View::F16(cache) => self.load_from(cache, dim, out),
        }
    }

    fn load_from<T: Element>(&self, cache: &[T], dim: usize, out: &mut [f32]) {
        for (position, out) in self.range.clone().zip(out.chunks_exact_mut(dim)) {
            let block = self.table[position / self.block_size] as usize;
            let slot = block * self.block_size + position % self.block_size;
            widen_from(&cache[slot * self.width + self.offset..][..dim], out);
        }
    }
}

/// What a query knows of the tiles before: the largest score, the sum of exponentials relative to
/// it, and the values weighted by them.
struct State<'a> {
    max: &'a mut f32,
    sum: &'a mut f32,
    values: &'a mut [f32],
}

impl<'a> State<'a> {
    /// A state of `dim + 2` numbers.
    fn split(numbers: &'a mut [f32]) -> Self {
        let (scalars, values) = numbers.split_at_mut(2);
        let (max, sum) = scalars.split_at_mut(1);
        Self {
            max: &mut max[0],
            sum: &mut sum[0],
            values,
        }
    }

    fn reset(self) {
        *self.max = f32::NEG_INFINITY;
        *self.sum = 0.0;
        self.values.fill(0.0);
    }

    fn finish(self, out: &mut [f32]) {
        for (out, value) in out.iter_mut().zip(self.values) {
            *out = *value / *self.sum;
        }
    }
}

/// Widened keys and values, `[TILE, head_dim]`, of which a query sees the first `seen`.
struct Tile<'a> {
    keys: &'a [f32],
    values: &'a [f32],
    seen: usize,
}

impl Tile<'_> {
    fn merge(&self, query: &[f32], scale: f32, tile_values: &mut [f32], state: State<'_>) {
        let mut weights = self.scores(query, scale);
        let seen = &mut weights[..self.seen];
        let tile_max = seen.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        for weight in seen {
            *weight = exp(*weight - tile_max);
        }
        let tile_sum = lane_sum(&weights);
        self.weigh(&weights, tile_values);

        let max = state.max.max(tile_max);
        let (before, here) = (exp(*state.max - max), exp(tile_max - max));
        *state.max = max;
        *state.sum = *state.sum * before + tile_sum * here;
        for (value, tile_value) in state.values.iter_mut().zip(tile_values) {
            *value = *value * before + *tile_value * here;
        }
    }

    /// Scaled scores of the positions seen; zero for the others.
    fn scores(&self, query: &[f32], scale: f32) -> [f32; TILE] {
        let dim = query.len();
        let key = |position: usize| &self.keys[position * dim..(position + 1) * dim];
        let mut scores = [0.0; TILE];
        let (fours, rest) = scores[..self.seen].as_chunks_mut::<4>();
        let done = fours.len() * 4;
        for (block, four) in fours.iter_mut().enumerate() {
            let keys = std::array::from_fn(|i| key(block * 4 + i));
            *four = four_dots(query, keys).map(|product| product * scale);
        }
        for (i, score) in rest.iter_mut().enumerate() {
            *score = dot(query, key(done + i)) * scale;
        }
        scores
    }

    /// Sums the values by weight, in order of position.
    fn weigh(&self, weights: &[f32; TILE], out: &mut [f32]) {
        let dim = out.len();
        let (chunks, rest) = out.as_chunks_mut::<16>();
        let done = chunks.len() * 16;
        for (chunk, out) in chunks.iter_mut().enumerate() {
            let mut sums = [0.0; 16];
            for (weight, value) in weights[..self.seen]
                .iter()
                .zip(self.values.chunks_exact(dim))
            {
                for (sum, value) in sums.iter_mut().zip(&value[chunk * 16..][..16]) {
                    *sum += weight * value;
                }
            }
            *out = sums;
        }
        for (i, out) in rest.iter_mut().enumerate() {
            let column = self.values[done + i..].iter().step_by(dim);
            *out = 0.0;
            for (weight, value) in weights[..self.seen].iter().zip(column) {
                *out += weight * value;
            }
        }
    }
}

/// The weights' sum; those not seen are zero, and adding zero changes no bit.
fn lane_sum(weights: &[f32; TILE]) -> f32 {
    let mut lanes = [0.0; LANES];
    for chunk in weights.as_chunks::<LANES>().0 {
        for (lane, weight) in lanes.iter_mut().zip(chunk) {
            *lane += weight;
        }
    }
    tree_sum(lanes)
}
