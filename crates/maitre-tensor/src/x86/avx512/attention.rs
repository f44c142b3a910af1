//! One tile of attention on 512-bit registers.
//!
//! Scores and weighted values are the same loop: rows of 32-bit words, each word broadcast, meet
//! rows of sixteen-lane words.
//!
//! ```text
//!                      keys: 4 cells of 16 keys             values: 64 elements of a row
//!                   ┌──────┬──────┬──────┬──────┐        ┌──────┬──────┬──────┬──────┐
//! word of query 0 ->│ 16   │ 16   │ 16   │ 16   │  word  │ 16   │ 16   │ 16   │ 16   │
//! ...               │ sums │ sums │ sums │ sums │  of    │ sums │ ...  │      │      │
//! word of query 5 ->│      │      │      │      │  weight│      │      │      │      │
//!                   └──────┴──────┴──────┴──────┘        └──────┴──────┴──────┴──────┘
//! ```
//!
//! Up to 6 x 4 sums stay in registers, so that 4 loads and 6 broadcasts feed 24 dot instructions.
//! Each sum runs through its words in order, whatever the number of rows: how queries are blocked
//! changes no bit. An int8 query or weight has two parts and is two such rows.
//!
//! Per query and tile of head size 128 in bf16: 512 dot instructions (32 multiplications and
//! additions each), and about 120 others for the softmax.
#![allow(unsafe_code)]

use std::arch::x86_64::*;
use std::mem::transmute;
use std::ops::Range;

use crate::attend::{CELLS, Queries, Seen, States, TILE, Tile, TileBuffers};
use crate::cache::{CellShape, GROUP, KvFormat};

/// Rows of queries or weights whose sums fit the registers.
const ROWS: usize = 6;

/// Queries up to which reading a tile takes longer than computing with it. Its cells are then asked
/// for one tile ahead: each is a page of memory of its own, on which the processor would have to
/// find the stream anew.
const FEW_QUERIES: usize = 16;

// Formats as constants that kernels are compiled for.
pub(super) const F32: u8 = 0;
pub(in crate::x86) const BF16: u8 = 1;
pub(in crate::x86) const INT8: u8 = 2;

/// See [`Kernels::attend`](crate::kernels::Kernels::attend).
pub(in crate::x86) fn attend(
    tile: &Tile<'_>,
    queries: &Queries<'_>,
    seen: Seen,
    buffers: &mut TileBuffers<'_>,
    states: &mut States<'_>,
) {
    let work = Work::new(tile, queries, seen, buffers, states);
    // SAFETY: the table is chosen after the instructions were detected, and every array is as long
    // as the kernels read and write: checked by `Work::new`.
    unsafe {
        match tile.shape.format {
            KvFormat::F32 => work.attend::<F32>(buffers, states),
            KvFormat::Bf16 => work.attend::<BF16>(buffers, states),
            KvFormat::Int8 => work.attend::<INT8>(buffers, states),
        }
    }
}

/// Asks for the lines of a cell.
fn fetch(cell: &[u32]) {
    for line in cell.chunks(16) {
        // SAFETY: every x86-64 processor has the instruction, and it may name any address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) };
    }
}

/// What stays the same during a tile.
pub(in crate::x86) struct Work<'a> {
    pub(in crate::x86) shape: CellShape,
    pub(in crate::x86) cells: [*const u32; CELLS],
    pub(in crate::x86) queries: &'a Queries<'a>,
    pub(in crate::x86) seen: Seen,
    /// Those of the queries that see the whole tile.
    pub(in crate::x86) full: Range<usize>,
}

/// Calls the kernel compiled for a number of rows, 1 to [`ROWS`].
macro_rules! by_rows {
    ($rows:expr, $self:ident . $kernel:ident ::<$format:ident, _ $(, $columns:literal)?> $args:tt) => {
        match $rows {
            1 => $self.$kernel::<$format, 1 $(, $columns)?> $args,
            2 => $self.$kernel::<$format, 2 $(, $columns)?> $args,
            3 => $self.$kernel::<$format, 3 $(, $columns)?> $args,
            4 => $self.$kernel::<$format, 4 $(, $columns)?> $args,
            5 => $self.$kernel::<$format, 5 $(, $columns)?> $args,
            _ => $self.$kernel::<$format, 6 $(, $columns)?> $args,
        }
    };
}

impl<'a> Work<'a> {
    /// Checks that every array is as long as the kernels read and write, and asks for the next tile where few
    /// queries wait for it.
    pub(in crate::x86) fn new(
        tile: &Tile<'a>,
        queries: &'a Queries<'a>,
        seen: Seen,
        buffers: &TileBuffers<'_>,
        states: &States<'_>,
    ) -> Self {
        let (shape, count) = (tile.shape, queries.factors.len());
        let two_parts = usize::from(shape.format == KvFormat::Int8) * 2;
        assert!(seen.first < seen.end && seen.end <= count);
        assert!(tile.cells.iter().all(|cell| cell.len() >= shape.words()));
        assert!(queries.words.len() >= count * shape.query_words());
        assert!(queries.sums.len() >= count * two_parts);
        assert!(buffers.scores.len() >= count * shape.parts() * TILE);
        assert!(buffers.weights.len() >= count * shape.weight_words());
        assert!(buffers.units.len() >= count && buffers.decays.len() >= count);
        assert!(states.max.len() >= count && states.sums.len() >= count * GROUP);
        assert!(states.values.len() >= count * shape.value_stride());
        if count <= FEW_QUERIES {
            tile.ahead.iter().for_each(|cell| fetch(cell));
        }
        Self {
            shape,
            cells: tile.cells.map(<[u32]>::as_ptr),
            queries,
            full: seen.full(),
            seen,
        }
    }
}

impl Work<'_> {
    /// # Safety
    ///
    /// As checked by [`Work::new`].
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16")]
    unsafe fn attend<const FORMAT: u8>(
        &self,
        buffers: &mut TileBuffers<'_>,
        states: &mut States<'_>,
    ) {
        let (parts, seen) = (self.shape.parts(), self.seen);
        let rows = seen.end * parts;
        for row in (seen.first * parts..rows).step_by(ROWS) {
            let scores = buffers.scores.as_mut_ptr();
            // SAFETY: rows below the number there are.
            unsafe { by_rows!(rows - row, self.scores::<FORMAT, _>(row, scores)) };
        }
        let columns = 0..self.shape.value_stride();
        // SAFETY: queries below the number there are; those of the last call see all.
        unsafe {
            self.weights::<FORMAT>(buffers, states);
            self.weigh_partial::<FORMAT>(buffers, states);
            self.weigh_columns::<FORMAT>(self.full.clone(), 0..TILE, columns, buffers, states);
        }
    }

    /// Adds the values of the tile to the states of the queries that see a part of it. Each of their tokens has its own
    /// ends; the others can be blocked.
    ///
    /// # Safety
    ///
    /// As checked by [`Work::new`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16")]
    pub(in crate::x86) unsafe fn weigh_partial<const FORMAT: u8>(
        &self,
        buffers: &TileBuffers<'_>,
        states: &mut States<'_>,
    ) {
        let (seen, columns) = (self.seen, 0..self.shape.value_stride());
        let full = &self.full;
        for partial in [seen.first..full.start, full.end..seen.end] {
            for token in partial.step_by(seen.group) {
                let (queries, seen) = (token..token + seen.group, seen.by(token));
                // SAFETY: queries below the number there are, which see this much.
                unsafe {
                    self.weigh_columns::<FORMAT>(queries, seen, columns.clone(), buffers, states);
                }
            }
        }
    }

    /// The products of some rows of queries with all keys of the tile.
    ///
    /// # Safety
    ///
    /// `ROWS_HERE` rows from `row` on exist, and `scores` has space for them.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16")]
    unsafe fn scores<const FORMAT: u8, const ROWS_HERE: usize>(
        &self,
        row: usize,
        scores: *mut f32,
    ) {
        let words = self.shape.key_words();
        let mut sums = [[_mm512_setzero_ps(); CELLS]; ROWS_HERE];
        // SAFETY: `words` words per query and rows of keys per cell; rows as the caller promises.
        unsafe {
            let query = self.queries.words.as_ptr().add(row * words);
            for word in 0..words {
                let keys = self
                    .cells
                    .map(|cell| _mm512_loadu_si512(cell.add(word * GROUP).cast()));
                for (i, sums) in sums.iter_mut().enumerate() {
                    let query = _mm512_set1_epi32(*query.add(i * words + word) as i32);
                    for (sum, keys) in sums.iter_mut().zip(keys) {
                        *sum = match FORMAT {
                            INT8 => dot::<INT8>(*sum, keys, query),
                            _ => dot::<FORMAT>(*sum, query, keys),
                        };
                    }
                }
            }
            let scores = scores.add(row * TILE);
            for (i, sums) in sums.iter().enumerate() {
                for (cell, sum) in sums.iter().enumerate() {
                    _mm512_storeu_ps(scores.add(i * TILE + cell * GROUP), *sum);
                }
            }
        }
    }

    /// Adds the values of some positions to the states of some queries, all of which see these. The columns start at a
    /// multiple of 16.
    ///
    /// # Safety
    ///
    /// The queries exist, the positions and the columns.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16")]
    pub(in crate::x86) unsafe fn weigh_columns<const FORMAT: u8>(
        &self,
        queries: Range<usize>,
        seen: Range<usize>,
        columns: Range<usize>,
        buffers: &TileBuffers<'_>,
        states: &mut States<'_>,
    ) {
        let parts = self.shape.parts();
        let wide = columns.end - columns.len() % (4 * GROUP);
        let rows = queries.end * parts;
        for row in (queries.start * parts..rows).step_by(ROWS) {
            // SAFETY: rows and columns below the numbers there are.
            unsafe {
                for column in (columns.start..wide).step_by(4 * GROUP) {
                    let place = (row, column);
                    by_rows!(
                        rows - row,
                        self.weigh::<FORMAT, _, 4>(place, seen.clone(), buffers, states)
                    );
                }
                for column in (wide..columns.end).step_by(GROUP) {
                    let place = (row, column);
                    by_rows!(
                        rows - row,
                        self.weigh::<FORMAT, _, 1>(place, seen.clone(), buffers, states)
                    );
                }
            }
        }
    }

    /// Adds the values of the positions `seen` to some rows of states, in `16 * COLUMNS` columns.
    ///
    /// # Safety
    ///
    /// As many rows and columns exist from `row` and `column` on; positions are below [`TILE`].
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16")]
    unsafe fn weigh<const FORMAT: u8, const ROWS_HERE: usize, const COLUMNS: usize>(
        &self,
        (row, column): (usize, usize),
        seen: Range<usize>,
        buffers: &TileBuffers<'_>,
        states: &mut States<'_>,
    ) {
        let (stride, per_word) = (self.shape.value_stride(), self.shape.format.per_word());
        let (words, query) = (TILE / per_word, row / self.shape.parts());
        let mut sums = [[_mm512_setzero_ps(); COLUMNS]; ROWS_HERE];
        // SAFETY: rows of weights and states, and rows of values in each cell, as promised. A word
        // of which a part is seen exists whole.
        unsafe {
            let weights = buffers.weights.as_ptr().add(row * words);
            let states = states.values.as_mut_ptr().add(query * stride + column);
            if FORMAT != INT8 {
                for (i, sums) in sums.iter_mut().enumerate() {
                    let decay = _mm512_set1_ps(buffers.decays[query + i]);
                    for (j, sum) in sums.iter_mut().enumerate() {
                        let before = _mm512_loadu_ps(states.add(i * stride + j * GROUP));
                        *sum = _mm512_mul_ps(before, decay);
                    }
                }
            }
            let whole = match FORMAT {
                // Bytes that are not seen have the weight zero.
                INT8 => seen.start / per_word..seen.end.div_ceil(per_word),
                _ => seen.start.div_ceil(per_word)..seen.end / per_word,
            };
            let rows = GROUP / per_word;
            let values = |word: usize| {
                let start = self.shape.values() + word % rows * stride + column;
                self.cells[word / rows].add(start)
            };
            let mut word = whole.start;
            while word < whole.end {
                let mut row = values(word);
                let end = (word / rows + 1) * rows;
                for word in word..whole.end.min(end) {
                    let values: [_; COLUMNS] =
                        std::array::from_fn(|j| _mm512_loadu_si512(row.add(j * GROUP).cast()));
                    add_row::<FORMAT, ROWS_HERE, COLUMNS>(
                        &mut sums,
                        weights.add(word),
                        words,
                        values,
                    );
                    row = row.wrapping_add(stride);
                }
                word = end;
            }
            // Of a word of which one number is seen, the other may be NaN, and must become zero.
            let halves = [
                (seen.end, whole.end, 0xffff),
                (seen.start, seen.start / 2, !0xffff),
            ];
            for (edge, word, kept) in halves {
                if FORMAT != BF16 || edge % 2 == 0 {
                    continue;
                }
                let (row, kept) = (values(word), _mm512_set1_epi32(kept));
                let values: [_; COLUMNS] = std::array::from_fn(|j| {
                    _mm512_and_si512(_mm512_loadu_si512(row.add(j * GROUP).cast()), kept)
                });
                let weights = weights.add(word);
                add_row::<FORMAT, ROWS_HERE, COLUMNS>(&mut sums, weights, words, values);
            }
            if FORMAT != INT8 {
                for (i, sums) in sums.iter().enumerate() {
                    for (j, sum) in sums.iter().enumerate() {
                        _mm512_storeu_ps(states.add(i * stride + j * GROUP), *sum);
                    }
                }
                return;
            }
            for i in 0..ROWS_HERE / 2 {
                let decay = _mm512_set1_ps(buffers.decays[query + i]);
                let unit = _mm512_set1_ps(buffers.units[query + i]);
                for (j, (high, low)) in sums[2 * i].iter().zip(&sums[2 * i + 1]).enumerate() {
                    let [high, low] = [*high, *low].map(|sum| _mm512_castps_si512(sum));
                    let sum = _mm512_add_epi32(_mm512_slli_epi32::<8>(high), low);
                    let state = states.add(i * stride + j * GROUP);
                    let before = _mm512_mul_ps(_mm512_loadu_ps(state), decay);
                    let here = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), unit);
                    _mm512_storeu_ps(state, _mm512_add_ps(before, here));
                }
            }
        }
    }
}

/// Adds a row of values to each row of sums, weighted by its word.
///
/// # Safety
///
/// `ROWS_HERE` rows of `words` words can be read from `weights`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16")]
unsafe fn add_row<const FORMAT: u8, const ROWS_HERE: usize, const COLUMNS: usize>(
    sums: &mut [[__m512; COLUMNS]; ROWS_HERE],
    weights: *const u32,
    words: usize,
    values: [__m512i; COLUMNS],
) {
    for (i, sums) in sums.iter_mut().enumerate() {
        // SAFETY: as the caller promises.
        let weight = _mm512_set1_epi32(unsafe { *weights.add(i * words) } as i32);
        for (sum, values) in sums.iter_mut().zip(values) {
            *sum = dot::<FORMAT>(*sum, weight, values);
        }
    }
}

/// Adds the products of the numbers in two registers of words, lane by lane. Int8 sums are integers,
/// and of their factors `a` is unsigned, `b` signed.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni,avx512bf16")]
pub(super) fn dot<const FORMAT: u8>(sum: __m512, a: __m512i, b: __m512i) -> __m512 {
    match FORMAT {
        F32 => _mm512_fmadd_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), sum),
        // SAFETY: registers of the same size, of which every bit pattern is valid.
        BF16 => unsafe {
            {
                let [a, b] = [a, b].map(|words| transmute::<__m512i, __m512bh>(words));
                _mm512_dpbf16_ps(sum, a, b)
            }
        },
        _ => _mm512_castsi512_ps(_mm512_dpbusd_epi32(_mm512_castps_si512(sum), a, b)),
    }
}
