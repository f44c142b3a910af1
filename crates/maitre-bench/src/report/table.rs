//! The report as people read it: one line for each run, columns aligned, and below them what needs words.

use std::fmt;

use crate::{Percentiles, Report, Run};

/// A heading, and what stands under it for a run.
type Column = (&'static str, fn(&Run) -> String);

const COLUMNS: [Column; 15] = [
    ("load", load),
    ("done", |run| run.completed.to_string()),
    ("errors", |run| {
        run.errors.values().sum::<usize>().to_string()
    }),
    ("output tok/s", |run| {
        format!("{:.1}", run.output_tokens_per_second)
    }),
    ("total tok/s", |run| {
        format!("{:.1}", run.total_tokens_per_second)
    }),
    ("TTFT p50", |run| ms(run.ttft_ms, |it| it.p50)),
    ("p99", |run| ms(run.ttft_ms, |it| it.p99)),
    ("TPOT p50", |run| ms(run.tpot_ms, |it| it.p50)),
    ("p99", |run| ms(run.tpot_ms, |it| it.p99)),
    ("ITL p50", |run| ms(run.itl_ms, |it| it.p50)),
    ("p99", |run| ms(run.itl_ms, |it| it.p99)),
    ("max", |run| ms(run.itl_ms, |it| it.max)),
    ("E2E p50", |run| ms(run.e2e_ms, |it| it.p50)),
    ("p99", |run| ms(run.e2e_ms, |it| it.p99)),
    ("CPU", |run| {
        run.client_cpu_share
            .map_or_else(dash, |share| format!("{share:.2}"))
    }),
];

/// Where the loads do not wait for answers: how late the client was.
const LATE: Column = ("late p99", |run| ms(run.lateness_ms, |it| it.p99));

/// Where there are bounds.
const GOOD: Column = ("good", |run| {
    let share = run.goodput.as_ref().map(|it| it.share);
    share.map_or_else(dash, |share| format!("{:.1} %", share * 100.0))
});

const CACHED: Column = ("cached", |run| {
    let share = run
        .cached_tokens
        .map(|it| it as f64 / run.input_tokens.max(1) as f64);
    share.map_or_else(dash, |share| format!("{:.0} %", share * 100.0))
});

pub(crate) fn load(run: &Run) -> String {
    run.concurrency
        .map_or_else(|| run.load.clone(), |users| users.to_string())
}

fn dash() -> String {
    "-".to_owned()
}

fn ms(distribution: Option<Percentiles>, pick: fn(Percentiles) -> f64) -> String {
    distribution.map_or_else(dash, |found| format!("{:.2}", pick(found)))
}

impl Report {
    /// Headings and rows.
    pub(crate) fn cells(&self) -> (Vec<&'static str>, Vec<Vec<String>>) {
        let mut columns = COLUMNS.to_vec();
        let is_open = self.runs.iter().any(|run| run.concurrency.is_none());
        // Less than half a percent is nothing to see.
        let is_cached = |run: &Run| {
            run.cached_tokens
                .is_some_and(|it| it as usize * 200 > run.input_tokens)
        };
        let is_cached = self.runs.iter().any(is_cached);
        let optional = [
            (LATE, is_open),
            (CACHED, is_cached),
            (GOOD, self.slo.is_some()),
        ];
        columns.extend(
            optional
                .into_iter()
                .filter(|(_, is_there)| *is_there)
                .map(|it| it.0),
        );
        if !is_open && let Some(first) = columns.first_mut() {
            first.0 = "users";
        }
        let rows = self.runs.iter();
        let rows = rows.map(|run| columns.iter().map(|(_, cell)| cell(run)).collect());
        let rows = rows.collect();
        (columns.iter().map(|(heading, _)| *heading).collect(), rows)
    }

    /// What a table has no place for, a sentence a line.
    pub(crate) fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        for run in &self.runs {
            let name = match run.concurrency {
                Some(users) => format!("{users} users"),
                None => run.load.clone(),
            };
            for (code, count, said) in run.failures() {
                remarks.push(format!(
                    "{name}: {count} requests failed with {code}, the first: {said}"
                ));
            }
            for (reason, count) in &run.refusals {
                remarks.push(format!("{name}: {count} of them were refused: {reason}"));
            }
            if run.unfinished > 0 {
                let unfinished = run.unfinished;
                remarks.push(format!(
                    "{name}: {unfinished} requests were under way at the end"
                ));
            }
            if let Some(joules) = run.energy_joules.filter(|_| run.output_tokens > 0) {
                let each = joules / run.output_tokens as f64;
                remarks.push(format!(
                    "{name}: {joules:.0} J of the processors, {each:.3} J a token"
                ));
            }
            if let Some(goodput) = run.goodput.as_ref().filter(|it| it.good == 0) {
                remarks.push(format!("{name}: no request met the SLO {}", goodput.slo));
            }
        }
        let none_is_good = |run: &Run| run.goodput.as_ref().is_some_and(|it| it.good == 0);
        if !self.runs.is_empty() && self.runs.iter().all(none_is_good) {
            remarks
                .push("no request of any run met the SLO: loosen it, or ask for less".to_owned());
        }
        let warnings = self.warnings.iter();
        remarks.extend(warnings.map(|warning| format!("warning: {warning}")));
        if self.interrupted {
            remarks.push("interrupted: this is what there was until then".to_owned());
        }
        remarks
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} at {}: {}, latencies in ms",
            self.model, self.target, self.asked
        )?;
        let (headings, rows) = self.cells();
        let headings: Vec<String> = headings.into_iter().map(str::to_owned).collect();
        let lines = || std::iter::once(&headings).chain(&rows);
        let width = |column: usize| {
            let cells = lines().filter_map(|line| line.get(column));
            cells.map(String::len).max().unwrap_or_default()
        };
        for line in lines() {
            let cells = line.iter().enumerate();
            let aligned =
                cells.map(|(column, cell)| format!("{cell:>width$}", width = width(column)));
            writeln!(f, "{}", aligned.collect::<Vec<_>>().join("  "))?;
        }
        self.remarks()
            .iter()
            .try_for_each(|remark| writeln!(f, "{remark}"))
    }
}
