//! One tile of attention, in tile registers: over keys and values in bf16 here, over those in int8 in [`bytes`].
//!
//! Sixteen keys of a cell are a panel, and so are sixteen elements of the values of its slots:
//!
//! ```text
//! scores   16 queries x 2 cells       over 32 words of a head at a time: two steps at a head size of 128
//! values   16 queries x 32 elements   over the 4 cells
//! ```
//!
//! Values are copied first: the slots of two cells, which lie apart, are a tile of sixteen rows then.
//!
//! The softmax between them, and tokens that see a part of the tile only, are computed as on the
//! AVX-512 path. Which of the two a query's tile is depends on positions alone.

use std::arch::x86_64::*;
use std::ops::Range;

use super::bytes;
use super::few::FEW_ROWS;
use super::registers::{Operands, ROWS, WIDE_PANELS};
use super::resident::{COLUMNS, FEW_COLUMNS, MOST_BLOCKS, Packed, Products, blocks, shapes};
use super::shapes::Tiles;
use crate::attend::{Queries, Seen, States, TILE, Tile, TileBuffers};
use crate::cache::{GROUP, KvFormat};
use crate::vector::strips::Ahead;
use crate::x86::avx512::{self, BF16, Work};

/// See [`Kernels::attend`](crate::kernels::Kernels::attend).
pub(super) fn attend(
    tile: &Tile<'_>,
    queries: &Queries<'_>,
    seen: Seen,
    buffers: &mut TileBuffers<'_>,
    states: &mut States<'_>,
) {
    let few = seen.end - seen.first < bytes::LEAST_QUERIES;
    let kernel = match tile.shape.format {
        KvFormat::Bf16 => attend_bf16,
        KvFormat::Int8 if !few => bytes::attend,
        KvFormat::Int8 | KvFormat::F32 => {
            return avx512::attend(tile, queries, seen, buffers, states);
        }
    };
    let work = Work::new(tile, queries, seen, buffers, states);
    // SAFETY: the table is handed out only where the processor has the instructions and the system
    // lets this process use tiles, and every array is as long as the kernels read and write.
    unsafe { kernel(&work, buffers, states) }
}

/// # Safety
///
/// The processor has the instructions, and tiles may be used; `work` was made for these arrays.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16")]
unsafe fn attend_bf16(work: &Work<'_>, buffers: &mut TileBuffers<'_>, states: &mut States<'_>) {
    let seen = work.seen;
    // SAFETY: queries below the number there are, as the caller promises.
    unsafe {
        with_keys(work, seen.first..seen.end, buffers).run_rows();
        work.weights::<BF16>(buffers, states);
        work.weigh_partial::<BF16>(buffers, states);
        weigh(work, work.full.clone(), buffers, states);
    }
}

/// The products of some queries, each of as many rows as the format has parts, with all keys of the tile.
pub(super) fn with_keys(
    work: &Work<'_>,
    queries: Range<usize>,
    buffers: &mut TileBuffers<'_>,
) -> Operands<WIDE_PANELS> {
    let (words, parts) = (work.shape.key_words(), work.shape.parts());
    let first = queries.start * parts;
    Operands {
        rows: queries.len() * parts,
        depth: words,
        a: work.queries.words[first * words..].as_ptr(),
        a_stride: words * size_of::<u32>(),
        panels: work.cells.map(<*const u32>::cast),
        sums: buffers.scores[first * TILE..].as_mut_ptr().cast(),
        sums_stride: TILE * size_of::<f32>(),
        ahead: Ahead::NONE,
    }
}

/// Adds the values of all positions of the tile to the states of some queries.
///
/// # Safety
///
/// As [`attend_bf16`]; the queries exist, and see all positions.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16")]
unsafe fn weigh(
    work: &Work<'_>,
    queries: Range<usize>,
    buffers: &TileBuffers<'_>,
    states: &mut States<'_>,
) {
    match queries.len() {
        0 => return,
        // SAFETY: promised by the caller.
        1..=FEW_ROWS => return unsafe { weigh_few(work, queries, buffers, states) },
        _ => {}
    }
    let (stride, words) = (work.shape.value_stride(), work.shape.weight_words());
    let wide = stride - stride % COLUMNS;
    let (mut packed, mut products) = (Packed::new(), Products::new());
    for (start, count, rows) in blocks(queries.len()) {
        // SAFETY: promised by the caller.
        let _tiles = unsafe { Tiles::configure(&shapes(rows)) };
        for block in (0..count).step_by(MOST_BLOCKS) {
            let first = queries.start + start + block * ROWS;
            let count = MOST_BLOCKS.min(count - block);
            let weights = buffers.weights[first * words..].as_ptr();
            for column in (0..wide).step_by(COLUMNS) {
                let values = work.shape.values() + column;
                // SAFETY: promised by the caller: cells have these columns, and weights are of as many queries.
                unsafe {
                    let cells = work.cells.map(|cell| cell.wrapping_add(values));
                    packed.fill(cells, stride, COLUMNS);
                    packed.weigh(count, weights, words * size_of::<u32>(), &mut products);
                    let sums = (products.row(0), COLUMNS);
                    let queries = first..first + count * rows;
                    add(
                        sums,
                        queries,
                        column..column + COLUMNS,
                        stride,
                        buffers,
                        states,
                    );
                }
            }
        }
    }
    // SAFETY: promised by the caller.
    unsafe { work.weigh_columns::<BF16>(queries, 0..TILE, wide..stride, buffers, states) };
}

/// As [`weigh`], bit for bit, for up to [`FEW_ROWS`] queries: without tiles, which are loaded whole before anything is
/// multiplied.
///
/// # Safety
///
/// As [`weigh`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16")]
unsafe fn weigh_few(
    work: &Work<'_>,
    queries: Range<usize>,
    buffers: &TileBuffers<'_>,
    states: &mut States<'_>,
) {
    let (stride, words) = (work.shape.value_stride(), work.shape.weight_words());
    let wide = stride - stride % COLUMNS;
    let mut packed = Packed::new();
    let mut sums = [[0.0; FEW_COLUMNS]; FEW_ROWS];
    let weights = buffers.weights[queries.start * words..].as_ptr();
    for column in (0..wide).step_by(FEW_COLUMNS) {
        let count = FEW_COLUMNS.min(wide - column);
        let values = work.shape.values() + column;
        let cells = work.cells.map(|cell| cell.wrapping_add(values));
        let size = (queries.len(), count);
        // SAFETY: promised by the caller: cells have these columns, and weights are of as many queries.
        unsafe {
            packed.fill(cells, stride, count);
            packed.weigh_few(size, weights, words * size_of::<u32>(), &mut sums);
            let sums = (sums.as_ptr().cast(), FEW_COLUMNS);
            add(
                sums,
                queries.clone(),
                column..column + count,
                stride,
                buffers,
                states,
            );
        }
    }
    // SAFETY: promised by the caller.
    unsafe { work.weigh_columns::<BF16>(queries, 0..TILE, wide..stride, buffers, states) };
}

/// Adds the products of some columns to the states of some queries, which are multiplied by their decays first. Rows of
/// products are so many numbers apart, those of states `stride`.
///
/// # Safety
///
/// The processor has AVX-512; as many rows of products as queries are readable, and the columns are a multiple of sixteen.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn add(
    (products, products_stride): (*const f32, usize),
    queries: Range<usize>,
    columns: Range<usize>,
    stride: usize,
    buffers: &TileBuffers<'_>,
    states: &mut States<'_>,
) {
    let rows = states.values[queries.start * stride..].chunks_mut(stride);
    let decays = &buffers.decays[queries];
    for (row, (state, decay)) in rows.zip(decays).enumerate() {
        let decay = _mm512_set1_ps(*decay);
        let products = products.wrapping_add(row * products_stride);
        let state = state[columns.clone()].as_chunks_mut::<GROUP>().0;
        for (group, state) in state.iter_mut().enumerate() {
            // SAFETY: as many numbers as a register holds, which the caller computed.
            unsafe {
                let before = _mm512_loadu_ps(state.as_ptr());
                let added = _mm512_loadu_ps(products.add(group * GROUP));
                let sum = _mm512_fmadd_ps(before, decay, added);
                _mm512_storeu_ps(state.as_mut_ptr(), sum);
            }
        }
    }
}
