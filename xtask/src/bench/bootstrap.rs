//! What pairs of measurements allow to say: medians, and bounds of the ratio that chance alone
//! would rarely pass.
//!
//! The machine's speed wanders by tens of percent, so only measurements taken one after the other
//! are compared: each pair gives a ratio. How sure their median is, the pairs themselves tell
//! (Efron 1979, "Bootstrap methods: another look at the jackknife"): draw as many from them as there
//! are, with replacement, take the median, repeat. What 95 % of these medians exceed is the lower
//! bound, what 95 % of them stay below the upper one.

/// Repetitions: the 5 % quantile of 10,000 medians moves by well under the spread of the pairs.
const RESAMPLES: usize = 10_000;

/// The share of resampled medians below the lower bound, and of those above the upper one.
const BELOW: f64 = 0.05;

/// The middle of the numbers; of an even count, the mean of the two in the middle. NaN for none.
pub(super) fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// Between what the median of the ratios lies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bounds {
    /// What it exceeds with 95 % confidence.
    pub(super) lower: f64,
    /// What it stays below with 95 % confidence.
    pub(super) upper: f64,
}

/// Of these ratios; NaN for none.
pub(super) fn bounds(ratios: &[f64]) -> Bounds {
    if ratios.is_empty() {
        return Bounds {
            lower: f64::NAN,
            upper: f64::NAN,
        };
    }
    let mut random = Random(0);
    let mut medians: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let resample: Vec<f64> = ratios
                .iter()
                .map(|_| ratios[random.below(ratios.len())])
                .collect();
            median(&resample)
        })
        .collect();
    medians.sort_by(f64::total_cmp);
    let below = (RESAMPLES as f64 * BELOW) as usize;
    Bounds {
        lower: medians[below],
        upper: medians[RESAMPLES - 1 - below],
    }
}

/// SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators"): the
/// same pairs give the same bound.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let scaled = (u128::from(mixed ^ (mixed >> 31)) * bound as u128) >> 64;
        scaled as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert!(median(&[]).is_nan());
        assert_eq!(median(&[3.0]), 3.0);
        assert_eq!(median(&[9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 100.0]), 3.0);
    }

    #[test]
    fn equal_ratios_leave_no_doubt() {
        assert!(bounds(&[]).lower.is_nan());
        let certain = Bounds {
            lower: 1.25,
            upper: 1.25,
        };
        assert_eq!(bounds(&[1.25; 20]), certain);
    }

    /// For an odd number n of different ratios, the resampled median is at most the k-th smallest
    /// exactly when more than half of n draws are among the k smallest: a binomial probability.
    #[test]
    fn the_bounds_are_the_quantiles_that_the_binomial_distribution_gives() {
        let n = 21;
        let at_most = |k: i32| -> f64 {
            let p = f64::from(k) / f64::from(n);
            let mut weight = (1.0 - p).powi(n);
            let mut sum = 0.0;
            for successes in 0..=n {
                if successes > n / 2 {
                    sum += weight;
                }
                weight *= f64::from(n - successes) / f64::from(successes + 1) * p / (1.0 - p);
            }
            sum
        };
        let expected = (1..n).find(|&k| at_most(k) > BELOW).unwrap();
        // In no order, and unevenly far apart.
        let ratios: Vec<f64> = (0..n).map(|i| f64::from((i * 8 % n + 1).pow(2))).collect();
        let mirrored = n + 1 - expected;
        let bounds = bounds(&ratios);
        assert_eq!(bounds.lower, f64::from(expected.pow(2)));
        assert_eq!(bounds.upper, f64::from(mirrored.pow(2)));
        assert!(expected > 1 && expected < n / 2, "{expected}");
    }

    #[test]
    fn a_few_disturbed_pairs_do_not_move_the_bounds_far() {
        let mut ratios: Vec<f64> = (0..20).map(|i| 1.5 + 0.01 * f64::from(i % 5)).collect();
        let calm = bounds(&ratios);
        ratios[3] = 0.1;
        ratios[11] = 40.0;
        let disturbed = bounds(&ratios);
        assert!(
            calm.lower > 1.5
                && (calm.lower - disturbed.lower).abs() < 0.02
                && (calm.upper - disturbed.upper).abs() < 0.02,
            "{calm:?} {disturbed:?}"
        );
    }
}
