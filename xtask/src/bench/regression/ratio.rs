//! A ratio of what a machine reaches to what it could, and when it is a smaller one than it was.

use serde_json::{Value, json};

use crate::bench::bootstrap::{bounds, median};

/// A ratio that is smaller by less than this is no regression, however sure it is.
const TOLERATED: f64 = 0.05;

/// How far bounds may be from their ratio, as a share of it: with wider ones hardly anything would be slower beyond chance.
pub(super) const WIDEST: f64 = 0.15;

/// A ratio, and what chance lets its median be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ratio {
    pub(super) median: f64,
    pub(super) lower: f64,
    pub(super) upper: f64,
}

impl Ratio {
    /// One whose bounds are as far from it on either side.
    #[cfg(test)]
    pub(super) fn around(median: f64, spread: f64) -> Self {
        Self {
            median,
            lower: median - spread,
            upper: median + spread,
        }
    }

    pub(super) fn of(ratios: &[f64]) -> Self {
        let bounds = bounds(ratios);
        Self {
            median: median(ratios),
            lower: bounds.lower,
            upper: bounds.upper,
        }
    }

    /// Whether the bounds are so narrow that it is worth comparing with.
    pub(super) fn is_sure(self) -> bool {
        self.lower >= (1.0 - WIDEST) * self.median && self.upper <= (1.0 + WIDEST) * self.median
    }

    pub(super) fn verdict(self, before: Self) -> &'static str {
        match () {
            () if self.upper < before.lower && self.median < (1.0 - TOLERATED) * before.median => {
                "SLOWER"
            }
            () if self.lower > before.upper => "faster",
            () => "as it was",
        }
    }

    pub(super) fn to_json(self) -> Value {
        let digits = |x: f64| (x * 1e4).round() / 1e4;
        json!([digits(self.median), digits(self.lower), digits(self.upper)])
    }

    pub(super) fn of_json(value: &Value) -> Option<Self> {
        Some(Self {
            median: value[0].as_f64()?,
            lower: value[1].as_f64()?,
            upper: value[2].as_f64()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slower_is_what_chance_does_not_explain() {
        let before = Ratio::around(0.60, 0.02);
        assert_eq!(Ratio::around(0.50, 0.02).verdict(before), "SLOWER");
        assert_eq!(
            Ratio::around(0.57, 0.02).verdict(before),
            "as it was",
            "bounds overlap"
        );
        assert_eq!(
            Ratio::around(0.577, 0.001).verdict(before),
            "as it was",
            "by less than 5 %"
        );
        assert_eq!(Ratio::around(0.70, 0.02).verdict(before), "faster");
    }

    #[test]
    fn bounds_that_let_anything_pass_are_too_wide() {
        assert!(Ratio::around(0.6, 0.08).is_sure());
        assert!(!Ratio::around(0.6, 0.1).is_sure());
        let one_sided = Ratio {
            median: 0.6001,
            lower: 0.2453,
            upper: 0.6682,
        };
        assert!(!one_sided.is_sure());
        assert!(!Ratio::of(&[]).is_sure(), "no number at all");
    }

    #[test]
    fn ratios_are_read_as_they_were_written() {
        let ratio = Ratio::of(&[0.5, 0.5, 0.5]);
        assert_eq!(Ratio::of_json(&ratio.to_json()), Some(ratio));
        assert_eq!(Ratio::of_json(&json!(["x"])), None);
    }
}
