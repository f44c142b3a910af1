//! From scores to weights: eight at a time, eight times per query and tile.
//!
//! About 250 instructions per query and tile, beside 2,048 multiply-adds in f32 at a head size of 128.

use std::arch::x86_64::*;

use super::attention::Work;
use super::cached::Cached;
use super::exp::exp;
use crate::attend::{States, TILE, TileBuffers};
use crate::cache::GROUP;
use crate::portable::query::Magnitude;

/// Lanes of a register.
const LANES: usize = 8;

/// Registers that hold a number for each position of a tile.
const REGISTERS: usize = TILE / LANES;

/// A number for each position of a tile.
pub(super) type Row = [__m256; REGISTERS];

/// Largest weight in fixed point: a positive 16-bit integer.
const LARGEST_WEIGHT: f32 = 32_767.0;

/// `limit * tanh(x / limit)`, as [the portable one](crate::portable::bound::bound) computes it.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn bound(x: __m256, limit: f32) -> __m256 {
    let limit = _mm256_set1_ps(limit);
    let sign = _mm256_and_ps(x, _mm256_set1_ps(-0.0));
    let share = _mm256_andnot_ps(_mm256_set1_ps(-0.0), _mm256_div_ps(x, limit));
    let shrunk = exp(_mm256_mul_ps(share, _mm256_set1_ps(-2.0)));
    let one = _mm256_set1_ps(1.0);
    let tanh = _mm256_div_ps(_mm256_sub_ps(one, shrunk), _mm256_add_ps(one, shrunk));
    _mm256_or_ps(_mm256_mul_ps(tanh, limit), sign)
}

/// The largest of eight numbers; NaN at most where one is NaN.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn largest(x: __m256) -> f32 {
    let four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
}

impl Work<'_> {
    /// Makes weights of a query's scores, and merges their maximum and sum into its state.
    ///
    /// # Safety
    ///
    /// The query exists.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn weights<F: Cached>(
        &self,
        query: usize,
        buffers: &mut TileBuffers<'_>,
        states: &mut States<'_>,
    ) {
        let masks = self.visible(query);
        let factor = _mm256_set1_ps(self.queries.factors[query]);
        let hidden = _mm256_set1_ps(f32::NEG_INFINITY);
        let mut scores = [hidden; REGISTERS];
        for (i, score) in scores.iter_mut().enumerate() {
            // SAFETY: [`TILE`] scores for each query.
            let product =
                unsafe { _mm256_loadu_ps(buffers.scores.as_ptr().add(query * TILE + i * LANES)) };
            let scaled = _mm256_mul_ps(product, factor);
            let bounded = match self.queries.score_bound {
                None => scaled,
                Some(limit) => bound(scaled, limit),
            };
            *score = _mm256_blendv_ps(hidden, bounded, masks[i]);
        }
        let mut most = scores[0];
        for score in &scores[1..] {
            most = _mm256_max_ps(most, *score);
        }
        let (most, before) = (largest(most), states.max[query]);
        let max = if most > before { most } else { before };
        let decay = if max == before {
            1.0
        } else {
            _mm256_cvtss_f32(exp(_mm256_set1_ps(before - max)))
        };
        states.max[query] = max;
        buffers.decays[query] = decay;
        let max = _mm256_set1_ps(max);
        let weights = scores.map(|score| exp(_mm256_sub_ps(score, max)));
        for half in 0..2 {
            let cell = |cell: usize| weights[cell * 2 + half];
            let low = _mm256_add_ps(cell(0), cell(1));
            let high = _mm256_add_ps(cell(2), cell(3));
            // SAFETY: [`GROUP`] sums for each query, two registers of them.
            unsafe {
                let sums = states.sums.as_mut_ptr().add(query * GROUP + half * LANES);
                let sum = _mm256_mul_ps(_mm256_loadu_ps(sums), _mm256_set1_ps(decay));
                _mm256_storeu_ps(sums, _mm256_add_ps(sum, _mm256_add_ps(low, high)));
            }
        }
        // SAFETY: the query's place in an array that has one for each query.
        unsafe {
            let words = buffers.weights.as_mut_ptr().add(query * F::WEIGHT_WORDS);
            buffers.units[query] = F::store_weights(self, weights, masks, words);
        }
    }

    /// For each position of the tile, whether a query sees it: all bits or none.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn visible(&self, query: usize) -> Row {
        let seen = self.seen.by(query);
        let start = _mm256_set1_epi32(seen.start as i32 - 1);
        let end = _mm256_set1_epi32(seen.end as i32);
        let mut position = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        let mut masks = [_mm256_setzero_ps(); REGISTERS];
        for mask in &mut masks {
            let behind = _mm256_cmpgt_epi32(position, start);
            let inside = _mm256_and_si256(behind, _mm256_cmpgt_epi32(end, position));
            *mask = _mm256_castsi256_ps(inside);
            position = _mm256_add_epi32(position, _mm256_set1_epi32(LANES as i32));
        }
        masks
    }

    /// Weights in f32.
    ///
    /// # Safety
    ///
    /// The processor has AVX2, and `words` has space for [`TILE`] of them.
    #[inline(always)]
    pub(super) unsafe fn store_floats(weights: Row, words: *mut u32) {
        for (i, weight) in weights.into_iter().enumerate() {
            // SAFETY: as the caller promises.
            unsafe { _mm256_storeu_ps(words.add(i * LANES).cast(), weight) };
        }
    }

    /// Weights times the scales of the values, as 16-bit integers; returns what the integer 1 is.
    ///
    /// # Safety
    ///
    /// `words` has space for half as many words as a tile has positions.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn store_integers(&self, weights: Row, masks: Row, words: *mut u32) -> f32 {
        let mut scaled = weights;
        let mut most = _mm256_setzero_si256();
        for (i, (scaled, mask)) in scaled.iter_mut().zip(masks).enumerate() {
            let (cell, half) = (self.cells[i / 2], i % 2 * LANES);
            // SAFETY: the scales of a cell.
            let scales =
                unsafe { _mm256_loadu_ps(cell.add(self.shape.scales()[1].start + half).cast()) };
            // The scale of a slot that is not seen may be NaN.
            *scaled = _mm256_and_ps(mask, _mm256_mul_ps(*scaled, scales));
            // As integers, magnitudes order like numbers, with NaN above infinity.
            let bits = _mm256_andnot_ps(_mm256_set1_ps(-0.0), *scaled);
            most = _mm256_max_epu32(most, _mm256_castps_si256(bits));
        }
        // SAFETY: both are eight integers.
        let most: [u32; LANES] = unsafe { std::mem::transmute(most) };
        let most = most.into_iter().fold(0, u32::max);
        let magnitude = Magnitude::of_largest(f32::from_bits(most), LARGEST_WEIGHT);
        let inverse = _mm256_set1_ps(magnitude.inverse);
        // Nothing times an infinity, which is NaN, is to be the integer zero.
        let known = _mm256_set1_epi32(-i32::from(magnitude.inverse != 0.0));
        for (i, scaled) in scaled.into_iter().enumerate() {
            let integers = _mm256_cvtps_epi32(_mm256_mul_ps(scaled, inverse));
            let integers = _mm256_and_si256(integers, known);
            // Of each four: the first and the third to one word, the others to the next.
            let later = _mm256_slli_epi32::<16>(_mm256_shuffle_epi32::<0b11_10_11_10>(integers));
            let pairs = _mm256_or_si256(integers, later);
            let pairs = _mm256_permute4x64_epi64::<0b11_01_10_00>(pairs);
            // SAFETY: as the caller promises.
            unsafe {
                let words = words.add(i * LANES / 2);
                _mm_storeu_si128(words.cast(), _mm256_castsi256_si128(pairs));
            }
        }
        magnitude.unit
    }
}
