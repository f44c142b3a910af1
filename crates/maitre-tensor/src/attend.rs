//! What the attention kernels are given: a tile of the cache, the queries that look at it, and what
//! each query knows so far.
//!
//! ```text
//! positions   0 .. 63 | 64 .. 127 | ... | 448 .. 511 | 512 ..        tiles of 64
//!             [          chunk 0: one running softmax          ][ chunk 1 ...
//! ```
//!
//! Tiles and chunks start at absolute multiples of 64 and 512 positions. Within a chunk the tiles
//! are merged in order into one running softmax (Milakov and Gimelshein 2018, arXiv 1805.02867);
//! the chunks' results are merged in order again. So the bits of a row depend on its query and on
//! the keys and values of the positions it sees, and on nothing else: chunks may be computed by
//! different threads at the same time, and tiles be shared by any number of queries.

use std::ops::Range;

use crate::cache::{CellShape, GROUP, KvFormat, LayerCache};
use crate::{BlockTables, Span};

/// Positions per tile.
pub(crate) const TILE: usize = 64;

/// Groups of slots per tile.
pub(crate) const CELLS: usize = TILE / GROUP;

/// What attention reads; shapes as in [`Attention`](crate::Attention).
pub(crate) struct Attend<'a> {
    pub(crate) q: &'a [f32],
    pub(crate) cache: &'a LayerCache,
    pub(crate) spans: &'a [Span],
    pub(crate) tables: &'a BlockTables,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) scale: f32,
    pub(crate) score_bound: Option<f32>,
    /// Positions that a token sees at most.
    pub(crate) window: usize,
}

/// The keys and values of [`TILE`] consecutive positions of one key head.
pub(crate) struct Tile<'a> {
    pub(crate) shape: CellShape,
    /// Cells of sixteen positions each. A cell of which no query sees anything may be any cell, and
    /// positions that a query does not see may hold anything, NaN included.
    pub(crate) cells: [&'a [u32]; CELLS],
    /// The cells that come next, as far as they are known to be: a hint to fetch them.
    pub(crate) ahead: [&'a [u32]; CELLS],
}

/// Queries of consecutive tokens of one sequence: of each token, those that share the key head.
pub(crate) struct Queries<'a> {
    /// Rounded to meet the keys, `[queries, query_words]`, as [`Kernels::query_words`] and
    /// [`Kernels::load_query`] of the path say.
    ///
    /// [`Kernels::query_words`]: crate::kernels::Kernels::query_words
    /// [`Kernels::load_query`]: crate::kernels::Kernels::load_query
    pub(crate) words: &'a [u32],
    /// Of an int8 query: 128 times the sum of each part's numbers, `[queries, 2]`.
    pub(crate) sums: &'a [i32],
    /// What makes a score of a product of query and key, `[queries]`.
    pub(crate) factors: &'a [f32],
    /// What scores are bounded by afterwards.
    pub(crate) score_bound: Option<f32>,
}

/// Which of the queries see how much of a tile.
///
/// ```text
/// token   a tile of 8, a window of 9
///   0     # # # # # # . .              positions: 6
///   1     # # # # # # # .
///   2     # # # # # # # #              full
///   3     # # # # # # # # #            full
///   4     . # # # # # # # # #
/// ```
#[derive(Clone, Copy)]
pub(crate) struct Seen {
    /// The first query that sees anything; the first of its token.
    pub(crate) first: usize,
    /// The query after the last one that sees anything.
    pub(crate) end: usize,
    /// Positions from the tile's start up to that of the first query, which may lie behind the
    /// tile: at least one. Each further token has one more.
    pub(crate) positions: usize,
    /// How many of the last positions a query sees at most.
    pub(crate) window: usize,
    /// Queries per token.
    pub(crate) group: usize,
}

impl Seen {
    /// Positions of the tile that a query sees, one of those that see any.
    #[inline(always)]
    pub(crate) fn by(self, query: usize) -> Range<usize> {
        let end = self.positions + (query - self.first) / self.group;
        end.saturating_sub(self.window)..TILE.min(end)
    }

    /// The queries that see the whole tile, of whole tokens. Those before them see less of its end,
    /// those behind them less of its start, and with a narrow window both.
    pub(crate) fn full(self) -> Range<usize> {
        let query = |token: usize| {
            let query = self.first.saturating_add(token.saturating_mul(self.group));
            query.min(self.end)
        };
        let start = query(TILE.saturating_sub(self.positions));
        let end = query(self.window.saturating_add(1).saturating_sub(self.positions));
        start..end.max(start)
    }
}

/// Memory for one tile's scores and weights; contents mean nothing between tiles.
pub(crate) struct TileBuffers<'a> {
    /// `[queries, parts, TILE]`; 32-bit integers for int8.
    pub(crate) scores: &'a mut [f32],
    /// Weights as they meet the values, `[queries, weight_words]`, as
    /// [`Kernels::weight_words`](crate::kernels::Kernels::weight_words) of the path says.
    pub(crate) weights: &'a mut [u32],
    /// Of an int8 cache: what a weight of 1 stands for, `[queries]`.
    pub(crate) units: &'a mut [f32],
    /// What the earlier tiles' sums are multiplied with, `[queries]`.
    pub(crate) decays: &'a mut [f32],
}

/// What each query knows of the tiles of a chunk so far.
pub(crate) struct States<'a> {
    /// The largest score, `[queries]`.
    pub(crate) max: &'a mut [f32],
    /// Sums of exponentials relative to it, `[queries, GROUP]`, to be added up at the end.
    pub(crate) sums: &'a mut [f32],
    /// Values weighted by them, `[queries, value_stride]`.
    pub(crate) values: &'a mut [f32],
}

impl States<'_> {
    /// Forgets everything. The largest score starts finite, so that scores of negative infinity
    /// have the weight zero rather than NaN.
    pub(crate) fn reset(&mut self) {
        self.max.fill(f32::MIN);
        self.sums.fill(0.0);
        self.values.fill(0.0);
    }
}

impl CellShape {
    /// Parts of a query or weight where bytes meet bytes: int8 ones need more than eight bits. A part of a query counts
    /// 128 times the next, of a weight 256 times.
    pub(crate) fn parts(self) -> usize {
        match self.format {
            KvFormat::Int8 => 2,
            KvFormat::F32 | KvFormat::Bf16 => 1,
        }
    }

    /// Words of a query that is rounded as the keys are, `[parts, key_words]`.
    pub(crate) fn query_words(self) -> usize {
        self.parts() * self.key_words()
    }

    /// Words of a query's weights for a tile that are rounded as the values are, `[parts, TILE / per_word]`.
    pub(crate) fn weight_words(self) -> usize {
        self.parts() * TILE / self.format.per_word()
    }
}
