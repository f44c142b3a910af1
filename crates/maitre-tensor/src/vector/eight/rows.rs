//! Rows of activations in the form that the products read. They are in the nearest caches; the arithmetic is what the
//! portable path does, eight numbers at a time.

use super::isa::{F32x8, I32x8};
use crate::format::InputFormat;
use crate::input::{Group, InputShape};
use crate::portable::encode as portable;

/// Lanes of a register.
const LANES: usize = 8;

/// See [`Kernels::encode`](crate::kernels::Kernels::encode).
pub(crate) fn encode(values: &[f32], shape: &InputShape, words: &mut [u32], groups: &mut [Group]) {
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
#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
unsafe fn encode_bf16(values: &[f32], words: &mut [u32]) {
    let (chunks, rest) = values.as_chunks::<{ 2 * LANES }>();
    let (blocks, tail) = words.split_at_mut(chunks.len() * LANES);
    for (chunk, words) in chunks.iter().zip(blocks.as_chunks_mut::<LANES>().0) {
        // SAFETY: 16 numbers are read, 8 words are written.
        unsafe {
            let low = round_bf16(F32x8::load(chunk.as_ptr()));
            let high = round_bf16(F32x8::load(chunk[LANES..].as_ptr()));
            I32x8::store_halves(low, high, words.as_mut_ptr());
        }
    }
    let shape = InputShape::new(InputFormat::Bf16, rest.len());
    portable::encode(rest, &shape, tail, &mut []);
}

/// The bits of the nearest bf16 in the low half of each word, ties to even, as the portable path
/// rounds.
///
/// # Safety
///
/// The processor has the instructions.
#[inline(always)]
unsafe fn round_bf16(values: F32x8) -> I32x8 {
    // SAFETY: promised by the caller.
    let [one, below_half, quiet] = unsafe {
        [
            I32x8::splat(1),
            I32x8::splat(0x7fff),
            I32x8::splat(0x0040_0000),
        ]
    };
    let bits = values.bits();
    let odd = bits.shift_right::<16>().and(one);
    let nearest = bits.add(odd.add(below_half)).as_floats();
    let quiet = bits.or(quiet).as_floats();
    let rounded = quiet.where_or(values.is_nan(), nearest);
    rounded.bits().shift_right::<16>()
}

/// As [`portable::encode_int8`], bit for bit.
///
/// # Safety
///
/// The processor has the instructions.
#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
unsafe fn encode_int8(values: &[f32], words: &mut [u32]) -> Group {
    // SAFETY: promised by the caller.
    let Some(steps) = portable::Steps::of(unsafe { largest_magnitude(values) }) else {
        words.fill(0);
        return portable::SPOILED;
    };
    let (chunks, rest) = values.as_chunks::<{ 4 * LANES }>();
    let (blocks, tail) = words.split_at_mut(chunks.len() * LANES);
    // SAFETY: promised by the caller.
    let (inverse, mut sums) = unsafe { (F32x8::splat(steps.inverse), I32x8::splat(0)) };
    for (chunk, words) in chunks.iter().zip(blocks.as_chunks_mut::<LANES>().0) {
        // SAFETY: 32 numbers are read, 32 bytes are written.
        unsafe {
            let mut integers = [I32x8::splat(0); 4];
            for (integers, values) in integers.iter_mut().zip(chunk.as_chunks::<LANES>().0) {
                *integers = F32x8::load(values.as_ptr()).mul(inverse).nearest();
                sums = sums.add(*integers);
            }
            I32x8::store_bytes(integers, words.as_mut_ptr());
        }
    }
    Group {
        scale: steps.scale,
        sum: sums.to_array().iter().sum::<i32>() + steps.encode(rest, tail),
    }
}

/// The largest magnitude; NaN is larger than any number.
///
/// # Safety
///
/// The processor has the instructions.
#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
unsafe fn largest_magnitude(values: &[f32]) -> f32 {
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
