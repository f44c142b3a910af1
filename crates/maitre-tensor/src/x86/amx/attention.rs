//! One tile of attention over keys and values in bf16, in tile registers.
//!
//! Sixteen keys of a cell are a panel, and so are sixteen elements of the values of its slots:
//!
//! ```text
//! scores   16 queries x 4 cells       over the words of a head: 4 steps at a head size of 128
//! values   16 queries x 64 elements   over the 4 cells; added to the states in place
//! ```
//!
//! The softmax between them, and tokens that see a part of the tile only, are computed as on the
//! AVX-512 path. Which of the two a query's tile is depends on positions alone.

use std::arch::x86_64::*;
use std::ops::Range;

use super::registers::{Bf16, Operands, ROWS, Values};
use crate::attend::{CELLS, Queries, Seen, States, TILE, Tile, TileBuffers};
use crate::cache::{GROUP, KvFormat};
use crate::vector::strips::Ahead;
use crate::x86::avx512::{self, BF16, Work};

/// Elements of values whose sums fill the registers.
const COLUMNS: usize = 4 * GROUP;

/// See [`Kernels::attend`](crate::kernels::Kernels::attend).
pub(super) fn attend(
    tile: &Tile<'_>,
    queries: &Queries<'_>,
    seen: Seen,
    buffers: &mut TileBuffers<'_>,
    states: &mut States<'_>,
) {
    if tile.shape.format != KvFormat::Bf16 {
        return avx512::attend(tile, queries, seen, buffers, states);
    }
    let work = Work::new(tile, queries, seen, buffers, states);
    // SAFETY: the table is handed out only where the processor has the instructions and the system
    // lets this process use tiles, and every array is as long as the kernels read and write.
    unsafe { attend_bf16(&work, buffers, states) }
}

/// # Safety
///
/// The processor has the instructions, and tiles may be used; `work` was made for these arrays.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16")]
unsafe fn attend_bf16(work: &Work<'_>, buffers: &mut TileBuffers<'_>, states: &mut States<'_>) {
    let seen = work.seen;
    // SAFETY: queries below the number there are, as the caller promises.
    unsafe {
        for first in (seen.first..seen.end).step_by(ROWS) {
            scores(work, first..seen.end.min(first + ROWS), buffers);
        }
        for query in seen.first..seen.end {
            work.weights::<BF16>(query, buffers, states);
        }
        work.weigh_partial::<BF16>(buffers, states);
        let full = seen.full();
        for first in full.clone().step_by(ROWS) {
            weigh(work, first..full.end.min(first + ROWS), buffers, states);
        }
    }
}

/// The products of up to [`ROWS`] queries with all keys of the tile.
///
/// # Safety
///
/// As [`attend_bf16`]; the queries exist.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn scores(work: &Work<'_>, queries: Range<usize>, buffers: &mut TileBuffers<'_>) {
    let words = work.shape.key_words();
    let operands = Operands {
        rows: queries.len(),
        depth: words,
        a: work.queries.words[queries.start * words..].as_ptr(),
        a_stride: words * size_of::<u32>(),
        panels: work.cells.map(<*const u32>::cast),
        sums: buffers.scores[queries.start * TILE..].as_mut_ptr().cast(),
        sums_stride: TILE * size_of::<f32>(),
        ahead: Ahead::NONE,
    };
    // SAFETY: promised by the caller.
    unsafe { operands.run::<Bf16>() }
}

/// Adds the values of all positions of the tile to the states of up to [`ROWS`] queries.
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
    let (stride, words) = (work.shape.value_stride(), work.shape.weight_words());
    let wide = stride - stride % COLUMNS;
    let weights = buffers.weights[queries.start * words..].as_ptr();
    for query in queries.clone() {
        let state = &mut states.values[query * stride..][..wide];
        let decay = _mm512_set1_ps(buffers.decays[query]);
        for numbers in state.as_chunks_mut::<GROUP>().0 {
            // SAFETY: as many numbers as a register holds.
            unsafe {
                let before = _mm512_loadu_ps(numbers.as_ptr());
                _mm512_storeu_ps(numbers.as_mut_ptr(), _mm512_mul_ps(before, decay));
            }
        }
    }
    for column in (0..wide).step_by(COLUMNS) {
        let values: [_; CELLS] = work
            .cells
            .map(|cell| cell.wrapping_add(work.shape.values() + column));
        let values = Values {
            queries: queries.len(),
            weights,
            weight_stride: words * size_of::<u32>(),
            cells: &values,
            value_stride: stride * size_of::<u32>(),
            sums: states.values[queries.start * stride + column..].as_mut_ptr(),
        };
        // SAFETY: promised by the caller.
        unsafe { values.add() };
    }
    // SAFETY: promised by the caller.
    unsafe { work.weigh_columns::<BF16>(queries, 0..TILE, wide..stride, buffers, states) };
}
