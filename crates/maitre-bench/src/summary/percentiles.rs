//! From moments of arrival to distributions.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::ms;

/// A distribution of durations in constant memory: an HdrHistogram of three significant digits, and
/// beside it what can be had exactly.
#[derive(Debug)]
pub(crate) struct Latencies {
    /// In nanoseconds.
    histogram: Histogram<u64>,
    sum: Duration,
    max: Duration,
}

/// The longest latency that percentiles tell apart from longer ones: one day.
const LONGEST_NS: u64 = 86_400_000_000_000;

impl Default for Latencies {
    #[allow(clippy::expect_used, reason = "constants that the constructor accepts")]
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST_NS, 3);
        let histogram = histogram.expect("1 < LONGEST_NS / 2 and 3 <= 5");
        Self {
            histogram,
            sum: Duration::ZERO,
            max: Duration::ZERO,
        }
    }
}

impl Latencies {
    pub(crate) fn record(&mut self, latency: Duration) {
        self.histogram
            .saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
        self.sum = self.sum.saturating_add(latency);
        self.max = self.max.max(latency);
    }

    /// `None` when nothing was recorded.
    pub(crate) fn percentiles(&self) -> Option<Percentiles> {
        (!self.histogram.is_empty()).then(|| Percentiles {
            mean: (self.sum.as_secs_f64() / self.histogram.len() as f64 * 1e7).round() / 1e4,
            p50: self.at(0.5),
            p90: self.at(0.9),
            p95: self.at(0.95),
            p99: self.at(0.99),
            max: ms(self.max),
        })
    }

    /// From the 0th to the 100th, in milliseconds; none when nothing was recorded.
    pub(crate) fn every_percentile(&self) -> Vec<f64> {
        if self.histogram.is_empty() {
            return Vec::new();
        }
        (0..=100)
            .map(|percent| self.at(f64::from(percent) / 100.0))
            .collect()
    }

    /// The histogram answers with the upper end of a bucket, which may lie beyond the maximum.
    fn at(&self, quantile: f64) -> f64 {
        let found = self.histogram.value_at_quantile(quantile);
        ms(Duration::from_nanos(found).min(self.max))
    }
}

/// A distribution in milliseconds: mean and maximum exact, percentiles within 0.1 %.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Arithmetic mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Largest.
    pub max: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_numbers() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.percentiles(), None);
        (1..=1000).for_each(|ms| latencies.record(Duration::from_millis(ms)));
        let found = latencies.percentiles().unwrap();
        let pairs = [
            (found.mean, 500.5),
            (found.p50, 500.0),
            (found.p90, 900.0),
            (found.p95, 950.0),
            (found.p99, 990.0),
            (found.max, 1000.0),
        ];
        for (value, expected) in pairs {
            assert!(
                (value - expected).abs() <= expected * 1e-3,
                "{value} for {expected}"
            );
        }
    }

    #[test]
    fn latencies_from_nothing_to_for_ever_are_recorded() {
        let mut latencies = Latencies::default();
        latencies.record(Duration::ZERO);
        latencies.record(Duration::MAX);
        let found = latencies.percentiles().unwrap();
        assert!(
            found.p50 < 0.001 && found.p99 > 8.6e7 && found.max > 1e20,
            "{found:?}"
        );
    }
}
