//! Products with stored blocks, and rows of a table of them.
//!
//! Activations have one scale per unit of 32. The integers of a unit are summed exactly, times the groups' factors where
//! groups are halves of a unit; then they are scaled and added to f32 sums, unit after unit, each product and its addition
//! rounded once:
//!
//! ```text
//! 32 to a group    sum += steps * (scale * x.scale)              steps = sum of (code - zero) * x
//!                  sum -= minimum * (x.scale * x.sum)
//! 16 to a group    sum += (f0 steps0 + f1 steps1) * (scale * x.scale)
//!                  sum -= (m0 sum0 + m1 sum1) * (minimum * x.scale)
//! ```

use crate::blocks::BlockFormat;
use crate::input::{Group, InputRows};
use crate::weight::PackedView;
use crate::weight::blocks::{BlockLayout, Factors, QUADS, UNIT, factors, heads, quad};
use crate::weight::layout::LANES;

/// The products of one token row with the features of a panel.
pub(super) fn panel_sums(format: BlockFormat, panel: &[u8], x: InputRows<'_>) -> [f32; LANES] {
    let layout = BlockLayout::of(format);
    let mut sums = [0.0; LANES];
    let units = x.words.chunks_exact(QUADS).zip(x.groups);
    let mut units = units.map(|(words, group)| UnitOfRow::new(words, *group));
    for block in panel.chunks_exact(layout.block_bytes()) {
        for (unit, x) in units.by_ref().take(layout.units).enumerate() {
            let codes = &block[layout.codes_at(unit)..][..layout.unit_bytes];
            for (lane, sum) in sums.iter_mut().enumerate() {
                let (scale, minimum) = heads(format, block, lane);
                let factors = factors(layout, block, unit, lane);
                let steps = x.steps(format, codes, lane);
                *sum = match layout.factors {
                    Factors::HalfScales | Factors::HalfScalesAndMinimums => {
                        let minimum = format.has_minimum().then_some(minimum);
                        x.add_halves(*sum, steps, (scale, minimum), factors)
                    }
                    _ => {
                        let [(factor, factor_of_minimum), _] = factors;
                        let scale = scale * factor as f32;
                        let minimum = minimum * factor_of_minimum as f32;
                        x.add(*sum, steps, scale, format.has_minimum().then_some(minimum))
                    }
                };
            }
        }
    }
    sums
}

/// 32 activations of a row.
struct UnitOfRow<'a> {
    words: &'a [u32],
    group: Group,
    /// Sums of the two halves.
    sums: [i32; 2],
}

impl<'a> UnitOfRow<'a> {
    fn new(words: &'a [u32], group: Group) -> Self {
        let sum = |words: &[u32]| {
            let numbers = words.iter().flat_map(|word| word.to_le_bytes());
            numbers.map(|byte| i32::from(byte.cast_signed())).sum()
        };
        let (first, second) = words.split_at(QUADS / 2);
        let sums = [sum(first), sum(second)];
        Self { words, group, sums }
    }

    /// The products of the two halves with a lane's values.
    fn steps(&self, format: BlockFormat, codes: &[u8], lane: usize) -> [i32; 2] {
        let mut steps = [0; 2];
        for (index, word) in self.words.iter().enumerate() {
            let values = quad(format, codes, lane, index);
            for (value, x) in values.into_iter().zip(word.to_le_bytes()) {
                steps[index / (QUADS / 2)] += i32::from(value) * i32::from(x.cast_signed());
            }
        }
        let zero = format.zero();
        [
            steps[0] - zero * self.sums[0],
            steps[1] - zero * self.sums[1],
        ]
    }

    fn add(&self, sum: f32, steps: [i32; 2], scale: f32, minimum: Option<f32>) -> f32 {
        let sum = ((steps[0] + steps[1]) as f32).mul_add(scale * self.group.scale, sum);
        let of_minimum = -(self.group.scale * self.group.sum as f32);
        minimum.map_or(sum, |minimum| minimum.mul_add(of_minimum, sum))
    }

    fn add_halves(
        &self,
        sum: f32,
        steps: [i32; 2],
        (scale, minimum): (f32, Option<f32>),
        factors: [(i32, i32); 2],
    ) -> f32 {
        let [(scale_0, minimum_0), (scale_1, minimum_1)] = factors;
        let steps = scale_0 * steps[0] + scale_1 * steps[1];
        let minimums = minimum_0 * self.sums[0] + minimum_1 * self.sums[1];
        let sum = (steps as f32).mul_add(scale * self.group.scale, sum);
        minimum.map_or(sum, |minimum| {
            (minimums as f32).mul_add(-(minimum * self.group.scale), sum)
        })
    }
}

/// One row of a table.
pub(super) fn embed(format: BlockFormat, table: PackedView<'_>, row: usize, out: &mut [f32]) {
    let (panel, lane) = table.layout.place(row);
    let layout = BlockLayout::of(format);
    let blocks = table.panel(panel).chunks_exact(layout.block_bytes());
    for (block, out) in blocks.zip(out.chunks_mut(format.block_len())) {
        let (scale, minimum) = heads(format, block, lane);
        for (unit, out) in out.chunks_mut(UNIT).enumerate() {
            let factors = factors(layout, block, unit, lane);
            let codes = &block[layout.codes_at(unit)..][..layout.unit_bytes];
            for (index, out) in out.chunks_mut(4).enumerate() {
                let (factor, factor_of_minimum) = factors[index / (QUADS / 2)];
                let (scale, minimum) = (scale * factor as f32, minimum * factor_of_minimum as f32);
                let values = quad(format, codes, lane, index);
                for (out, value) in out.iter_mut().zip(values) {
                    *out = scale * (i32::from(value) - format.zero()) as f32 - minimum;
                }
            }
        }
    }
}
