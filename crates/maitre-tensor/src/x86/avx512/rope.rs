//! Rotation of heads, and keys and values on their way into the cache: sixteen numbers at a time.
//!
//! A key's words lie 64 bytes apart, a cache line each: `head_dim / 2` lines are touched per key in
//! bf16, the same that attention reads for its whole group of slots.
#![allow(unsafe_code)]

use std::arch::x86_64::*;
use std::mem::transmute;

use crate::cache::{CellShape, GROUP, KvFormat};
use crate::kernels::RopeHead;
use crate::portable;
use crate::portable::query::Magnitude;
use crate::portable::store::LARGEST;

/// See [`Kernels::rope`](crate::kernels::Kernels::rope).
pub(super) fn rope(head: &RopeHead<'_>, out: &mut [f32]) {
    let (len, half) = (head.input.len(), head.cos.len());
    assert!(2 * half <= len && out.len() == len);
    assert!(head.sin.len() == half);
    assert!(head.norm.is_none_or(|norm| norm.len() == len));
    // SAFETY: the table is chosen after the instructions were detected; lengths as asserted.
    unsafe { rotate(head, out) }
}

/// # Safety
///
/// Lengths as asserted in [`rope`].
#[target_feature(enable = "avx512f")]
unsafe fn rotate(head: &RopeHead<'_>, out: &mut [f32]) {
    let half = head.cos.len();
    let inverse = _mm512_set1_ps(match head.norm {
        Some(_) => 1.0 / (square_sum(head.input) / head.input.len() as f32 + head.eps).sqrt(),
        None => 1.0,
    });
    for i in (0..half).step_by(GROUP) {
        let mask = u16::MAX >> (GROUP - GROUP.min(half - i));
        // SAFETY: the mask keeps to the half of what is rotated that starts at `start`.
        let load = |numbers: &[f32], start: usize| unsafe {
            _mm512_maskz_loadu_ps(mask, numbers.as_ptr().add(start))
        };
        let scaled = |start: usize| match head.norm {
            Some(norm) => {
                let number = _mm512_mul_ps(load(head.input, start), inverse);
                _mm512_mul_ps(number, load(norm, start))
            }
            None => load(head.input, start),
        };
        let (low, high) = (scaled(i), scaled(half + i));
        let (cos, sin) = (load(head.cos, i), load(head.sin, i));
        let new_low = _mm512_fmsub_ps(low, cos, _mm512_mul_ps(high, sin));
        let new_high = _mm512_fmadd_ps(high, cos, _mm512_mul_ps(low, sin));
        // SAFETY: as for the loads.
        unsafe {
            _mm512_mask_storeu_ps(out.as_mut_ptr().add(i), mask, new_low);
            _mm512_mask_storeu_ps(out.as_mut_ptr().add(half + i), mask, new_high);
        }
    }
    for i in (2 * half..head.input.len()).step_by(GROUP) {
        let mask = u16::MAX >> (GROUP - GROUP.min(head.input.len() - i));
        // SAFETY: the mask keeps to what is left of the head, the norm and the result, which are equally long.
        unsafe {
            let mut number = _mm512_maskz_loadu_ps(mask, head.input.as_ptr().add(i));
            if let Some(norm) = head.norm {
                let norm = _mm512_maskz_loadu_ps(mask, norm.as_ptr().add(i));
                number = _mm512_mul_ps(_mm512_mul_ps(number, inverse), norm);
            }
            _mm512_mask_storeu_ps(out.as_mut_ptr().add(i), mask, number);
        }
    }
}

/// The sum of squares: sixteen lanes, then a fixed tree.
#[target_feature(enable = "avx512f")]
fn square_sum(numbers: &[f32]) -> f32 {
    let mut sum = _mm512_setzero_ps();
    for chunk in numbers.chunks(GROUP) {
        let x = load(chunk);
        sum = _mm512_fmadd_ps(x, x, sum);
    }
    _mm512_reduce_add_ps(sum)
}

/// Up to sixteen numbers, then zeros.
#[inline]
#[target_feature(enable = "avx512f")]
fn load(chunk: &[f32]) -> __m512 {
    let mask = u16::MAX >> (GROUP - GROUP.min(chunk.len()));
    // SAFETY: the mask keeps to the chunk, which is not empty.
    unsafe { _mm512_maskz_loadu_ps(mask, chunk.as_ptr()) }
}

/// See [`Kernels::store_key`](crate::kernels::Kernels::store_key).
pub(super) fn store_key(shape: CellShape, cell: &mut [u32], slot: usize, key: &[f32]) {
    // SAFETY: the table is chosen after the instructions were detected.
    unsafe {
        match shape.format {
            KvFormat::F32 => (portable::KERNELS.store_key)(shape, cell, slot, key),
            KvFormat::Bf16 => {
                let rows = cell[..shape.values()].chunks_exact_mut(GROUP);
                for (row, word) in rows.zip(key.chunks(GROUP).flat_map(|chunk| pairs(chunk))) {
                    row[slot] = word;
                }
            }
            KvFormat::Int8 => {
                let magnitude = Magnitude::of(key, LARGEST);
                let rows = cell[..shape.values()].chunks_exact_mut(GROUP);
                let words = key.chunks(GROUP).flat_map(|chunk| quads(chunk, magnitude));
                for (row, word) in rows.zip(words) {
                    // Keys are stored with 128 added.
                    row[slot] = word ^ 0x8080_8080;
                }
                cell[shape.scales()[0].start + slot] = magnitude.unit.to_bits();
            }
        }
    }
}

/// Up to sixteen numbers as pairs of bf16.
#[target_feature(enable = "avx512f,avx512bf16")]
fn pairs(chunk: &[f32]) -> [u32; 8] {
    // SAFETY: sixteen numbers of two bytes are eight words, of which every bit pattern is valid.
    unsafe { transmute(_mm512_cvtneps_pbh(load(chunk))) }
}

/// Up to sixteen numbers as fours of signed bytes.
#[target_feature(enable = "avx512f")]
fn quads(chunk: &[f32], magnitude: Magnitude) -> [u32; 4] {
    // SAFETY: sixteen bytes are four words, of which every bit pattern is valid.
    unsafe { transmute(_mm512_cvtepi32_epi8(integers(chunk, magnitude))) }
}

/// Up to sixteen numbers in units, zero if there is no unit.
#[inline]
#[target_feature(enable = "avx512f")]
fn integers(chunk: &[f32], magnitude: Magnitude) -> __m512i {
    let known = if magnitude.inverse == 0.0 {
        0
    } else {
        u16::MAX
    };
    let units = _mm512_mul_ps(load(chunk), _mm512_set1_ps(magnitude.inverse));
    _mm512_maskz_cvtps_epi32(known, units)
}

/// See [`Kernels::store_value`](crate::kernels::Kernels::store_value).
pub(super) fn store_value(shape: CellShape, cell: &mut [u32], slot: usize, value: &[f32]) {
    let row = shape.values() + slot / shape.format.per_word() * shape.value_stride();
    // SAFETY: the table is chosen after the instructions were detected.
    unsafe {
        match shape.format {
            KvFormat::F32 => (portable::KERNELS.store_value)(shape, cell, slot, value),
            KvFormat::Bf16 => {
                let row = &mut cell[row..row + shape.head_dim];
                for (words, chunk) in row.chunks_mut(GROUP).zip(value.chunks(GROUP)) {
                    store_halves(words, chunk, slot % 2);
                }
            }
            KvFormat::Int8 => {
                let magnitude = Magnitude::of(value, LARGEST);
                let words = &mut cell[row..row + shape.head_dim];
                for (words, chunk) in words.chunks_mut(GROUP).zip(value.chunks(GROUP)) {
                    store_bytes(words, integers(chunk, magnitude), slot % 4);
                }
                cell[shape.scales()[1].start + slot] = magnitude.unit.to_bits();
            }
        }
    }
}

/// Rounds up to sixteen numbers into the lower (0) or upper (1) halves of words.
#[target_feature(enable = "avx512f,avx512bf16")]
fn store_halves(words: &mut [u32], chunk: &[f32], half: usize) {
    // SAFETY: registers of the same size, of which every bit pattern is valid.
    let numbers = unsafe { transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(load(chunk))) };
    blend(words, _mm512_cvtepu16_epi32(numbers), 0xffff, 16 * half);
}

/// Writes up to sixteen integers into a byte of words.
#[target_feature(enable = "avx512f")]
fn store_bytes(words: &mut [u32], integers: __m512i, byte: usize) {
    blend(words, integers, 0xff, 8 * byte);
}

/// Replaces the bits `field << shift` of up to sixteen words.
#[inline]
#[target_feature(enable = "avx512f")]
fn blend(words: &mut [u32], new: __m512i, field: i32, shift: usize) {
    let mask = u16::MAX >> (GROUP - words.len().min(GROUP));
    let shift = _mm512_set1_epi32(shift as i32);
    let field = _mm512_sllv_epi32(_mm512_set1_epi32(field), shift);
    // SAFETY: the mask keeps to the words.
    unsafe {
        let old = _mm512_maskz_loadu_epi32(mask, words.as_ptr().cast());
        let new = _mm512_and_si512(_mm512_sllv_epi32(new, shift), field);
        let kept = _mm512_andnot_si512(field, old);
        let words = words.as_mut_ptr().cast();
        _mm512_mask_storeu_epi32(words, mask, _mm512_or_si512(kept, new));
    }
}
