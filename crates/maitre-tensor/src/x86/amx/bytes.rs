//! One tile of attention over keys and values in int8, in tile registers.
//!
//! Queries and weights are two rows of bytes each, the high ones and the low ones:
//!
//! ```text
//! scores   8 queries x 2 cells       over 32 words of a head at a time: one step at a head size of 128
//! values   8 queries x 64 elements   over the 4 cells, 16 words of four slots
//! ```
//!
//! Values are copied first: the words of four cells, which lie apart, are a tile of sixteen rows then. All sums are exact,
//! so the results are those of the AVX-512 path, bit for bit. Positions that a query does not see have weight zero.

use std::arch::asm;
use std::arch::x86_64::*;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::attention::with_keys;
use super::registers::{Int8, LINE, ROWS};
use super::resident::{MOST_BLOCKS, blocks, shapes};
use super::shapes::Tiles;
use crate::attend::{CELLS, States, TILE, TileBuffers};
use crate::cache::GROUP;
use crate::x86::avx512::{INT8, Work};

/// Queries that fill a tile's rows. Fewer of them, as when decoding, are left to AVX-512's instructions: a tile takes as long
/// however many of its rows are used.
pub(super) const LEAST_QUERIES: usize = 8;

/// Rows of bytes of a query, and of its weights.
pub(super) const PARTS: usize = 2;

/// Tiles of values that stay in registers, of sixteen elements each.
pub(super) const TILES: usize = 4;

/// Elements of values that are multiplied at a time.
pub(super) const COLUMNS: usize = TILES * GROUP;

/// Words of a row of weights, and rows of a tile of values.
pub(super) const WORDS: usize = TILE / 4;

const _: () = assert!(WORDS * size_of::<u32>() == LINE && WORDS == CELLS * GROUP / 4);

/// Merges the tile into what queries know.
///
/// # Safety
///
/// The processor has the instructions, and tiles may be used; `work` was made for these arrays, of a cache in int8.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16")]
pub(super) unsafe fn attend(
    work: &Work<'_>,
    buffers: &mut TileBuffers<'_>,
    states: &mut States<'_>,
) {
    let queries = work.seen.first..work.seen.end;
    // SAFETY: queries below the number there are, as the caller promises.
    unsafe {
        with_keys(work, queries.clone(), buffers).run_many::<Int8>();
        work.weights::<INT8>(buffers, states);
        weigh(work, queries, buffers, states);
    }
}

/// Adds the values of the tile to the states of some queries.
///
/// # Safety
///
/// As [`attend`]; the queries exist.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16")]
unsafe fn weigh(
    work: &Work<'_>,
    queries: Range<usize>,
    buffers: &TileBuffers<'_>,
    states: &mut States<'_>,
) {
    let stride = work.shape.value_stride();
    let (mut values, mut sums) = (PackedBytes::new(), ByteSums::new());
    for (start, count, rows) in blocks(queries.len() * PARTS) {
        // SAFETY: promised by the caller.
        let _tiles = unsafe { Tiles::configure(&shapes(rows)) };
        for column in (0..stride).step_by(COLUMNS) {
            let columns = column..stride.min(column + COLUMNS);
            // SAFETY: promised by the caller: cells have these columns.
            unsafe { values.fill(work, columns.clone()) };
            for block in (0..count).step_by(MOST_BLOCKS) {
                let first = queries.start + (start + block * ROWS) / PARTS;
                let count = MOST_BLOCKS.min(count - block);
                let queries = first..first + count * rows / PARTS;
                let weights = buffers.weights[first * PARTS * WORDS..].as_ptr();
                // SAFETY: promised by the caller: weights are of as many queries.
                unsafe {
                    values.weigh(count, weights, &mut sums);
                    add(&sums, queries, columns.clone(), stride, buffers, states);
                }
            }
        }
    }
}

/// Some elements of the values of four cells: of each sixteen elements a tile. What was not filled means nothing.
#[repr(align(64))]
pub(super) struct PackedBytes(MaybeUninit<[[[u32; GROUP]; WORDS]; TILES]>);

/// Exact sums of weighted values. Those of elements and rows that are not there mean nothing.
#[repr(align(64))]
pub(super) struct ByteSums(MaybeUninit<[[i32; COLUMNS]; MOST_BLOCKS * ROWS]>);

impl ByteSums {
    /// Zeros would be 256 stores, of which nothing is read.
    pub(super) fn new() -> Self {
        Self(MaybeUninit::uninit())
    }

    /// Sixteen elements of a row, below [`MOST_BLOCKS`] times [`ROWS`].
    pub(super) fn group(&self, row: usize, element: usize) -> *const i32 {
        let first = self.0.as_ptr().cast::<i32>();
        first.wrapping_add(row * COLUMNS + element)
    }
}

impl PackedBytes {
    /// Means nothing before it is filled.
    pub(super) fn new() -> Self {
        Self(MaybeUninit::uninit())
    }

    /// Copies up to [`COLUMNS`] elements.
    ///
    /// # Safety
    ///
    /// The processor has AVX-512, and cells have these columns.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn fill(&mut self, work: &Work<'_>, columns: Range<usize>) {
        let values = work.shape.values() + columns.start;
        let cells = work.cells.map(|cell| cell.wrapping_add(values));
        // SAFETY: promised by the caller.
        unsafe { self.copy(cells, work.shape.value_stride(), columns.len() / GROUP) };
    }

    /// Copies the values of sixteen times `tiles` elements: of each cell the word of the first element and of the first four
    /// slots; words of the next four are `stride` words on.
    ///
    /// # Safety
    ///
    /// The processor has AVX-512; four rows of so many words of each cell are readable.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn copy(&mut self, cells: [*const u32; CELLS], stride: usize, tiles: usize) {
        let place = self.0.as_mut_ptr().cast::<[u32; GROUP]>();
        for (cell, values) in cells.into_iter().enumerate() {
            for slots in 0..WORDS / CELLS {
                let words = values.wrapping_add(slots * stride).cast::<[u32; GROUP]>();
                let row = cell * WORDS / CELLS + slots;
                for tile in 0..tiles.min(TILES) {
                    // SAFETY: promised by the caller; each tile has so many rows.
                    unsafe { place.add(tile * WORDS + row).write(words.add(tile).read()) };
                }
            }
        }
    }

    /// The weighted sums of some blocks of rows of [`WORDS`] words, [`MOST_BLOCKS`] at most.
    ///
    /// # Safety
    ///
    /// [`shapes`] are configured; as many rows of weights are readable.
    #[inline]
    pub(super) unsafe fn weigh(&self, count: usize, weights: *const u32, sums: &mut ByteSums) {
        debug_assert!((1..=MOST_BLOCKS).contains(&count));
        // SAFETY: the caller promises the weights, and that the registers are configured; there is space for as many rows.
        unsafe {
            asm!(
                "tileloadd tmm4, [{values} + 1*{line}]",
                "tileloadd tmm5, [{values} + 1*{line} + 1024]",
                "tileloadd tmm6, [{values} + 1*{line} + 2048]",
                "tileloadd tmm7, [{values} + 1*{line} + 3072]",
                "2:",
                "tileloadd tmm2, [{weights} + 1*{line}]",
                "tilezero tmm0",
                "tdpbusd tmm0, tmm2, tmm4",
                "tilestored [{sums} + 1*{stride}], tmm0",
                "tilezero tmm1",
                "tdpbusd tmm1, tmm2, tmm5",
                "tilestored [{sums} + 1*{stride} + 64], tmm1",
                "tilezero tmm3",
                "tdpbusd tmm3, tmm2, tmm6",
                "tilestored [{sums} + 1*{stride} + 128], tmm3",
                "tilezero tmm0",
                "tdpbusd tmm0, tmm2, tmm7",
                "tilestored [{sums} + 1*{stride} + 192], tmm0",
                "add {weights}, {weights_block}",
                "add {sums}, {sums_block}",
                "dec {left}",
                "jnz 2b",
                values = in(reg) self.0.as_ptr(),
                line = in(reg) LINE,
                weights = inout(reg) weights => _,
                weights_block = const ROWS * LINE,
                sums = inout(reg) sums.0.as_mut_ptr() => _,
                sums_block = const ROWS * COLUMNS * size_of::<i32>(),
                stride = in(reg) COLUMNS * size_of::<i32>(),
                left = inout(reg) count => _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}

/// Adds the sums of some columns to the states of some queries, in units of their weights.
///
/// # Safety
///
/// The processor has AVX-512; the sums are those of the queries, and the columns are a multiple of sixteen.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn add(
    sums: &ByteSums,
    queries: Range<usize>,
    columns: Range<usize>,
    stride: usize,
    buffers: &TileBuffers<'_>,
    states: &mut States<'_>,
) {
    for (index, query) in queries.enumerate() {
        let decay = _mm512_set1_ps(buffers.decays[query]);
        let unit = _mm512_set1_ps(buffers.units[query]);
        let state = &mut states.values[query * stride..][columns.clone()];
        for (group, state) in state.as_chunks_mut::<GROUP>().0.iter_mut().enumerate() {
            let part = |part: usize| sums.group(index * PARTS + part, group * GROUP).cast();
            // SAFETY: as many numbers as a register holds, which the caller computed.
            unsafe {
                let high = _mm512_slli_epi32::<8>(_mm512_loadu_si512(part(0)));
                let sum = _mm512_add_epi32(high, _mm512_loadu_si512(part(1)));
                let before = _mm512_mul_ps(_mm512_loadu_ps(state.as_ptr()), decay);
                let here = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), unit);
                _mm512_storeu_ps(state.as_mut_ptr(), _mm512_add_ps(before, here));
            }
        }
    }
}
