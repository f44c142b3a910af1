//! Kernels in plain Rust, compiled for registers of eight numbers. Rotation and the writes to the cache fuse no
//! multiplication with an addition there either, so the bits are those of the portable path.

use crate::Activation;
use crate::cache::CellShape;
use crate::kernels::{Affine, RopeHead};
use crate::portable::{rope, store};
use crate::vector::norm;
use crate::weight::{self, Int4Row};

/// Lanes of a register.
const LANES: usize = 8;

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

/// See [`Kernels::add`](crate::kernels::Kernels::add).
pub(super) fn add(sum: &mut [f32], delta: &[f32]) {
    #[target_feature(enable = "avx2")]
    fn wide(sum: &mut [f32], delta: &[f32]) {
        for (sum, delta) in sum.iter_mut().zip(delta) {
            *sum += delta;
        }
    }
    // SAFETY: as in `rope`.
    unsafe { wide(sum, delta) }
}

/// See [`Kernels::rms_norm`](crate::kernels::Kernels::rms_norm).
pub(super) fn rms_norm(input: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    #[target_feature(enable = "avx2,fma")]
    fn wide(input: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        norm::rms_norm::<LANES>(input, weight, eps, out);
    }
    // SAFETY: as in `rope`.
    unsafe { wide(input, weight, eps, out) }
}

/// See [`Kernels::layer_norm`](crate::kernels::Kernels::layer_norm).
pub(super) fn layer_norm(input: &[f32], affine: Affine<'_>, eps: f32, out: &mut [f32]) {
    #[target_feature(enable = "avx2,fma")]
    fn wide(input: &[f32], affine: Affine<'_>, eps: f32, out: &mut [f32]) {
        norm::layer_norm::<LANES>(input, affine, eps, out);
    }
    // SAFETY: as in `rope`.
    unsafe { wide(input, affine, eps, out) }
}

/// See [`Kernels::activate`](crate::kernels::Kernels::activate).
pub(super) fn activate(activation: Activation, input: &[f32], out: &mut [f32]) {
    #[target_feature(enable = "avx2,fma")]
    fn wide(activation: Activation, input: &[f32], out: &mut [f32]) {
        crate::portable::activate(activation, input, out);
    }
    // SAFETY: as in `rope`.
    unsafe { wide(activation, input, out) }
}

/// See [`Kernels::peaks`](crate::kernels::Kernels::peaks).
pub(super) fn peaks(logits: &[f32], out: &mut [f32]) {
    #[target_feature(enable = "avx2")]
    fn wide(logits: &[f32], out: &mut [f32]) {
        crate::portable::peaks(logits, out);
    }
    // SAFETY: as in `rope`.
    unsafe { wide(logits, out) }
}

/// See [`Kernels::quantize_int8`](crate::kernels::Kernels::quantize_int8).
pub(super) fn quantize_int8(values: &[f32], words: &mut [u32]) -> f32 {
    #[target_feature(enable = "avx2")]
    fn wide(values: &[f32], words: &mut [u32]) -> f32 {
        weight::quantize_int8(values, words)
    }
    // SAFETY: as in `rope`.
    unsafe { wide(values, words) }
}

/// See [`Kernels::quantize_int4`](crate::kernels::Kernels::quantize_int4).
pub(super) fn quantize_int4(values: &[f32], words: &mut [u32]) -> Int4Row {
    #[target_feature(enable = "avx2")]
    fn wide(values: &[f32], words: &mut [u32]) -> Int4Row {
        weight::quantize_int4(values, words)
    }
    // SAFETY: as in `rope`.
    unsafe { wide(values, words) }
}
