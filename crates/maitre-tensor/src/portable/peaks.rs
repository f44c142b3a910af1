//! The largest logit of each block.

use crate::backend::PEAK_BLOCK;

/// Logits that are treated side by side, for the compiler to use vector instructions.
const LANES: usize = 16;

/// See [`Kernels::peaks`](crate::kernels::Kernels::peaks).
#[inline(always)]
pub(crate) fn peaks(logits: &[f32], out: &mut [f32]) {
    let (blocks, rest) = logits.as_chunks::<PEAK_BLOCK>();
    for (out, block) in out.iter_mut().zip(blocks) {
        *out = peak(block);
    }
    if let (false, Some(last)) = (rest.is_empty(), out.get_mut(blocks.len())) {
        let mut block = [f32::NEG_INFINITY; PEAK_BLOCK];
        block[..rest.len()].copy_from_slice(rest);
        *last = peak(&block);
    }
}

#[inline(always)]
fn peak(block: &[f32; PEAK_BLOCK]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    // NaN and +inf alone are not below +inf.
    let mut sound = [true; LANES];
    for group in block.as_chunks::<LANES>().0 {
        for ((lane, sound), logit) in lanes.iter_mut().zip(&mut sound).zip(group) {
            *lane = if *logit > *lane { *logit } else { *lane };
            *sound &= *logit < f32::INFINITY;
        }
    }
    if sound != [true; LANES] {
        return f32::NAN;
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, f32::max)
}
