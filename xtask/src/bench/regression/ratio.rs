//! A ratio of what a machine reaches to what it could, and when it is a smaller one than it was.

use serde_json::{Value, json};

use crate::bench::bootstrap::{bounds, median};

/// A ratio that is smaller by less than this is no regression, however sure it is.
const TOLERATED: f64 = 0.05;

/// A ratio, and what chance lets its median be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ratio {
    pub(super) median: f64,
    pub(super) lower: f64,
    pub(super) upper: f64,
}

impl Ratio {
    pub(super) fn of(ratios: &[f64]) -> Self {
        let bounds = bounds(ratios);
        Self {
            median: median(ratios),
            lower: bounds.lower,
            upper: bounds.upper,
        }
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

    fn ratio(median: f64, spread: f64) -> Ratio {
        Ratio {
            median,
            lower: median - spread,
            upper: median + spread,
        }
    }

    #[test]
    fn slower_is_what_chance_does_not_explain() {
        let before = ratio(0.60, 0.02);
        assert_eq!(ratio(0.50, 0.02).verdict(before), "SLOWER");
        assert_eq!(
            ratio(0.57, 0.02).verdict(before),
            "as it was",
            "bounds overlap"
        );
        assert_eq!(
            ratio(0.577, 0.001).verdict(before),
            "as it was",
            "by less than 5 %"
        );
        assert_eq!(ratio(0.70, 0.02).verdict(before), "faster");
    }

    #[test]
    fn ratios_are_read_as_they_were_written() {
        let ratio = Ratio::of(&[0.5, 0.5, 0.5]);
        assert_eq!(Ratio::of_json(&ratio.to_json()), Some(ratio));
        assert_eq!(Ratio::of_json(&json!(["x"])), None);
    }
}
