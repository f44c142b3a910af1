//! Two reports side by side, with intervals of how much the second differs (a percentile bootstrap: Efron and Tibshirani
//! 1993, "An introduction to the bootstrap", chapter 13).
//!
//! Resampled are the requests of a run, and of throughput the pieces of its time. So the intervals hold what varies within
//! runs, and not what changes from one hour to the next: for that, compare reports of runs made in turn.

use std::fmt;

use maitre_workload::Random;

use crate::{Report, Run};

/// How much the shares of answered requests may differ where latencies are compared.
const ANSWERED_ALIKE: f64 = 0.01;

/// Resamples.
const RESAMPLES: usize = 2000;

/// What is compared of a run, and whether less is better.
struct Metric {
    name: &'static str,
    is_less_better: bool,
    values: fn(&Run) -> Vec<f64>,
    statistic: fn(&mut [f64]) -> f64,
}

const METRICS: [Metric; 7] = [
    Metric {
        name: "output tok/s",
        is_less_better: false,
        values: |run| {
            let piece_s = run.timeline.piece_s;
            let pieces = run.timeline.output_tokens.iter();
            pieces.map(|tokens| *tokens as f64 / piece_s).collect()
        },
        statistic: mean,
    },
    Metric {
        name: "TTFT p50",
        is_less_better: true,
        values: |run| run.samples.ttft_ms.clone(),
        statistic: |values| percentile(values, 0.5),
    },
    Metric {
        name: "TTFT p99",
        is_less_better: true,
        values: |run| run.samples.ttft_ms.clone(),
        statistic: |values| percentile(values, 0.99),
    },
    Metric {
        name: "TPOT p50",
        is_less_better: true,
        values: |run| run.samples.tpot_ms.iter().copied().flatten().collect(),
        statistic: |values| percentile(values, 0.5),
    },
    Metric {
        name: "TPOT p99",
        is_less_better: true,
        values: |run| run.samples.tpot_ms.iter().copied().flatten().collect(),
        statistic: |values| percentile(values, 0.99),
    },
    Metric {
        name: "E2E p50",
        is_less_better: true,
        values: |run| run.samples.e2e_ms.clone(),
        statistic: |values| percentile(values, 0.5),
    },
    Metric {
        name: "E2E p99",
        is_less_better: true,
        values: |run| run.samples.e2e_ms.clone(),
        statistic: |values| percentile(values, 0.99),
    },
];

fn mean(values: &mut [f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// By the nearest rank; 0 of nothing.
fn percentile(values: &mut [f64], share: f64) -> f64 {
    let Some(last) = values.len().checked_sub(1) else {
        return 0.0;
    };
    let rank = ((share * values.len() as f64).ceil() as usize)
        .saturating_sub(1)
        .min(last);
    *values.select_nth_unstable_by(rank, f64::total_cmp).1
}

/// How a number of the second report differs from that of the first.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The load that both were measured under.
    pub load: String,
    /// What is compared.
    pub metric: &'static str,
    /// The first report's.
    pub first: f64,
    /// The second report's.
    pub second: f64,
    /// The second divided by the first, and the 95 % interval of that.
    pub ratio: f64,
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// Whether the second is better; `None` where the interval holds 1.
    pub is_better: Option<bool>,
}

/// Two reports side by side. Displayed, it is a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// For each load that both have, what both measured.
    pub differences: Vec<Difference>,
    /// Loads that only one of them has.
    pub unmatched: Vec<String>,
    /// What else is not the same, so that the reports may not be comparable.
    pub warnings: Vec<String>,
}

impl Comparison {
    /// Compares what was measured under the same loads; several runs under one are taken together.
    #[must_use]
    pub fn of(first: &Report, second: &Report) -> Self {
        let loads = |report: &Report| {
            let mut loads: Vec<String> = Vec::new();
            for run in &report.runs {
                if !loads.contains(&run.load) {
                    loads.push(run.load.clone());
                }
            }
            loads
        };
        let (ours, theirs) = (loads(first), loads(second));
        let both: Vec<&String> = ours.iter().filter(|load| theirs.contains(load)).collect();
        let all = ours.iter().chain(&theirs);
        let unmatched = all.filter(|load| !both.contains(load)).cloned().collect();
        let mut random = Random::new(0, 0);
        let mut differences = Vec::new();
        for load in both {
            let metrics = METRICS.iter();
            differences
                .extend(metrics.filter_map(|it| difference(it, load, first, second, &mut random)));
        }
        let mut warnings = Vec::new();
        for (name, ours, theirs) in [
            ("models", &first.model, &second.model),
            ("requests", &first.asked, &second.asked),
        ] {
            if ours != theirs {
                warnings.push(format!("the {name} are not the same: {ours}; {theirs}"));
            }
        }
        for (name, report) in [("first", first), ("second", second)] {
            warnings.extend(incomplete(name, report));
        }
        if first.slo != second.slo {
            warnings.push("the SLOs are not the same".to_owned());
        }
        Self {
            differences,
            unmatched,
            warnings,
        }
    }
}

/// What makes a report less than it seems.
fn incomplete(name: &str, report: &Report) -> Vec<String> {
    let runs = report
        .runs
        .iter()
        .filter(|run| run.completed < run.requests);
    let mut found: Vec<String> = runs
        .map(|run| {
            format!(
                "the {name} report has {} of {} requests answered under {} ({}): latencies are those of the answered ones, so none is called better or worse",
                run.completed,
                run.requests,
                run.load,
                run.told_errors()
            )
        })
        .collect();
    let warnings = report.warnings.iter();
    found.extend(warnings.map(|warning| format!("of the {name} report: {warning}")));
    if report.interrupted {
        found.push(format!("the {name} report was interrupted"));
    }
    found
}

/// The share of a load's requests that were answered.
fn answered(report: &Report, load: &str) -> f64 {
    let runs = || report.runs.iter().filter(|run| run.load == load);
    let all: usize = runs().map(|run| run.requests).sum();
    runs().map(|run| run.completed).sum::<usize>() as f64 / all.max(1) as f64
}

fn difference(
    metric: &Metric,
    load: &str,
    first_report: &Report,
    second_report: &Report,
    random: &mut Random,
) -> Option<Difference> {
    let values = |report: &Report| -> Vec<f64> {
        let runs = report.runs.iter().filter(|run| run.load == load);
        runs.flat_map(metric.values).collect()
    };
    let (ours, theirs) = (values(first_report), values(second_report));
    if ours.is_empty() || theirs.is_empty() {
        return None;
    }
    let mut resample = |values: &[f64]| {
        let draw = |_| {
            values
                .get(random.below(values.len() as u64) as usize)
                .copied()
        };
        let mut drawn: Vec<f64> = (0..values.len()).filter_map(draw).collect();
        (metric.statistic)(&mut drawn)
    };
    let ratio = |first: f64, second: f64| second / first.max(f64::MIN_POSITIVE);
    let mut ratios: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let (first, second) = (resample(&ours), resample(&theirs));
            ratio(first, second)
        })
        .collect();
    let (low, high) = (
        percentile(&mut ratios, 0.025),
        percentile(&mut ratios, 0.975),
    );
    let (first, second) = (
        (metric.statistic)(&mut ours.clone()),
        (metric.statistic)(&mut theirs.clone()),
    );
    let answered_alike =
        (answered(first_report, load) - answered(second_report, load)).abs() < ANSWERED_ALIKE;
    Some(Difference {
        load: load.to_owned(),
        metric: metric.name,
        first,
        second,
        ratio: ratio(first, second),
        low,
        high,
        is_better: match () {
            // Who refuses most of the requests answers the others soon.
            () if metric.is_less_better && !answered_alike => None,
            () if high < 1.0 => Some(metric.is_less_better),
            () if low > 1.0 => Some(!metric.is_less_better),
            () => None,
        },
    })
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for warning in &self.warnings {
            writeln!(f, "{warning}")?;
        }
        let mut load = "";
        for it in &self.differences {
            if it.load != load {
                load = &it.load;
                let headings = ("first", "second", "ratio", "95 % interval");
                let (first, second, ratio, interval) = headings;
                writeln!(
                    f,
                    "{load:<14}{first:>10}  {second:>10}  {ratio:>6}  {interval}"
                )?;
            }
            let verdict = match it.is_better {
                Some(true) => "better",
                Some(false) => "worse",
                None => "no difference seen",
            };
            writeln!(
                f,
                "  {:<12}{:>10.2}  {:>10.2}  {:>6.3}  {:.3} to {:.3}  {verdict}",
                it.metric, it.first, it.second, it.ratio, it.low, it.high
            )?;
        }
        for load in &self.unmatched {
            writeln!(f, "{load}: only one of the reports has it")?;
        }
        Ok(())
    }
}
