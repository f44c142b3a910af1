//! What others reach, and what is to be reached, in tokens a second.
//!
//! References are performance figures published for vLLM 0.30 on one H100 (bf16, 128 tokens in and 1,024 out, the
//! prompts' time included; beside int8 its fp8). Goals are for an H100 too, and were set before any GPU
//! had run this: 155 and 400 tokens/s for one user, above the references for many. An H200's memory is 1.4 times as fast.

use maitre_tensor::WeightFormat;

use crate::shape::{QWEN3_8B, Shape};

/// A decode's reference and goal.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Goal {
    pub(super) reference: Option<f64>,
    pub(super) goal: Option<f64>,
}

pub(super) fn decode(shape: Shape, format: WeightFormat, users: usize) -> Goal {
    if shape != QWEN3_8B {
        return Goal::default();
    }
    let (reference, goal) = match (format, users) {
        (WeightFormat::Bf16, 1) => (Some(146.0), Some(155.0)),
        (WeightFormat::Bf16, 64) => (Some(6597.0), Some(6600.0)),
        (WeightFormat::Bf16, 256) => (Some(13_567.0), Some(13_600.0)),
        (WeightFormat::Int8 { .. }, 1) => (Some(214.0), None),
        (WeightFormat::Int4 { .. }, 1) => (None, Some(400.0)),
        _ => (None, None),
    };
    Goal { reference, goal }
}

/// Of the rate of a large product, a prefill's share.
pub(super) const PREFILL_SHARE: f64 = 0.6;

/// Of the copy rate, a decode's attention's share.
pub(super) const ATTENTION_SHARE: f64 = 0.8;
