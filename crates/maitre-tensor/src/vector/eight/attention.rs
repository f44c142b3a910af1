//! One tile of attention on registers of eight numbers.
//!
//! Scores and weighted values are the loop of the [products](super::dot): rows of 16 lanes, each of which meets a word
//! of each query. A cell's keys are a panel; so is a column of 16 elements of its values, whose rows lie further apart.
//!
//! ```text
//!                    keys: a cell of 16               values: 16 elements of a row
//!                  ┌────────┬────────┐                 ┌────────┬────────┐
//! word of query 0  │ 8 sums │ 8 sums │      weight of  │ 8 sums │ 8 sums │
//! ...              │        │        │      query 0    │        │        │
//! word of query 5  │        │        │      ...        │        │        │
//!                  └────────┴────────┘                 └────────┴────────┘
//! ```
//!
//! Up to six queries by two registers of sums stay in registers. One to three queries, as when decoding, meet two or four
//! such panels side by side, which keeps both multipliers busy in spite of their latency. Each sum runs through its words
//! in order: how queries are blocked changes no bit.
//!
//! bf16 is widened in registers and multiplied in f32, with queries and weights that are not rounded at all. Int8 meets
//! queries and weights as 16-bit integers, whose products are summed exactly.

use std::ops::Range;

use super::cached::Cached;
use super::dot::{Dot, Pair, add_part, add_row};
use super::floats::{Bf16, F32};
use super::isa::{F32x8, KeyBytes, fetch_far};
use crate::attend::{CELLS, Queries, Seen, States, TILE, Tile, TileBuffers};
use crate::cache::{CellShape, GROUP, KvFormat};

/// See [`Kernels::weight_words`](crate::kernels::Kernels::weight_words).
pub(crate) fn weight_words(shape: CellShape) -> usize {
    match shape.format {
        KvFormat::F32 => F32::WEIGHT_WORDS,
        KvFormat::Bf16 => Bf16::WEIGHT_WORDS,
        KvFormat::Int8 => KeyBytes::WEIGHT_WORDS,
    }
}

/// See [`Kernels::attend`](crate::kernels::Kernels::attend).
pub(crate) fn attend(
    tile: &Tile<'_>,
    queries: &Queries<'_>,
    seen: Seen,
    buffers: &mut TileBuffers<'_>,
    states: &mut States<'_>,
) {
    let (shape, count) = (tile.shape, queries.factors.len());
    let query_words = super::query::query_words(shape);
    let two_parts = usize::from(shape.format == KvFormat::Int8) * 2;
    assert!(seen.first <= seen.end && seen.end <= count);
    assert!(tile.cells.iter().all(|cell| cell.len() >= shape.words()));
    assert!(queries.words.len() >= count * query_words);
    assert!(queries.sums.len() >= count * two_parts);
    assert!(buffers.scores.len() >= count * TILE);
    assert!(buffers.weights.len() >= count * weight_words(shape));
    assert!(buffers.units.len() >= count && buffers.decays.len() >= count);
    assert!(states.max.len() >= count && states.sums.len() >= count * GROUP);
    assert!(states.values.len() >= count * shape.value_stride());
    let work = Work {
        shape,
        cells: tile.cells.map(<[u32]>::as_ptr),
        ahead: std::array::from_fn(|i| match tile.ahead[i] {
            [] => tile.cells[i].as_ptr(),
            cell => cell.as_ptr(),
        }),
        queries,
        query_words,
        seen,
    };
    // SAFETY: the table is chosen after the instructions were detected, and every array is as long
    // as the kernels read and write: asserted above.
    unsafe {
        match shape.format {
            KvFormat::F32 => work.attend::<F32>(buffers, states),
            KvFormat::Bf16 => work.attend::<Bf16>(buffers, states),
            KvFormat::Int8 => work.attend::<KeyBytes>(buffers, states),
        }
    }
}

/// What stays the same during a tile.
pub(super) struct Work<'a> {
    pub(super) shape: CellShape,
    pub(super) cells: [*const u32; CELLS],
    /// The cells of the next tile, of which the first queries ask for a line whenever they use one of this tile's: each
    /// cell is a page of memory of its own, on which the processor would have to find the stream anew. Where there is
    /// none, the cells themselves.
    ahead: [*const u32; CELLS],
    pub(super) queries: &'a Queries<'a>,
    pub(super) query_words: usize,
    pub(super) seen: Seen,
}

/// Calls the kernel compiled for a number of queries, 1 to 6, and for as many panels of 16 lanes as fill the registers
/// with them.
macro_rules! by_queries {
    ($queries:expr, $self:ident . $kernel:ident ::<$format:ident> $args:tt) => {
        match $queries {
            1 if $format::SIDE_BY_SIDE => $self.$kernel::<$format, 1, 4> $args,
            2 if $format::SIDE_BY_SIDE => $self.$kernel::<$format, 2, 2> $args,
            3 if $format::SIDE_BY_SIDE => $self.$kernel::<$format, 3, 2> $args,
            1 => $self.$kernel::<$format, 1, 2> $args,
            2 => $self.$kernel::<$format, 2, 1> $args,
            3 => $self.$kernel::<$format, 3, 1> $args,
            4 => $self.$kernel::<$format, 4, 1> $args,
            5 => $self.$kernel::<$format, 5, 1> $args,
            _ => $self.$kernel::<$format, 6, 1> $args,
        }
    };
}

impl Work<'_> {
    /// # Safety
    ///
    /// As asserted in [`attend`].
    #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
    unsafe fn attend<F: Cached>(&self, buffers: &mut TileBuffers<'_>, states: &mut States<'_>) {
        let seen = self.seen;
        for query in (seen.first..seen.end).step_by(F::QUERIES) {
            let (count, scores) = (F::QUERIES.min(seen.end - query), &mut *buffers.scores);
            // SAFETY: queries below the number there are.
            unsafe { by_queries!(count, self.scores::<F>(query, scores)) };
        }
        for query in seen.first..seen.end {
            // SAFETY: a query below the number there are.
            unsafe { self.weights::<F>(query, buffers, states) };
        }
        // Tokens that see a part of the tile have their own ends each; the others are blocked.
        let full = seen.full();
        for partial in [seen.first..full.start, full.end..seen.end] {
            for token in partial.step_by(seen.group) {
                let queries = token..token + seen.group;
                // SAFETY: queries below the number there are, which see this much.
                unsafe { self.weigh_all::<F>(queries, seen.by(token), buffers, states) };
            }
        }
        // SAFETY: as above.
        unsafe { self.weigh_all::<F>(full, 0..TILE, buffers, states) };
    }

    /// The cells of which some queries ask for the lines at the same places as they use in this tile's.
    #[inline(always)]
    fn next(&self, first: usize) -> &[*const u32; CELLS] {
        if first == self.seen.first {
            &self.ahead
        } else {
            &self.cells
        }
    }

    /// The products of `M` queries with all keys of the tile, `W` cells at a time.
    ///
    /// # Safety
    ///
    /// The queries from `first` on exist.
    #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
    unsafe fn scores<F: Cached, const M: usize, const W: usize>(
        &self,
        first: usize,
        scores: &mut [f32],
    ) {
        let depth = self.shape.key_words();
        for cells in (0..CELLS).step_by(W) {
            // SAFETY: `depth` rows of keys per cell, and words per query; the queries exist.
            unsafe {
                let query = self.queries.words.as_ptr().add(first * self.query_words);
                let panels = std::array::from_fn(|w| self.cells[cells + w].cast());
                let values = self.shape.values();
                let ahead =
                    std::array::from_fn(|w| self.cells[cells + w].wrapping_add(values).cast());
                let mut sums = [[[F::zero(); 2]; W]; M];
                let rows = Rows {
                    panels,
                    ahead,
                    stride: LINE,
                    count: depth,
                };
                add_rows::<F, M, W>(&mut sums, rows, query, self.query_words);
                for (m, sums) in sums.iter().enumerate() {
                    let excess = match F::SLOTS {
                        4 => *self.queries.sums.as_ptr().add(2 * (first + m)),
                        _ => 0,
                    };
                    for (w, sums) in sums.iter().enumerate() {
                        let cell = cells + w;
                        let scales = self.cells[cell].wrapping_add(self.shape.scales()[0].start);
                        let out = scores.as_mut_ptr().add((first + m) * TILE + cell * GROUP);
                        for (half, sums) in sums.iter().enumerate() {
                            let scales = scales.wrapping_add(half * HALF).cast();
                            let products = F::products(*sums, excess, scales);
                            products.store(out.add(half * HALF));
                        }
                    }
                }
            }
        }
    }

    /// Adds the values of some positions to the states of some queries, all of which see these.
    ///
    /// # Safety
    ///
    /// The queries exist, and the positions.
    #[inline]
    #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
    unsafe fn weigh_all<F: Cached>(
        &self,
        queries: Range<usize>,
        seen: Range<usize>,
        buffers: &TileBuffers<'_>,
        states: &mut States<'_>,
    ) {
        for query in queries.clone().step_by(F::QUERIES) {
            let count = F::QUERIES.min(queries.end - query);
            // SAFETY: as the caller promises.
            unsafe {
                by_queries!(
                    count,
                    self.weigh_columns::<F>(query, &seen, buffers, states)
                )
            };
        }
    }

    /// Adds the values of the positions `seen` to `M` states, `16 * W` columns at a time.
    ///
    /// # Safety
    ///
    /// The queries from `first` on exist, and the positions.
    #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
    unsafe fn weigh_columns<F: Cached, const M: usize, const W: usize>(
        &self,
        first: usize,
        seen: &Range<usize>,
        buffers: &TileBuffers<'_>,
        states: &mut States<'_>,
    ) {
        let stride = self.shape.value_stride();
        let wide = stride - stride % (W * GROUP);
        // SAFETY: as the caller promises; rows of states have `stride` columns.
        unsafe {
            for column in (0..wide).step_by(W * GROUP) {
                self.weigh::<F, M, W>((first, column), seen, buffers, states);
            }
            for column in (wide..stride).step_by(GROUP) {
                self.weigh::<F, M, 1>((first, column), seen, buffers, states);
            }
        }
    }

    /// See [`Work::weigh_columns`].
    ///
    /// # Safety
    ///
    /// As many queries and columns exist from `first` and `column` on; positions are below [`TILE`].
    #[inline]
    #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
    unsafe fn weigh<F: Cached, const M: usize, const W: usize>(
        &self,
        (first, column): (usize, usize),
        seen: &Range<usize>,
        buffers: &TileBuffers<'_>,
        states: &mut States<'_>,
    ) {
        let stride = self.shape.value_stride();
        // SAFETY: rows of weights and states, and rows of values in each cell, as promised. A word
        // of which a part is seen exists whole.
        unsafe {
            let weights = buffers.weights.as_ptr().add(first * F::WEIGHT_WORDS);
            let states = states.values.as_mut_ptr().add(first * stride + column);
            let state =
                |m: usize, w: usize, half: usize| states.add(m * stride + w * GROUP + half * HALF);
            let mut sums = [[[F::Values::zero(); 2]; W]; M];
            for (m, sums) in sums.iter_mut().enumerate() {
                let decay = F32x8::splat(buffers.decays[first + m]);
                for (w, sums) in sums.iter_mut().enumerate() {
                    for (half, sums) in sums.iter_mut().enumerate() {
                        let before = F32x8::load(state(m, w, half));
                        *sums = F::first_sums(before, decay);
                    }
                }
            }
            for (cell, start) in (0..TILE).step_by(GROUP).enumerate() {
                let seen =
                    seen.start.max(start) - start..seen.end.clamp(start, start + GROUP) - start;
                if !seen.is_empty() {
                    let words = weights.add(start / F::SLOTS * F::Values::WORDS);
                    let place = (first, cell, column);
                    self.weigh_cell::<F, M, W>(&mut sums, place, seen, words);
                }
            }
            for (m, sums) in sums.into_iter().enumerate() {
                let decay = F32x8::splat(buffers.decays[first + m]);
                let unit = F32x8::splat(buffers.units[first + m]);
                for (w, sums) in sums.into_iter().enumerate() {
                    for (half, sums) in sums.into_iter().enumerate() {
                        let before = F32x8::load(state(m, w, half));
                        F::merged(sums, before, decay, unit).store(state(m, w, half));
                    }
                }
            }
        }
    }

    /// Adds the values of the slots `seen` of a cell, in order of position.
    ///
    /// # Safety
    ///
    /// The cell has the columns and slots; `words` points to its weights for the first of `M` queries.
    #[inline(always)]
    unsafe fn weigh_cell<F: Cached, const M: usize, const W: usize>(
        &self,
        sums: &mut [[Pair<F::Values>; W]; M],
        (first, cell, column): (usize, usize, usize),
        seen: Range<usize>,
        words: *const u32,
    ) {
        let stride = self.shape.value_stride() * size_of::<u32>();
        // SAFETY: as the caller promises.
        unsafe {
            let values = self.cells[cell].add(self.shape.values() + column);
            let ahead = self.next(first)[cell].wrapping_add(self.shape.values() + column);
            let of = |values: *const u32, row: usize| -> [*const u8; W] {
                let column = |w: usize| values.wrapping_add(w * GROUP).cast::<u8>();
                std::array::from_fn(|w| column(w).wrapping_add(row * stride))
            };
            let row = |row: usize| of(values, row);
            let at = |row: usize| words.add(row * F::Values::WORDS);
            // Bytes that are not seen have the weight zero. Of a word with one bf16 number that is seen, the other may
            // be NaN.
            let whole = match F::SLOTS {
                2 => seen.start.div_ceil(2)..seen.end / 2,
                slots => seen.start / slots..seen.end.div_ceil(slots),
            };
            if F::SLOTS == 2 && seen.start % 2 == 1 {
                let edge = seen.start / 2;
                for (w, panel) in row(edge).into_iter().enumerate() {
                    add_part::<F::Values, 1, M, W>(sums, w, panel, at(edge), F::WEIGHT_WORDS);
                }
            }
            if !whole.is_empty() {
                let rows = Rows {
                    panels: row(whole.start),
                    ahead: of(ahead, whole.start),
                    stride,
                    count: whole.len(),
                };
                add_rows::<F::Values, M, W>(sums, rows, at(whole.start), F::WEIGHT_WORDS);
            }
            if F::SLOTS == 2 && seen.end % 2 == 1 {
                let edge = seen.end / 2;
                for (w, panel) in row(edge).into_iter().enumerate() {
                    add_part::<F::Values, 0, M, W>(sums, w, panel, at(edge), F::WEIGHT_WORDS);
                }
            }
        }
    }
}

/// Bytes of 16 words.
const LINE: usize = GROUP * size_of::<u32>();

/// Lanes of a register.
const HALF: usize = GROUP / 2;

/// Rows of `W` panels.
struct Rows<const W: usize> {
    /// The first row of each.
    panels: [*const u8; W],
    /// What is asked for with them.
    ahead: [*const u8; W],
    /// Bytes from one row to the next.
    stride: usize,
    count: usize,
}

/// Adds the products of `M` queries with all rows of some panels. Words of queries are `x_stride` apart.
///
/// # Safety
///
/// The processor has the instructions; the rows exist, and [`Dot::WORDS`] words of each query for each.
#[inline(always)]
unsafe fn add_rows<D: Dot, const M: usize, const W: usize>(
    sums: &mut [[Pair<D>; W]; M],
    rows: Rows<W>,
    x: *const u32,
    x_stride: usize,
) {
    let mut local = *sums;
    for k in 0..rows.count {
        for w in 0..W {
            // SAFETY: as the caller promises.
            unsafe {
                let row = rows.panels[w].add(k * rows.stride);
                fetch_far(rows.ahead[w].wrapping_add(k * rows.stride));
                add_row::<D, M, W>(&mut local, w, row, x.add(k * D::WORDS), x_stride);
            }
        }
    }
    *sums = local;
}
