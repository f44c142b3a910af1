//! The operators on single rows: normalisation, quantization, and bringing a row into the form that
//! the products read. They touch memory that is in the nearest caches; the arithmetic is what the
//! portable path does, eight numbers at a time.

use std::arch::x86_64::*;

use crate::Activation;
use crate::format::InputFormat;
use crate::input::{Group, InputShape};
use crate::kernels::Affine;
use crate::portable::encode as portable;
use crate::weight::{self, Int4Row};
use crate::x86::norm;

/// Lanes of a register.
const LANES: usize = 8;

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
#[target_feature(enable = "avx2")]
unsafe fn encode_bf16(values: &[f32], words: &mut [u32]) {
    let (chunks, rest) = values.as_chunks::<{ 2 * LANES }>();
    let (blocks, tail) = words.split_at_mut(chunks.len() * LANES);
    for (chunk, words) in chunks.iter().zip(blocks.as_chunks_mut::<LANES>().0) {
        // SAFETY: 16 numbers are read, 8 words are written.
        unsafe {
            let low = round_bf16(_mm256_loadu_ps(chunk.as_ptr()));
            let high = round_bf16(_mm256_loadu_ps(chunk[LANES..].as_ptr()));
            // Quarters 0 and 2 are the low numbers, 1 and 3 the high ones.
            let packed = _mm256_packus_epi32(low, high);
            let pairs = _mm256_permute4x64_epi64::<0b11_01_10_00>(packed);
            _mm256_storeu_si256(words.as_mut_ptr().cast(), pairs);
        }
    }
    let shape = InputShape::new(InputFormat::Bf16, rest.len());
    portable::encode(rest, &shape, tail, &mut []);
}

/// The bits of the nearest bf16 in the low half of each word, ties to even, as the portable path
/// rounds.
#[target_feature(enable = "avx2")]
fn round_bf16(values: __m256) -> __m256i {
    let bits = _mm256_castps_si256(values);
    let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
    let bias = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
    let nearest = _mm256_add_epi32(bits, bias);
    let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x0040_0000));
    let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(values, values));
    _mm256_srli_epi32::<16>(_mm256_blendv_epi8(nearest, quiet, nan))
}

/// As [`portable::encode_int8`], bit for bit.
///
/// # Safety
///
/// The processor has the instructions.
#[target_feature(enable = "avx2")]
unsafe fn encode_int8(values: &[f32], words: &mut [u32]) -> Group {
    let Some(steps) = portable::Steps::of(largest_magnitude(values)) else {
        words.fill(0);
        return portable::SPOILED;
    };
    let (chunks, rest) = values.as_chunks::<{ 4 * LANES }>();
    let (blocks, tail) = words.split_at_mut(chunks.len() * LANES);
    let inverse = _mm256_set1_ps(steps.inverse);
    let mut sums = _mm256_setzero_si256();
    for (chunk, words) in chunks.iter().zip(blocks.as_chunks_mut::<LANES>().0) {
        // SAFETY: 32 numbers are read, 32 bytes are written.
        unsafe {
            let mut integers = [_mm256_setzero_si256(); 4];
            for (integers, values) in integers.iter_mut().zip(chunk.as_chunks::<LANES>().0) {
                let scaled = _mm256_mul_ps(_mm256_loadu_ps(values.as_ptr()), inverse);
                *integers = _mm256_cvtps_epi32(scaled);
                sums = _mm256_add_epi32(sums, *integers);
            }
            let [a, b, c, d] = integers;
            // Each half of the register packs its own words: 0 2 4 6 and 1 3 5 7.
            let packed = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
            let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
            let quads = _mm256_permutevar8x32_epi32(packed, order);
            _mm256_storeu_si256(words.as_mut_ptr().cast(), quads);
        }
    }
    // SAFETY: both are eight integers.
    let sums: [i32; LANES] = unsafe { std::mem::transmute(sums) };
    Group {
        scale: steps.scale,
        sum: sums.iter().sum::<i32>() + steps.encode(rest, tail),
    }
}

/// The largest magnitude; NaN is larger than any number.
#[target_feature(enable = "avx2")]
fn largest_magnitude(values: &[f32]) -> f32 {
    let magnitude = |value: &f32| value.to_bits() & 0x7fff_ffff;
    let mut largest = [0_u32; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for (largest, value) in largest.iter_mut().zip(chunk) {
            *largest = magnitude(value).max(*largest);
        }
    }
    let bits = largest.into_iter().chain(rest.iter().map(magnitude)).max();
    f32::from_bits(bits.unwrap_or(0))
}

/// See [`Kernels::add`](crate::kernels::Kernels::add).
pub(super) fn add(sum: &mut [f32], delta: &[f32]) {
    #[target_feature(enable = "avx2")]
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
    #[target_feature(enable = "avx2,fma")]
    fn wide(input: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        norm::rms_norm::<LANES>(input, weight, eps, out);
    }
    // SAFETY: as in `encode`.
    unsafe { wide(input, weight, eps, out) }
}

/// See [`Kernels::layer_norm`](crate::kernels::Kernels::layer_norm).
pub(super) fn layer_norm(input: &[f32], affine: Affine<'_>, eps: f32, out: &mut [f32]) {
    #[target_feature(enable = "avx2,fma")]
    fn wide(input: &[f32], affine: Affine<'_>, eps: f32, out: &mut [f32]) {
        norm::layer_norm::<LANES>(input, affine, eps, out);
    }
    // SAFETY: as in `encode`.
    unsafe { wide(input, affine, eps, out) }
}

/// See [`Kernels::activate`](crate::kernels::Kernels::activate).
pub(super) fn activate(activation: Activation, input: &[f32], out: &mut [f32]) {
    #[target_feature(enable = "avx2,fma")]
    fn wide(activation: Activation, input: &[f32], out: &mut [f32]) {
        crate::portable::activate(activation, input, out);
    }
    // SAFETY: as in `encode`.
    unsafe { wide(activation, input, out) }
}

/// See [`Kernels::peaks`](crate::kernels::Kernels::peaks).
pub(super) fn peaks(logits: &[f32], out: &mut [f32]) {
    #[target_feature(enable = "avx2")]
    fn wide(logits: &[f32], out: &mut [f32]) {
        crate::portable::peaks(logits, out);
    }
    // SAFETY: as in `encode`.
    unsafe { wide(logits, out) }
}

/// See [`Kernels::quantize_int8`](crate::kernels::Kernels::quantize_int8).
pub(super) fn quantize_int8(values: &[f32], words: &mut [u32]) -> f32 {
    #[target_feature(enable = "avx2")]
    fn wide(values: &[f32], words: &mut [u32]) -> f32 {
        weight::quantize_int8(values, words)
    }
    // SAFETY: as in `encode`.
    unsafe { wide(values, words) }
}

/// See [`Kernels::quantize_int4`](crate::kernels::Kernels::quantize_int4).
pub(super) fn quantize_int4(values: &[f32], words: &mut [u32]) -> Int4Row {
    #[target_feature(enable = "avx2")]
    fn wide(values: &[f32], words: &mut [u32]) -> Int4Row {
        weight::quantize_int4(values, words)
    }
    // SAFETY: as in `encode`.
    unsafe { wide(values, words) }
}
