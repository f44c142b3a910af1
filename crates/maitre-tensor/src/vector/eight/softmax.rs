//! From scores to weights: eight at a time, eight times per query and tile.
//!
//! About 250 instructions per query and tile, beside 2,048 multiply-adds in f32 at a head size of 128.

use super::attention::Work;
use super::cached::Cached;
use super::exp::exp;
use super::isa::{F32x8, I32x8};
use crate::attend::{States, TILE, TileBuffers};
use crate::cache::GROUP;
use crate::portable::query::Magnitude;

/// Lanes of a register.
const LANES: usize = 8;

/// Registers that hold a number for each position of a tile.
const REGISTERS: usize = TILE / LANES;

/// A number for each position of a tile.
pub(super) type Row = [F32x8; REGISTERS];

/// Largest weight in fixed point: a positive 16-bit integer.
const LARGEST_WEIGHT: f32 = 32_767.0;

/// `limit * tanh(x / limit)`, as [the portable one](crate::portable::bound::bound) computes it.
///
/// # Safety
///
/// The processor has the instructions.
#[inline]
#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
unsafe fn bound(x: F32x8, limit: f32) -> F32x8 {
    // SAFETY: promised by the caller.
    unsafe {
        let (limit, sign) = (F32x8::splat(limit), F32x8::splat(-0.0));
        let share = sign.and_not(x.div(limit));
        let shrunk = exp(share.mul(F32x8::splat(-2.0)));
        let one = F32x8::splat(1.0);
        let tanh = one.sub(shrunk).div(one.add(shrunk));
        tanh.mul(limit).or(x.and(sign))
    }
}

impl Work<'_> {
    /// Makes weights of a query's scores, and merges their maximum and sum into its state.
    ///
    /// # Safety
    ///
    /// The query exists.
    #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
    pub(super) unsafe fn weights<F: Cached>(
        &self,
        query: usize,
        buffers: &mut TileBuffers<'_>,
        states: &mut States<'_>,
    ) {
        // SAFETY: the query has a place in each array.
        unsafe {
            let masks = self.visible(query);
            let scores = self.seen_scores(query, masks, buffers);
            let most = scores[1..]
                .iter()
                .fold(scores[0], |most, score| most.max(*score));
            let (most, before) = (most.greatest(), states.max[query]);
            let max = if most > before { most } else { before };
            let decay = if max == before {
                1.0
            } else {
                exp(F32x8::splat(before - max)).first()
            };
            states.max[query] = max;
            buffers.decays[query] = decay;
            let max = F32x8::splat(max);
            let mut weights = scores;
            for weight in &mut weights {
                *weight = exp(weight.sub(max));
            }
            for half in 0..2 {
                let cell = |cell: usize| weights[cell * 2 + half];
                let (low, high) = (cell(0).add(cell(1)), cell(2).add(cell(3)));
                let sums = states.sums.as_mut_ptr().add(query * GROUP + half * LANES);
                let sum = F32x8::load(sums).mul(F32x8::splat(decay));
                sum.add(low.add(high)).store(sums);
            }
            let words = buffers.weights.as_mut_ptr().add(query * F::WEIGHT_WORDS);
            buffers.units[query] = F::store_weights(self, weights, masks, words);
        }
    }

    /// The scores of the positions that a query sees, and negative infinity for the others.
    ///
    /// # Safety
    ///
    /// The query exists.
    #[inline(always)]
    unsafe fn seen_scores(&self, query: usize, masks: Row, buffers: &TileBuffers<'_>) -> Row {
        // SAFETY: [`TILE`] scores for each query.
        unsafe {
            let factor = F32x8::splat(self.queries.factors[query]);
            let hidden = F32x8::splat(f32::NEG_INFINITY);
            let mut scores = [hidden; REGISTERS];
            for (i, score) in scores.iter_mut().enumerate() {
                let products = buffers.scores.as_ptr().add(query * TILE + i * LANES);
                let scaled = F32x8::load(products).mul(factor);
                let bounded = match self.queries.score_bound {
                    None => scaled,
                    Some(limit) => bound(scaled, limit),
                };
                *score = bounded.where_or(masks[i], hidden);
            }
            scores
        }
    }

    /// For each position of the tile, whether a query sees it: all bits or none.
    ///
    /// # Safety
    ///
    /// The processor has the instructions.
    #[inline]
    #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
    unsafe fn visible(&self, query: usize) -> Row {
        let seen = self.seen.by(query);
        // SAFETY: promised by the caller.
        unsafe {
            let start = I32x8::splat(seen.start as i32 - 1);
            let end = I32x8::splat(seen.end as i32);
            let first: [i32; LANES] = [0, 1, 2, 3, 4, 5, 6, 7];
            let mut position = I32x8::load(first.as_ptr().cast());
            let mut masks = [F32x8::splat(0.0); REGISTERS];
            for mask in &mut masks {
                let inside = position.is_greater(start).and(end.is_greater(position));
                *mask = inside.as_floats();
                position = position.add(I32x8::splat(LANES as i32));
            }
            masks
        }
    }

    /// Weights in f32.
    ///
    /// # Safety
    ///
    /// `words` has space for [`TILE`] of them.
    #[inline(always)]
    pub(super) unsafe fn store_floats(weights: Row, words: *mut u32) {
        for (i, weight) in weights.into_iter().enumerate() {
            // SAFETY: as the caller promises.
            unsafe { weight.store(words.add(i * LANES).cast()) };
        }
    }

    /// Weights times the scales of the values, as 16-bit integers; returns what the integer 1 is.
    ///
    /// # Safety
    ///
    /// `words` has space for half as many words as a tile has positions.
    #[inline]
    #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
    pub(super) unsafe fn store_integers(&self, weights: Row, masks: Row, words: *mut u32) -> f32 {
        // SAFETY: the scales of a cell, and as the caller promises.
        unsafe {
            let (sign, mut most) = (F32x8::splat(-0.0), I32x8::splat(0));
            let mut scaled = weights;
            for (i, (scaled, mask)) in scaled.iter_mut().zip(masks).enumerate() {
                let (cell, half) = (self.cells[i / 2], i % 2 * LANES);
                let scales = F32x8::load(cell.add(self.shape.scales()[1].start + half).cast());
                // The scale of a slot that is not seen may be NaN.
                *scaled = mask.and(scaled.mul(scales));
                // As integers, magnitudes order like numbers, with NaN above infinity.
                most = most.max_unsigned(sign.and_not(*scaled).bits());
            }
            let most = most.to_array().map(i32::cast_unsigned);
            let most = most.into_iter().fold(0, u32::max);
            let magnitude = Magnitude::of_largest(f32::from_bits(most), LARGEST_WEIGHT);
            let inverse = F32x8::splat(magnitude.inverse);
            // Nothing times an infinity, which is NaN, is to be the integer zero.
            let known = I32x8::splat(-i32::from(magnitude.inverse != 0.0));
            for (i, scaled) in scaled.into_iter().enumerate() {
                let integers = scaled.mul(inverse).nearest().and(known);
                integers.store_pairs(words.add(i * LANES / 2));
            }
            magnitude.unit
        }
    }
}
