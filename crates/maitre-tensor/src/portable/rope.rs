//! Rotary position embedding (Su et al. 2021, arXiv 2104.09864) in the half-split layout of Llama
//! and Qwen checkpoints: element `i` is paired with element `i + n`, where `2 * n`
//! elements are rotated (all, or the first ones: GPT-NeoX, arXiv 2204.06745, section 2.1).

use super::norm::rms_norm;
use crate::kernels::RopeHead;

/// See [`Kernels::rope`](crate::kernels::Kernels::rope).
#[inline(always)]
pub(crate) fn rope(head: &RopeHead<'_>, out: &mut [f32]) {
    match head.norm {
        Some(weight) => rms_norm(head.input, weight, head.eps, out),
        None => out.copy_from_slice(head.input),
    }
    let (rotated, _) = out.split_at_mut(2 * head.cos.len());
    let (low, high) = rotated.split_at_mut(head.cos.len());
    for (((low, high), cos), sin) in low.iter_mut().zip(high).zip(head.cos).zip(head.sin) {
        (*low, *high) = (*low * cos - *high * sin, *high * cos + *low * sin);
    }
}
