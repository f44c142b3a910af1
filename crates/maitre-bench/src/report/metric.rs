//! What is compared of two reports, and what a difference means.

use std::fmt;

use crate::Run;

/// Requests beyond a percentile, at least, where it is called better or worse.
const BEYOND: f64 = 5.0;

/// What a difference means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The second report's number is better.
    Better,
    /// It is worse.
    Worse,
    /// The interval holds 1.
    NotSeen,
    /// In one of the reports too few requests stand behind a percentile.
    TooFewRequests,
    /// The share of requests that were answered is not the same in both: a server that refuses most of them answers the others soon.
    AnsweredUnlike,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::NotSeen => "no difference seen",
            Self::TooFewRequests => "too few requests",
            Self::AnsweredUnlike => "other shares answered",
        })
    }
}

/// What is compared of a run.
pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) values: fn(&Run) -> Vec<f64>,
    pub(super) statistic: Statistic,
}

/// What is made of the values.
#[derive(Debug, Clone, Copy)]
pub(super) enum Statistic {
    /// Of pieces of time: more is better.
    Mean,
    /// Of requests, at most this share of which have less: less is better.
    Percentile(f64),
}

pub(super) const METRICS: [Metric; 7] = [
    Metric {
        name: "output tok/s",
        values: throughput,
        statistic: Statistic::Mean,
    },
    Metric {
        name: "TTFT p50",
        values: ttft,
        statistic: Statistic::Percentile(0.5),
    },
    Metric {
        name: "TTFT p99",
        values: ttft,
        statistic: Statistic::Percentile(0.99),
    },
    Metric {
        name: "TPOT p50",
        values: tpot,
        statistic: Statistic::Percentile(0.5),
    },
    Metric {
        name: "TPOT p99",
        values: tpot,
        statistic: Statistic::Percentile(0.99),
    },
    Metric {
        name: "E2E p50",
        values: e2e,
        statistic: Statistic::Percentile(0.5),
    },
    Metric {
        name: "E2E p99",
        values: e2e,
        statistic: Statistic::Percentile(0.99),
    },
];

fn throughput(run: &Run) -> Vec<f64> {
    let piece_s = run.timeline.piece_s;
    let pieces = run.timeline.output_tokens.iter();
    pieces.map(|tokens| *tokens as f64 / piece_s).collect()
}

fn ttft(run: &Run) -> Vec<f64> {
    run.samples.ttft_ms.clone()
}

fn tpot(run: &Run) -> Vec<f64> {
    run.samples.tpot_ms.iter().copied().flatten().collect()
}

fn e2e(run: &Run) -> Vec<f64> {
    run.samples.e2e_ms.clone()
}

impl Statistic {
    pub(super) fn of(self, values: &mut [f64]) -> f64 {
        match self {
            Self::Mean => mean(values),
            Self::Percentile(share) => percentile(values, share),
        }
    }

    /// What an interval of ratios means.
    pub(super) fn change(self, (low, high): (f64, f64)) -> Change {
        let is_less_better = matches!(self, Self::Percentile(_));
        let (is_less, is_more) = (high < 1.0, low > 1.0);
        match () {
            () if (is_less && is_less_better) || (is_more && !is_less_better) => Change::Better,
            () if is_less || is_more => Change::Worse,
            () => Change::NotSeen,
        }
    }

    /// How many values it takes to judge it.
    pub(super) fn fewest(self) -> usize {
        match self {
            Self::Mean => 1,
            // Rounding must not make 501 of 500.
            Self::Percentile(share) => (BEYOND / (1.0 - share) - 1e-6).ceil() as usize,
        }
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// By the nearest rank; 0 of nothing.
pub(super) fn percentile(values: &mut [f64], share: f64) -> f64 {
    let Some(last) = values.len().checked_sub(1) else {
        return 0.0;
    };
    let rank = ((share * values.len() as f64).ceil() as usize)
        .saturating_sub(1)
        .min(last);
    *values.select_nth_unstable_by(rank, f64::total_cmp).1
}
