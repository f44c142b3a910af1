//! Rotation and the writes to the cache: the portable kernels, compiled for registers of eight numbers.
//! They fuse no multiplication with an addition there either, so the bits are those of the portable
//! path.

use crate::cache::CellShape;
use crate::kernels::RopeHead;
use crate::portable::{rope, store};

/// See [`Kernels::rope`](crate::kernels::Kernels::rope).
pub(super) fn rope(head: &RopeHead<'_>, out: &mut [f32]) {
    #[target_feature(enable = "avx2")]
    fn wide(head: &RopeHead<'_>, out: &mut [f32]) {
        rope::rope(head, out);
    }
    // SAFETY: reached through a table that is handed out only where the processor has the
    // instructions.
    unsafe { wide(head, out) }
}

/// See [`Kernels::store_key`](crate::kernels::Kernels::store_key).
pub(super) fn store_key(shape: CellShape, cell: &mut [u32], slot: usize, key: &[f32]) {
    #[target_feature(enable = "avx2")]
    fn wide(shape: CellShape, cell: &mut [u32], slot: usize, key: &[f32]) {
        store::store_key(shape, cell, slot, key);
    }
    // SAFETY: as in `rope`.
    unsafe { wide(shape, cell, slot, key) }
}

/// See [`Kernels::store_value`](crate::kernels::Kernels::store_value).
pub(super) fn store_value(shape: CellShape, cell: &mut [u32], slot: usize, value: &[f32]) {
    #[target_feature(enable = "avx2")]
    fn wide(shape: CellShape, cell: &mut [u32], slot: usize, value: &[f32]) {
        store::store_value(shape, cell, slot, value);
    }
    // SAFETY: as in `rope`.
    unsafe { wide(shape, cell, slot, value) }
}
