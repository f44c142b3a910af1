//! Two reports side by side, with intervals of how much the second differs (a percentile bootstrap: Efron and Tibshirani
//! 1993, "An introduction to the bootstrap", chapter 13).
//!
//! Resampled are the requests of a run, and of throughput the pieces of its time. So the intervals hold what varies within
//! runs, and not what changes from one hour to the next: for that, compare reports of runs made in turn. Of few requests a high percentile
//! is hardly more than the largest of them, and resamples of a largest value say nothing of how it varies: it is shown and not judged.

use std::fmt;

use maitre_workload::Random;

use super::metric::{Change, METRICS, Metric, percentile};
use crate::Report;

/// How much the shares of answered requests may differ where anything is called better or worse.
const ANSWERED_ALIKE: f64 = 0.01;

/// Resamples.
const RESAMPLES: usize = 2000;

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
    /// What that means.
    pub change: Change,
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
        for (name, report, other) in [("first", first, second), ("second", second, first)] {
            warnings.extend(incomplete(name, report, other));
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
fn incomplete(name: &str, report: &Report, other: &Report) -> Vec<String> {
    let runs = report
        .runs
        .iter()
        .filter(|run| run.completed < run.requests);
    let mut found: Vec<String> = runs
        .map(|run| {
            let means = match answered_alike(report, other, &run.load) {
                true => "",
                false => ", so none is called better or worse",
            };
            format!(
                "the {name} report has {} of {} requests answered under {} ({}): figures are those of the answered ones{means}",
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

/// Whether about the same share of a load's requests was answered in both.
fn answered_alike(first: &Report, second: &Report, load: &str) -> bool {
    (answered(first, load) - answered(second, load)).abs() < ANSWERED_ALIKE
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
    let statistic = metric.statistic;
    let mut resample = |values: &[f64]| {
        let draw = |_| {
            values
                .get(random.below(values.len() as u64) as usize)
                .copied()
        };
        let mut drawn: Vec<f64> = (0..values.len()).filter_map(draw).collect();
        statistic.of(&mut drawn)
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
        statistic.of(&mut ours.clone()),
        statistic.of(&mut theirs.clone()),
    );
    let change = match () {
        () if !answered_alike(first_report, second_report, load) => Change::AnsweredUnlike,
        () if ours.len().min(theirs.len()) < statistic.fewest() => Change::TooFewRequests,
        () => statistic.change((low, high)),
    };
    Some(Difference {
        load: load.to_owned(),
        metric: metric.name,
        first,
        second,
        ratio: ratio(first, second),
        low,
        high,
        change,
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
            writeln!(
                f,
                "  {:<12}{:>10.2}  {:>10.2}  {:>6.3}  {:.3} to {:.3}  {}",
                it.metric, it.first, it.second, it.ratio, it.low, it.high, it.change
            )?;
        }
        for load in &self.unmatched {
            writeln!(f, "{load}: only one of the reports has it")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use maitre_workload::Slo;

    use super::*;
    use crate::driver::Driven;
    use crate::summary::Machine;
    use crate::{BenchRequest, Load, Record, RequestError, Run};

    const MS: Duration = Duration::from_millis(1);

    /// A report of so many requests, one a millisecond, with two tokens each, the first after `ttft`; of them so many failed, with ten
    /// tokens until then.
    fn report(requests: u32, failed: u32, ttft: Duration) -> Report {
        let question = BenchRequest {
            prompt: vec![1],
            output_tokens: 2,
        };
        let record = |index: u32| {
            let due = index * MS;
            let mut record = Record::new(due, due, &question);
            let is_bad = index < failed;
            let tokens = if is_bad { 9 } else { 1 };
            record.arrivals = vec![(due + ttft, 1), (due + ttft + 5 * MS, tokens)];
            record.ended = due + ttft + 5 * MS;
            record.failure = is_bad.then(|| RequestError::new("INTERNAL", "boom"));
            record
        };
        let driven = Driven {
            records: (0..requests).map(record).collect(),
            unfinished: 0,
            last_due: Some(requests * MS),
            duration: requests * MS + ttft + 5 * MS,
        };
        let load = Load::Users(1);
        Report {
            schema: "test".to_owned(),
            target: "test".to_owned(),
            model: "test".to_owned(),
            asked: "test".to_owned(),
            workload: serde_json::Value::Null,
            prompts: None,
            skipped_lines: 0,
            lines_out_of_order: 0,
            warmup_requests: 0,
            slo: None,
            timeout_s: 0.0,
            warnings: Vec::new(),
            interrupted: false,
            runs: vec![Run::new(
                &load,
                &driven,
                &Slo::default(),
                Machine::default(),
            )],
        }
    }

    /// What is said of these, in their order.
    fn changes(compared: &Comparison, metrics: &[&str]) -> Vec<Change> {
        let of = |name: &&str| {
            let found = compared.differences.iter().find(|it| it.metric == *name);
            found.unwrap().change
        };
        metrics.iter().map(of).collect()
    }

    #[test]
    fn of_few_requests_no_percentile_is_called_better_or_worse() {
        use Change::{Better, TooFewRequests};
        for (requests, expected) in [
            (9, [TooFewRequests; 2]),
            (10, [Better, TooFewRequests]),
            (499, [Better, TooFewRequests]),
            (500, [Better; 2]),
        ] {
            // The fewer of both count.
            let (slow, fast) = (report(requests, 0, 20 * MS), report(500, 0, 2 * MS));
            let compared = Comparison::of(&slow, &fast);
            for name in ["TTFT", "E2E"] {
                let (p50, p99) = (format!("{name} p50"), format!("{name} p99"));
                let found = changes(&compared, &[&p50, &p99]);
                assert_eq!(found, expected, "{requests}: {compared}");
            }
        }
        let few = report(9, 0, MS);
        let said = Comparison::of(&few, &few).to_string();
        assert!(said.contains("too few requests"), "{said}");
    }

    #[test]
    fn throughput_is_that_of_requests_that_were_answered() {
        let (all, most) = (report(300, 0, MS), report(300, 2, MS));
        let compared = Comparison::of(&all, &most);
        let found = &compared.differences[0];
        assert_eq!(found.metric, "output tok/s");
        for (found, report) in [(found.first, &all), (found.second, &most)] {
            let expected = report.runs[0].output_tokens_per_second;
            assert!((found / expected - 1.0).abs() < 1e-6, "{compared}");
        }
        // A server that fails half of the requests early has time for the others: that is no difference of speed.
        let half = Comparison::of(&all, &report(300, 150, MS));
        assert_eq!(
            changes(&half, &["output tok/s"]),
            [Change::AnsweredUnlike],
            "{half}"
        );
    }

    #[test]
    fn what_is_not_judged_is_said_and_nothing_else() {
        const CLAUSE: &str = "so none is called better or worse";
        let (slow, fast) = (report(300, 0, 20 * MS), report(300, 2, 2 * MS));
        let said = Comparison::of(&slow, &fast).to_string();
        assert!(said.contains("298 of 300 requests answered"), "{said}");
        assert!(
            !said.contains(CLAUSE) && said.contains("  better\n"),
            "{said}"
        );
        let said = Comparison::of(&slow, &report(300, 30, 2 * MS)).to_string();
        assert!(said.contains(CLAUSE), "{said}");
        assert!(
            !said.contains("  better\n") && !said.contains("  worse\n"),
            "{said}"
        );
        assert!(said.contains("other shares answered"), "{said}");
    }
}
