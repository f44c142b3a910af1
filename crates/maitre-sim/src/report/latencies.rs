//! Distributions of times in constant memory.

use hdrhistogram::Histogram;
use maitre_scheduler::Time;
use serde::Serialize;

/// The longest time that percentiles tell apart from longer ones: eleven days.
const LONGEST_NS: u64 = 1_000_000_000_000_000;

/// A distribution: a histogram of three significant digits, and beside it what can be had exactly.
#[derive(Debug)]
pub(crate) struct Latencies {
    /// In nanoseconds.
    histogram: Histogram<u64>,
    /// A time that was recorded last, and how often in a row: all sequences of a step often wait equally long.
    run: (u64, u64),
    sum_ns: u128,
    max_ns: u64,
}

impl Default for Latencies {
    #[allow(clippy::expect_used, reason = "constants that the constructor accepts")]
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST_NS, 3);
        Self {
            histogram: histogram.expect("1 < LONGEST_NS / 2 and 3 <= 5"),
            run: (0, 0),
            sum_ns: 0,
            max_ns: 0,
        }
    }
}

impl Latencies {
    pub(crate) fn record(&mut self, time: Time) {
        self.record_all(time, 1);
    }

    /// The same time, so often.
    pub(crate) fn record_all(&mut self, time: Time, times: u64) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        if ns == self.run.0 {
            self.run.1 += times;
        } else {
            self.flush();
            self.run = (ns, times);
        }
    }

    /// Those of another distribution too.
    pub(crate) fn add(&mut self, mut other: Self) {
        self.flush();
        other.flush();
        let added = self.histogram.add(&other.histogram);
        debug_assert!(added.is_ok(), "all have the same bounds");
        self.sum_ns += other.sum_ns;
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    fn flush(&mut self) {
        let (ns, times) = self.run;
        if times > 0 {
            self.histogram.saturating_record_n(ns, times);
            self.sum_ns += u128::from(ns) * u128::from(times);
            self.max_ns = self.max_ns.max(ns);
            self.run.1 = 0;
        }
    }

    /// All recorded times together.
    pub(crate) fn sum_seconds(&mut self) -> f64 {
        self.flush();
        self.sum_ns as f64 / 1e9
    }

    /// `None` when nothing was recorded.
    pub(crate) fn percentiles(&mut self) -> Option<Percentiles> {
        self.flush();
        let ms = |ns: f64| (ns / 100.0).round() / 1e4;
        // The histogram answers with the upper end of a bucket, which may lie beyond the maximum.
        let at = |quantile| ms(self.histogram.value_at_quantile(quantile).min(self.max_ns) as f64);
        (!self.histogram.is_empty()).then(|| Percentiles {
            mean: ms(self.sum_ns as f64 / self.histogram.len() as f64),
            p50: at(0.5),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            max: ms(self.max_ns as f64),
        })
    }
}

/// A distribution in milliseconds: mean and maximum exact, percentiles within 0.1 %.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
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
    fn percentiles_are_those_of_the_times() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.percentiles(), None);
        for ms in 1..=1000 {
            // Runs of the same time count as often as they came.
            (0..3).for_each(|_| latencies.record(Time::from_millis(ms)));
        }
        let found = latencies.percentiles().unwrap();
        for (value, expected) in [
            (found.mean, 500.5),
            (found.p50, 500.0),
            (found.p90, 900.0),
            (found.p95, 950.0),
            (found.p99, 990.0),
            (found.max, 1000.0),
        ] {
            assert!(
                (value - expected).abs() <= expected * 1e-3,
                "{value} for {expected}"
            );
        }
        assert!((latencies.sum_seconds() - 1501.5).abs() < 1e-6);
    }

    #[test]
    fn times_from_nothing_to_for_ever_are_recorded() {
        let mut latencies = Latencies::default();
        latencies.record(Time::ZERO);
        latencies.record(Time::MAX);
        let found = latencies.percentiles().unwrap();
        assert!(found.p50 < 0.001 && found.max > 1e12, "{found:?}");
    }
}
