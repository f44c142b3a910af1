//! Attention, rotation and the writes to the cache: the portable kernels, compiled for registers of
//! eight numbers. They fuse no multiplication with an addition there either, so the bits are those
//! of the portable path.

use crate::attend::{Queries, Seen, States, Tile, TileBuffers};
use crate::cache::CellShape;
use crate::kernels::RopeHead;
use crate::portable::{attention, query, rope, store};

/// See [`Kernels::attend`](crate::kernels::Kernels::attend).
pub(super) fn attend(
    tile: &Tile<'_>,
    queries: &Queries<'_>,
    seen: Seen,
    buffers: &mut TileBuffers<'_>,
    states: &mut States<'_>,
) {
    #[target_feature(enable = "avx2")]
    fn wide(
        tile: &Tile<'_>,
        queries: &Queries<'_>,
        seen: Seen,
        buffers: &mut TileBuffers<'_>,
        states: &mut States<'_>,
    ) {
        attention::attend(tile, queries, seen, buffers, states);
    }
    // SAFETY: reached through a table that is handed out only where the processor has the
    // instructions.
    unsafe { wide(tile, queries, seen, buffers, states) }
}

/// See [`Kernels::load_query`](crate::kernels::Kernels::load_query).
pub(super) fn load_query(
    shape: CellShape,
    query: &[f32],
    words: &mut [u32],
    sums: &mut [i32],
) -> f32 {
    #[target_feature(enable = "avx2")]
    fn wide(shape: CellShape, query: &[f32], words: &mut [u32], sums: &mut [i32]) -> f32 {
        query::load_query(shape, query, words, sums)
    }
    // SAFETY: as in `attend`.
    unsafe { wide(shape, query, words, sums) }
}

/// See [`Kernels::rope`](crate::kernels::Kernels::rope).
pub(super) fn rope(head: &RopeHead<'_>, out: &mut [f32]) {
    #[target_feature(enable = "avx2")]
    fn wide(head: &RopeHead<'_>, out: &mut [f32]) {
        rope::rope(head, out);
    }
    // SAFETY: as in `attend`.
    unsafe { wide(head, out) }
}

/// See [`Kernels::store_key`](crate::kernels::Kernels::store_key).
pub(super) fn store_key(shape: CellShape, cell: &mut [u32], slot: usize, key: &[f32]) {
    #[target_feature(enable = "avx2")]
    fn wide(shape: CellShape, cell: &mut [u32], slot: usize, key: &[f32]) {
        store::store_key(shape, cell, slot, key);
    }
    // SAFETY: as in `attend`.
    unsafe { wide(shape, cell, slot, key) }
}

/// See [`Kernels::store_value`](crate::kernels::Kernels::store_value).
pub(super) fn store_value(shape: CellShape, cell: &mut [u32], slot: usize, value: &[f32]) {
    #[target_feature(enable = "avx2")]
    fn wide(shape: CellShape, cell: &mut [u32], slot: usize, value: &[f32]) {
        store::store_value(shape, cell, slot, value);
    }
    // SAFETY: as in `attend`.
    unsafe { wide(shape, cell, slot, value) }
}
