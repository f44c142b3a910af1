//! Queries rounded to meet the keys: pairs of bf16, or two parts in fixed point.
#![allow(unsafe_code)]

use std::arch::x86_64::*;
use std::mem::transmute;

use crate::cache::{CellShape, GROUP, KvFormat};
use crate::portable::query::{LARGEST_QUERY, Magnitude};

/// See [`Kernels::load_query`](crate::kernels::Kernels::load_query).
pub(super) fn load_query(
    shape: CellShape,
    query: &[f32],
    words: &mut [u32],
    sums: &mut [i32],
) -> f32 {
    assert!(query.len() == shape.head_dim && words.len() == shape.query_words());
    // SAFETY: the table is chosen after the instructions were detected; lengths as asserted.
    unsafe {
        match shape.format {
            KvFormat::F32 => {
                for (word, number) in words.iter_mut().zip(query) {
                    *word = number.to_bits();
                }
                1.0
            }
            KvFormat::Bf16 => {
                load_bf16(query, words);
                1.0
            }
            KvFormat::Int8 => load_int8(query, words, sums),
        }
    }
}

/// Rounds a query to pairs.
///
/// # Safety
///
/// Two numbers, or the last one, per word.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
unsafe fn load_bf16(query: &[f32], words: &mut [u32]) {
    for (numbers, words) in query.chunks(2 * GROUP).zip(words.chunks_mut(GROUP)) {
        let present = u32::MAX >> (2 * GROUP - numbers.len());
        // SAFETY: the masks keep to the numbers and words of these chunks.
        unsafe {
            let low = _mm512_maskz_loadu_ps(present as u16, numbers.as_ptr());
            let high = numbers.as_ptr().wrapping_add(GROUP);
            let high = _mm512_maskz_loadu_ps((present >> GROUP) as u16, high);
            let pairs = transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
            let kept = u16::MAX >> (GROUP - words.len());
            _mm512_mask_storeu_epi32(words.as_mut_ptr().cast(), kept, pairs);
        }
    }
}

/// Rounds a query to two parts in fixed point.
///
/// # Safety
///
/// Twice as many words as it takes for the numbers as bytes, and two sums.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn load_int8(query: &[f32], words: &mut [u32], sums: &mut [i32]) -> f32 {
    let part = words.len() / 2 * size_of::<u32>();
    let magnitude = Magnitude::of(query, LARGEST_QUERY);
    let inverse = _mm512_set1_ps(magnitude.inverse);
    let known = if magnitude.inverse == 0.0 {
        0
    } else {
        u16::MAX
    };
    let bytes = words.as_mut_ptr().cast::<i8>();
    let mut totals = [_mm512_setzero_si512(); 2];
    for (i, numbers) in query.chunks(GROUP).enumerate() {
        // SAFETY: the masks keep to the numbers of the chunk and to the bytes of each part.
        unsafe {
            let present = u16::MAX >> (GROUP - numbers.len());
            let numbers = _mm512_maskz_loadu_ps(present, numbers.as_ptr());
            let integers = _mm512_maskz_cvtps_epi32(known, _mm512_mul_ps(numbers, inverse));
            let high = _mm512_srai_epi32::<7>(_mm512_add_epi32(integers, _mm512_set1_epi32(64)));
            let low = _mm512_sub_epi32(integers, _mm512_slli_epi32::<7>(high));
            totals[0] = _mm512_add_epi32(totals[0], high);
            totals[1] = _mm512_add_epi32(totals[1], low);
            let start = i * GROUP;
            let kept = u16::MAX >> (GROUP - GROUP.min(part - start));
            _mm_mask_storeu_epi8(bytes.add(start), kept, _mm512_cvtepi32_epi8(high));
            _mm_mask_storeu_epi8(bytes.add(part + start), kept, _mm512_cvtepi32_epi8(low));
        }
    }
    for (sum, total) in sums.iter_mut().zip(totals) {
        *sum = 128 * _mm512_reduce_add_epi32(total);
    }
    magnitude.unit
}
