//! The report as people read it: one line for each concurrency, columns aligned.

use std::fmt;

use crate::{Percentiles, Report, Run};

const HEADINGS: [&str; 14] = [
    "users",
    "done",
    "errors",
    "output tok/s",
    "total tok/s",
    "TTFT p50",
    "p99",
    "TPOT p50",
    "p99",
    "ITL p50",
    "p99",
    "max",
    "E2E p50",
    "CPU",
];

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let workload = &self.workload;
        write!(f, "{} at {}: ", self.model, self.target)?;
        match self.prompts {
            None => write!(f, "{} input", workload.input_tokens)?,
            Some(prompts) => write!(f, "{prompts} prompts in turn")?,
        }
        let output = workload.output_tokens;
        writeln!(f, " and {output} output tokens a request, latencies in ms")?;
        let rows: Vec<[String; 14]> = self.runs.iter().map(cells).collect();
        let widths: [usize; 14] = std::array::from_fn(|column| {
            let cells = rows.iter().map(|row| row[column].len());
            cells
                .chain([HEADINGS[column].len()])
                .max()
                .unwrap_or_default()
        });
        line(f, &HEADINGS, &widths)?;
        for row in &rows {
            line(f, &row.each_ref().map(String::as_str), &widths)?;
        }
        for run in &self.runs {
            for (code, count) in &run.errors {
                writeln!(
                    f,
                    "{} users: {count} requests failed with {code}",
                    run.concurrency
                )?;
            }
        }
        Ok(())
    }
}

fn line(f: &mut fmt::Formatter<'_>, cells: &[&str; 14], widths: &[usize; 14]) -> fmt::Result {
    let aligned: Vec<String> = cells
        .iter()
        .zip(widths)
        .map(|(cell, &width)| format!("{cell:>width$}"))
        .collect();
    writeln!(f, "{}", aligned.join("  "))
}

fn cells(run: &Run) -> [String; 14] {
    let ms = |distribution: Option<Percentiles>, pick: fn(Percentiles) -> f64| {
        distribution.map_or_else(|| "-".to_string(), |found| format!("{:.2}", pick(found)))
    };
    [
        run.concurrency.to_string(),
        run.completed.to_string(),
        run.errors.values().sum::<usize>().to_string(),
        format!("{:.1}", run.output_tokens_per_second),
        format!("{:.1}", run.total_tokens_per_second),
        ms(run.ttft_ms, |found| found.p50),
        ms(run.ttft_ms, |found| found.p99),
        ms(run.tpot_ms, |found| found.p50),
        ms(run.tpot_ms, |found| found.p99),
        ms(run.itl_ms, |found| found.p50),
        ms(run.itl_ms, |found| found.p99),
        ms(run.itl_ms, |found| found.max),
        ms(run.e2e_ms, |found| found.p50),
        run.client_cpu_share
            .map_or_else(|| "-".to_string(), |share| format!("{share:.2}")),
    ]
}
