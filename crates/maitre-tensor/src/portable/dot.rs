//! The one reduction of this path: dot products with a fixed order of additions.
//!
//! ```text
//! element   0 1 2 3 4 5 6 7 | 8 9 ...        lane i sums the products of elements i, i+8, i+16, ...
//! lane      0 1 2 3 4 5 6 7 | 0 1 ...        result ((0+4)+(2+6)) + ((1+5)+(3+7))
//! ```

use crate::element::Element;

/// Partial sums per dot product: two SSE registers, one AVX register.
pub(super) const LANES: usize = 8;

/// All dot products of `R` rows with `C` weight rows, all of the same length.
///
/// Computing several at once only saves loads and hides latency: each product's additions are in
/// the same order whatever `R` and `C` are. Eight lanes times `R * C = 4` fill half of the sixteen
/// vector registers of plain x86-64.
#[inline(always)]
pub(super) fn dots<W: Element, const R: usize, const C: usize>(
    rows: [&[f32]; R],
    weights: [&[W]; C],
) -> [[f32; C]; R] {
    let len = rows.first().map_or(0, |row| row.len());
    let chunks = len / LANES;
    let row_chunks = rows.map(|row| &row.as_chunks::<LANES>().0[..chunks]);
    let weight_chunks = weights.map(|weight| &weight.as_chunks::<LANES>().0[..chunks]);
    let mut lanes = [[[0.0_f32; LANES]; C]; R];
    for chunk in 0..chunks {
        for c in 0..C {
            let weight = weight_chunks[c][chunk].map(W::widen);
            for r in 0..R {
                let row = &row_chunks[r][chunk];
                for lane in 0..LANES {
                    lanes[r][c][lane] += row[lane] * weight[lane];
                }
            }
        }
    }
    for at in chunks * LANES..len {
        for c in 0..C {
            for r in 0..R {
                lanes[r][c][at % LANES] += rows[r][at] * weights[c][at].widen();
            }
        }
    }
    lanes.map(|row| row.map(tree_sum))
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
    fn blocking_changes_no_bit() {
        let numbers: Vec<f32> = (0..400).map(|i: i32| (i as f32 * 0.7).sin()).collect();
        for len in [0, 1, 7, 8, 9, 31, 64, 100] {
            let row = |i: usize| &numbers[i * 37..i * 37 + len];
            let block = dots::<f32, 2, 3>([row(0), row(1)], [row(2), row(3), row(4)]);
            for (r, sums) in block.iter().enumerate() {
                for (c, sum) in sums.iter().enumerate() {
                    assert_eq!(
                        sum.to_bits(),
                        naive(row(r), row(2 + c)).to_bits(),
                        "length {len}"
                    );
                    let [[alone]] = dots::<f32, 1, 1>([row(r)], [row(2 + c)]);
                    assert_eq!(sum.to_bits(), alone.to_bits(), "length {len}");
                }
            }
        }
    }
}
