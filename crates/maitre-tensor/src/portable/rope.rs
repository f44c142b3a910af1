//! Rotary position embedding (Su et al. 2021, arXiv 2104.09864) in the half-split layout of Llama
//! and Qwen checkpoints: element `i` is paired with element `i + head_dim / 2`.

/// See [`Kernels::rotate`](crate::kernels::Kernels::rotate).
pub(super) fn rotate(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (low, high) = head.split_at_mut(head.len() / 2);
    for (((low, high), cos), sin) in low.iter_mut().zip(high).zip(cos).zip(sin) {
        (*low, *high) = (*low * cos - *high * sin, *high * cos + *low * sin);
    }
}
