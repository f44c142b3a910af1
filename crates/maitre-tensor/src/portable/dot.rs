//! The one reduction of this path: dot products with a fixed order of additions.
//!
//! ```text
//! element   0 1 2 3 4 5 6 7 | 8 9 ...        lane i sums the products of elements i, i+8, i+16, ...
//! lane      0 1 2 3 4 5 6 7 | 0 1 ...        result ((0+4)+(2+6)) + ((1+5)+(3+7))
//! ```
//!
//! The function is not inlined, and walks its inputs by iterators in step: in this form the
//! compiler keeps the lanes in vector registers. Inlined into a caller it finds other things to
//! vectorise, transposes the loop, and spends its time shuffling (measured: a quarter of the speed).

/// Partial sums per dot product: two SSE registers, one AVX register.
pub(super) const LANES: usize = 8;

/// The dot product of two rows of the same length.
#[inline(never)]
pub(super) fn dot(row: &[f32], weight: &[f32]) -> f32 {
    debug_assert_eq!(row.len(), weight.len());
    let mut lanes = [0.0; LANES];
    let (chunks, rest) = row.as_chunks();
    let (weight_chunks, weight_rest) = weight.as_chunks();
    for (x, w) in chunks.iter().zip(weight_chunks) {
        add_products(&mut lanes, x, w);
    }
    for ((lane, x), w) in lanes.iter_mut().zip(rest).zip(weight_rest) {
        *lane += x * w;
    }
    tree_sum(lanes)
}

#[inline(always)]
fn add_products(lanes: &mut [f32; LANES], x: &[f32; LANES], w: &[f32; LANES]) {
    for ((lane, x), w) in lanes.iter_mut().zip(x).zip(w) {
        *lane += x * w;
    }
}

/// The lanes' sum, in the order of a halving vector register.
#[inline(always)]
pub(super) fn tree_sum(lanes: [f32; LANES]) -> f32 {
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The specification, one addition at a time.
    fn naive(row: &[f32], weight: &[f32]) -> f32 {
        let mut lanes = [0.0; LANES];
        for (i, (x, w)) in row.iter().zip(weight).enumerate() {
            lanes[i % LANES] += x * w;
        }
        tree_sum(lanes)
    }

    #[test]
    fn the_bits_are_those_specified() {
        let numbers: Vec<f32> = (0..400).map(|i: i32| (i as f32 * 0.7).sin()).collect();
        for len in [0, 1, 7, 8, 9, 31, 64, 100] {
            let row = |i: usize| &numbers[i * 37..i * 37 + len];
            let expected = naive(row(0), row(1)).to_bits();
            assert_eq!(dot(row(0), row(1)).to_bits(), expected, "length {len}");
        }
    }
}
