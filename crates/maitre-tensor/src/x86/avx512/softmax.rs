//! From scores to weights: sixteen at a time, four times per query and tile.
//!
//! About 120 instructions per query and tile; they overlap with the dot instructions around them.
#![allow(unsafe_code)]

use std::arch::x86_64::*;
use std::mem::transmute;
use std::ops::Range;

use super::attention::{BF16, F32, INT8, Work, dot};
use super::exp::exp;
use crate::attend::{CELLS, States, TILE, TileBuffers};
use crate::cache::GROUP;
use crate::portable::query::{LARGEST_WEIGHT, Magnitude};

/// `limit * tanh(x / limit)`, as [the portable one](crate::portable::bound::bound) computes it.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn bound(x: __m512, limit: f32) -> __m512 {
    let limit = _mm512_set1_ps(limit);
    let share = _mm512_abs_ps(_mm512_div_ps(x, limit));
    let shrunk = exp(_mm512_mul_ps(share, _mm512_set1_ps(-2.0)));
    let one = _mm512_set1_ps(1.0);
    let tanh = _mm512_div_ps(_mm512_sub_ps(one, shrunk), _mm512_add_ps(one, shrunk));
    let sign = _mm512_and_ps(x, _mm512_set1_ps(-0.0));
    _mm512_or_ps(_mm512_mul_ps(tanh, limit), sign)
}

/// Queries whose maxima are merged at a time: one to a lane.
const QUERIES: usize = 16;

impl Work<'_> {
    /// Makes weights of the scores of all queries that see anything, and merges their maxima and sums into their states.
    ///
    /// # Safety
    ///
    /// The queries exist.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16")]
    pub(in crate::x86) unsafe fn weights<const FORMAT: u8>(
        &self,
        buffers: &mut TileBuffers<'_>,
        states: &mut States<'_>,
    ) {
        let seen = self.seen;
        for first in (seen.first..seen.end).step_by(QUERIES) {
            let queries = first..seen.end.min(first + QUERIES);
            // SAFETY: promised by the caller.
            unsafe {
                self.merge_maxima::<FORMAT>(queries.clone(), buffers, states);
                for query in queries {
                    self.weights_of::<FORMAT>(query, buffers, states);
                }
            }
        }
    }

    /// Merges the largest scores of up to [`QUERIES`] queries into their states, and leaves all scores in place of the products.
    /// What the earlier sums count from now on goes to the decays.
    ///
    /// # Safety
    ///
    /// The queries exist, and what is seen of them was not merged before.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16")]
    unsafe fn merge_maxima<const FORMAT: u8>(
        &self,
        queries: Range<usize>,
        buffers: &mut TileBuffers<'_>,
        states: &mut States<'_>,
    ) {
        let mut most = [f32::NEG_INFINITY; QUERIES];
        for (most, query) in most.iter_mut().zip(queries.clone()) {
            // SAFETY: promised by the caller; a query has space for more scores than these.
            let [a, b, c, d] = unsafe {
                let scores = self.scores_of::<FORMAT>(query, buffers);
                let place = self.score_place(query, buffers.scores.as_mut_ptr());
                for (cell, score) in scores.iter().enumerate() {
                    _mm512_storeu_ps(place.add(cell * GROUP), *score);
                }
                scores
            };
            let pairs = [_mm512_max_ps(a, b), _mm512_max_ps(c, d)];
            *most = _mm512_reduce_max_ps(_mm512_max_ps(pairs[0], pairs[1]));
        }
        let lanes = u16::MAX >> (QUERIES - queries.len());
        // SAFETY: the masks keep to the queries' places in arrays that have one for each query.
        unsafe {
            let place = states.max.as_mut_ptr().add(queries.start);
            let (most, before) = (
                _mm512_loadu_ps(most.as_ptr()),
                _mm512_maskz_loadu_ps(lanes, place),
            );
            let is_more = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(most, before);
            let max = _mm512_mask_mov_ps(before, is_more, most);
            let decay = exp(_mm512_sub_ps(before, max));
            // Infinity less itself would be NaN.
            let decay = _mm512_mask_mov_ps(_mm512_set1_ps(1.0), is_more, decay);
            _mm512_mask_storeu_ps(place, lanes, max);
            let place = buffers.decays.as_mut_ptr().add(queries.start);
            _mm512_mask_storeu_ps(place, lanes, decay);
        }
    }

    /// Where the scores of a query are: first its products of integers or numbers, then what [`Work::merge_maxima`] makes of
    /// them.
    fn score_place(&self, query: usize, scores: *mut f32) -> *mut f32 {
        scores.wrapping_add(query * self.shape.parts() * TILE)
    }

    /// Of each cell, the slots that a query sees.
    fn masks(&self, query: usize) -> [__mmask16; CELLS] {
        let visible = if self.full.contains(&query) {
            u64::MAX
        } else {
            let seen = self.seen.by(query);
            u64::MAX >> (TILE - seen.end) & u64::MAX << seen.start
        };
        std::array::from_fn(|cell| (visible >> (cell * GROUP)) as u16)
    }

    /// The scores of a query, of its products: negative infinity where nothing is seen.
    ///
    /// # Safety
    ///
    /// The query exists.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16")]
    unsafe fn scores_of<const FORMAT: u8>(
        &self,
        query: usize,
        buffers: &TileBuffers<'_>,
    ) -> [__m512; CELLS] {
        let masks = self.masks(query);
        let factor = _mm512_set1_ps(self.queries.factors[query]);
        let hidden = _mm512_set1_ps(f32::NEG_INFINITY);
        let mut scores = [hidden; CELLS];
        for (cell, score) in scores.iter_mut().enumerate() {
            // SAFETY: the query and the cell exist.
            let product = unsafe { self.product::<FORMAT>(query, cell, buffers) };
            *score = match self.queries.score_bound {
                None => _mm512_mask_mul_ps(hidden, masks[cell], product, factor),
                Some(limit) => {
                    let bounded = bound(_mm512_mul_ps(product, factor), limit);
                    _mm512_mask_mov_ps(hidden, masks[cell], bounded)
                }
            };
        }
        scores
    }

    /// Makes weights of a query's scores, and adds their sum to its state, both as [`Work::merge_maxima`] left them.
    ///
    /// # Safety
    ///
    /// The query exists.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16")]
    unsafe fn weights_of<const FORMAT: u8>(
        &self,
        query: usize,
        buffers: &mut TileBuffers<'_>,
        states: &mut States<'_>,
    ) {
        let (max, decay) = (_mm512_set1_ps(states.max[query]), buffers.decays[query]);
        let mut weights = [_mm512_setzero_ps(); CELLS];
        for (cell, weight) in weights.iter_mut().enumerate() {
            // SAFETY: promised by the caller.
            let score = unsafe {
                let place = self.score_place(query, buffers.scores.as_mut_ptr());
                _mm512_loadu_ps(place.add(cell * GROUP))
            };
            *weight = exp(_mm512_sub_ps(score, max));
        }
        // SAFETY: the query's places in arrays that have one for each query.
        unsafe {
            let lanes = states.sums.as_mut_ptr().add(query * GROUP);
            let words = buffers
                .weights
                .as_mut_ptr()
                .add(query * self.shape.weight_words());
            let sum = _mm512_mul_ps(_mm512_loadu_ps(lanes), _mm512_set1_ps(decay));
            let sum = if FORMAT == BF16 {
                let rounded = [
                    _mm512_cvtne2ps_pbh(weights[1], weights[0]),
                    _mm512_cvtne2ps_pbh(weights[3], weights[2]),
                ]
                .map(|pairs| transmute::<__m512bh, __m512i>(pairs));
                _mm512_storeu_si512(words.cast(), rounded[0]);
                _mm512_storeu_si512(words.add(GROUP).cast(), rounded[1]);
                // Two ones in bf16: the sum is that of the rounded weights.
                let ones = _mm512_set1_epi32(0x3f80_3f80);
                dot::<BF16>(dot::<BF16>(sum, rounded[0], ones), rounded[1], ones)
            } else {
                let low = _mm512_add_ps(weights[0], weights[1]);
                let high = _mm512_add_ps(weights[2], weights[3]);
                _mm512_add_ps(sum, _mm512_add_ps(low, high))
            };
            _mm512_storeu_ps(lanes, sum);
            match FORMAT {
                F32 => {
                    for (cell, weight) in weights.iter().enumerate() {
                        _mm512_storeu_ps(words.add(cell * GROUP).cast(), *weight);
                    }
                }
                INT8 => buffers.units[query] = self.fixed_point(weights, self.masks(query), words),
                _ => {}
            }
        }
    }

    /// Products of a query with sixteen keys.
    ///
    /// # Safety
    ///
    /// Query and cell exist.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16")]
    unsafe fn product<const FORMAT: u8>(
        &self,
        query: usize,
        cell: usize,
        buffers: &TileBuffers<'_>,
    ) -> __m512 {
        // SAFETY: `parts * TILE` scores per query, and the scales of a cell.
        unsafe {
            let scores = buffers
                .scores
                .as_ptr()
                .add(query * self.shape.parts() * TILE + cell * GROUP);
            if FORMAT != INT8 {
                return _mm512_loadu_ps(scores);
            }
            let part = |part: usize| {
                let sum = _mm512_loadu_si512(scores.add(part * TILE).cast());
                let excess = _mm512_set1_epi32(self.queries.sums[2 * query + part]);
                _mm512_cvtepi32_ps(_mm512_sub_epi32(sum, excess))
            };
            let product = _mm512_fmadd_ps(part(0), _mm512_set1_ps(128.0), part(1));
            let scales = self.cells[cell].add(self.shape.scales()[0].start);
            _mm512_mul_ps(product, _mm512_loadu_ps(scales.cast()))
        }
    }

    /// Weights times the scales of the values, in fixed point; returns what the integer 1 is.
    ///
    /// # Safety
    ///
    /// `words` has space for the weights of a query.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16")]
    unsafe fn fixed_point(
        &self,
        weights: [__m512; CELLS],
        masks: [__mmask16; CELLS],
        words: *mut u32,
    ) -> f32 {
        let mut scaled = weights;
        let mut most = _mm512_setzero_si512();
        for (cell, scaled) in scaled.iter_mut().enumerate() {
            // SAFETY: the scales of a cell.
            let scales = unsafe {
                _mm512_loadu_ps(self.cells[cell].add(self.shape.scales()[1].start).cast())
            };
            // The scale of a slot that is not seen may be NaN.
            *scaled = _mm512_maskz_mul_ps(masks[cell], *scaled, scales);
            // As integers, magnitudes order like numbers, with NaN above infinity.
            let bits = _mm512_castps_si512(_mm512_abs_ps(*scaled));
            most = _mm512_max_epu32(most, bits);
        }
        let most = f32::from_bits(_mm512_reduce_max_epu32(most));
        let magnitude = Magnitude::of_largest(most, LARGEST_WEIGHT);
        let inverse = _mm512_set1_ps(magnitude.inverse);
        // Nothing times an infinity, which is NaN, is to be the integer zero.
        let known = if magnitude.inverse == 0.0 {
            0
        } else {
            u16::MAX
        };
        for (cell, scaled) in scaled.into_iter().enumerate() {
            let integers = _mm512_maskz_cvtps_epi32(known, _mm512_mul_ps(scaled, inverse));
            let high = _mm512_cvtepi32_epi8(_mm512_srli_epi32::<8>(integers));
            let low = _mm512_cvtepi32_epi8(integers);
            // SAFETY: two parts of 64 bytes, a cell being sixteen of them.
            unsafe {
                let bytes = words.cast::<u8>().add(cell * GROUP);
                _mm_storeu_si128(bytes.cast(), high);
                _mm_storeu_si128(bytes.add(TILE).cast(), low);
            }
        }
        magnitude.unit
    }
}
