//! The operators on single rows: normalisation, quantization, and bringing a row into the form that
//! the products read. They touch memory that is in the nearest caches; the arithmetic is what the
//! portable path does, sixteen numbers at a time.

use std::arch::x86_64::*;

use crate::Activation;
use crate::format::InputFormat;
use crate::input::{Group, InputShape};
use crate::kernels::Affine;
use crate::portable::encode as portable;
use crate::vector::norm;
use crate::weight::{self, Int4Row};

/// Lanes of a register.
const LANES: usize = 16;

/// See [`Kernels::encode`](crate::kernels::Kernels::encode).
pub(super) fn encode(values: &[f32], shape: &InputShape, words: &mut [u32], groups: &mut [Group]) {
    // SAFETY: reached through a table that is handed out only where the processor has the
    // instructions.
    unsafe {
        match shape.format {
            InputFormat::F32 => portable::encode(values, shape, words, groups),
            InputFormat::Bf16 => encode_bf16(values, words),
            InputFormat::Int8 { .. } => {
                let len = shape.group_len();
                words[values.len() / 4..].fill(0);
                let words = words.chunks_mut(len.div_ceil(4));
                for ((values, words), group) in values.chunks(len).zip(words).zip(groups) {
                    *group = encode_int8(values, words);
                }
            }
        }
    }
}

/// # Safety
///
/// The processor has the instructions.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn encode_bf16(values: &[f32], words: &mut [u32]) {
    let (chunks, rest) = values.as_chunks::<{ 2 * LANES }>();
    let (blocks, tail) = words.split_at_mut(chunks.len() * LANES);
    for (chunk, words) in chunks.iter().zip(blocks.as_chunks_mut::<LANES>().0) {
        // SAFETY: 32 numbers are read, 16 words are written.
        unsafe {
            let low = _mm512_loadu_ps(chunk.as_ptr());
            let high = _mm512_loadu_ps(chunk[LANES..].as_ptr());
            let pairs = round_pairs(low, high);
            _mm512_storeu_si512(words.as_mut_ptr().cast(), pairs);
        }
    }
    let shape = InputShape::new(InputFormat::Bf16, rest.len());
    portable::encode(rest, &shape, tail, &mut []);
}

/// Two registers of f32 to one of bf16, to nearest even, as the portable path rounds. (The
/// conversion instruction would take subnormal numbers as zero.)
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn round_pairs(low: __m512, high: __m512) -> __m512i {
    let halves = [low, high].map(|values| {
        let bits = _mm512_castps_si512(values);
        let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        let bias = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
        let nearest = _mm512_add_epi32(bits, bias);
        let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(values, values);
        let quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x0040_0000));
        let kept = _mm512_mask_mov_epi32(nearest, nan, quiet);
        _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(kept))
    });
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(halves[0]), halves[1])
}

/// As [`portable::encode_int8`], bit for bit.
///
/// # Safety
///
/// The processor has the instructions.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn encode_int8(values: &[f32], words: &mut [u32]) -> Group {
    let (chunks, rest) = values.as_chunks::<LANES>();
    let magnitude = _mm512_set1_epi32(0x7fff_ffff);
    let mut largest = _mm512_setzero_si512();
    for chunk in chunks {
        // SAFETY: 16 numbers are read.
        let bits = unsafe { _mm512_loadu_si512(chunk.as_ptr().cast()) };
        largest = _mm512_max_epu32(largest, _mm512_and_si512(bits, magnitude));
    }
    let mut largest = _mm512_reduce_max_epu32(largest);
    for value in rest {
        largest = largest.max(value.to_bits() & 0x7fff_ffff);
    }
    let Some(steps) = portable::Steps::of(f32::from_bits(largest)) else {
        words.fill(0);
        return portable::SPOILED;
    };
    let inverse = _mm512_set1_ps(steps.inverse);
    let mut sums = _mm512_setzero_si512();
    let (blocks, tail) = words.split_at_mut(chunks.len() * LANES / 4);
    for (chunk, words) in chunks.iter().zip(blocks.as_chunks_mut::<{ LANES / 4 }>().0) {
        // SAFETY: 16 numbers are read, 16 bytes are written.
        unsafe {
            let scaled = _mm512_mul_ps(_mm512_loadu_ps(chunk.as_ptr()), inverse);
            let integers = _mm512_cvtps_epi32(scaled);
            sums = _mm512_add_epi32(sums, integers);
            _mm_storeu_si128(words.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(integers));
        }
    }
    let sum = _mm512_reduce_add_epi32(sums) + steps.encode(rest, tail);
    Group {
        scale: steps.scale,
        sum,
    }
}

/// See [`Kernels::add`](crate::kernels::Kernels::add).
pub(super) fn add(sum: &mut [f32], delta: &[f32]) {
    #[target_feature(enable = "avx512f,avx512vl")]
    fn wide(sum: &mut [f32], delta: &[f32]) {
        for (sum, delta) in sum.iter_mut().zip(delta) {
            *sum += delta;
        }
    }
    // SAFETY: as in `encode`.
    unsafe { wide(sum, delta) }
}

/// See [`Kernels::rms_norm`](crate::kernels::Kernels::rms_norm).
pub(super) fn rms_norm(input: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    #[target_feature(enable = "avx512f,avx512vl")]
    fn wide(input: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        norm::rms_norm::<LANES>(input, weight, eps, out);
    }
    // SAFETY: as in `encode`.
    unsafe { wide(input, weight, eps, out) }
}

/// See [`Kernels::layer_norm`](crate::kernels::Kernels::layer_norm).
pub(super) fn layer_norm(input: &[f32], affine: Affine<'_>, eps: f32, out: &mut [f32]) {
    #[target_feature(enable = "avx512f,avx512vl")]
    fn wide(input: &[f32], affine: Affine<'_>, eps: f32, out: &mut [f32]) {
        norm::layer_norm::<LANES>(input, affine, eps, out);
    }
    // SAFETY: as in `encode`.
    unsafe { wide(input, affine, eps, out) }
}

/// See [`Kernels::activate`](crate::kernels::Kernels::activate).
pub(super) fn activate(activation: Activation, input: &[f32], out: &mut [f32]) {
    #[target_feature(enable = "avx512f,avx512vl")]
    fn wide(activation: Activation, input: &[f32], out: &mut [f32]) {
        crate::portable::activate(activation, input, out);
    }
    // SAFETY: as in `encode`.
    unsafe { wide(activation, input, out) }
}

/// See [`Kernels::peaks`](crate::kernels::Kernels::peaks).
pub(super) fn peaks(logits: &[f32], out: &mut [f32]) {
    #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw")]
    fn wide(logits: &[f32], out: &mut [f32]) {
        crate::portable::peaks(logits, out);
    }
    // SAFETY: as in `encode`.
    unsafe { wide(logits, out) }
}

/// See [`Kernels::quantize_int8`](crate::kernels::Kernels::quantize_int8).
pub(super) fn quantize_int8(values: &[f32], words: &mut [u32]) -> f32 {
    #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw")]
    fn wide(values: &[f32], words: &mut [u32]) -> f32 {
        weight::quantize_int8(values, words)
    }
    // SAFETY: as in `encode`.
    unsafe { wide(values, words) }
}

/// See [`Kernels::quantize_int4`](crate::kernels::Kernels::quantize_int4).
pub(super) fn quantize_int4(values: &[f32], words: &mut [u32]) -> Int4Row {
    #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw")]
    fn wide(values: &[f32], words: &mut [u32]) -> Int4Row {
        weight::quantize_int4(values, words)
    }
    // SAFETY: as in `encode`.
    unsafe { wide(values, words) }
}
