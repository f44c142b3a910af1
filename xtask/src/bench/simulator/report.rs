//! What is told of a comparison, in Markdown: with its settings and with the bar, so that it can stand on a page as it is.

use super::Arguments;

/// The bar of Vidur (Agrawal et al. 2024): errors of its percentiles are under 9 %.
const P95: f64 = 0.09;
const MEDIAN: f64 = 0.05;

/// Spreads of the two measurements by which a number may be off, whatever it is.
const SPREADS: f64 = 2.0;

/// One number of a workload.
pub(super) struct Row {
    pub(super) workload: &'static str,
    pub(super) what: &'static str,
    pub(super) measured: [f64; 2],
    pub(super) foreseen: f64,
}

impl Row {
    fn mean(&self) -> f64 {
        f64::midpoint(self.measured[0], self.measured[1])
    }

    fn error(&self) -> f64 {
        self.foreseen / self.mean() - 1.0
    }

    fn spread(&self) -> f64 {
        (self.measured[0] - self.measured[1]).abs() / self.mean()
    }

    fn is_over(&self) -> bool {
        // Of 0 foreseen and measured there is no error, and of 0 measured alone none that is a number.
        let error = self.error().abs();
        error.is_nan() && self.foreseen != 0.0 || error > P95.max(SPREADS * self.spread())
    }

    pub(super) fn told(&self) -> String {
        format!(
            "| {} | {} | {:.2} | {:.2} | {:.2} | {:+.1} % | {:.1} % |",
            self.workload,
            self.what,
            self.measured[0],
            self.measured[1],
            self.foreseen,
            self.error() * 100.0,
            self.spread() * 100.0
        )
    }
}

/// The errors of all numbers.
pub(super) struct Summary<'a> {
    median: f64,
    p95: f64,
    count: usize,
    over: Vec<&'a Row>,
}

impl<'a> Summary<'a> {
    pub(super) fn of(rows: &'a [Row]) -> Self {
        let mut errors: Vec<f64> = rows.iter().map(|row| row.error().abs()).collect();
        errors.sort_by(f64::total_cmp);
        let last = errors.len().saturating_sub(1) as f64;
        let at = |share: f64| {
            let error = errors.get((last * share).round() as usize);
            error.copied().unwrap_or(f64::NAN)
        };
        Self {
            median: at(0.5),
            p95: at(0.95),
            count: errors.len(),
            over: rows.iter().filter(|row| row.is_over()).collect(),
        }
    }

    /// Whether the simulator is as near to the measurement as it should be.
    pub(super) fn is_met(&self) -> bool {
        (self.median <= MEDIAN && self.p95 <= P95) || self.over.is_empty()
    }

    /// The bar in words, and whether it is met.
    pub(super) fn bar(&self) -> String {
        let met = match self.is_met() {
            true => "it is met",
            false => "it is not met",
        };
        format!(
            "The bar is a median error of at most {:.0} % and a 95th percentile of at most {:.0} %, or else each number within {:.0} % or \
             twice the difference of the two measurements; {met}.",
            MEDIAN * 100.0,
            P95 * 100.0,
            P95 * 100.0
        )
    }

    fn told(&self) -> String {
        let mut told = format!(
            "Of these {} numbers the median error is {:.1} % and the 95th percentile {:.1} %; {} are within {:.0} % or twice the difference of \
             the two measurements. {}",
            self.count,
            self.median * 100.0,
            self.p95 * 100.0,
            self.count - self.over.len(),
            P95 * 100.0,
            self.bar()
        );
        if !self.over.is_empty() {
            let over = self.over.iter();
            let over: Vec<String> = over
                .map(|row| {
                    format!(
                        "{} {} ({:+.1} %)",
                        row.workload,
                        row.what,
                        row.error() * 100.0
                    )
                })
                .collect();
            told += &format!(" Further off: {}.", over.join("; "));
        }
        told
    }
}

/// The table of all numbers, between how they were measured and what they say.
pub(super) fn page(arguments: &Arguments, rows: &[Row], summary: &Summary<'_>) -> String {
    let rows: Vec<String> = rows.iter().map(Row::told).collect();
    format!(
        "{}\n\n\
         | requests | number | measured | again | foreseen | error | the two measurements differ by |\n\
         |---|---|---|---|---|---|---|\n\
         {}\n\n\
         {}",
        settings(arguments),
        rows.join("\n"),
        summary.told()
    )
}

/// What was measured, and how.
fn settings(arguments: &Arguments) -> String {
    let rounds = match arguments.rounds {
        1 => "One round".to_owned(),
        rounds => format!("Medians of {rounds} rounds"),
    };
    let range = |tokens: &[u32]| {
        let tokens: Vec<String> = tokens.iter().map(u32::to_string).collect();
        tokens.join(" to ")
    };
    format!(
        "{rounds} of a measurement, a calibration of {} s and a measurement of each kind of requests. Requests come for {} s, with prompts of {} \
         tokens and answers of {}, to `{}` with `{}`. Numbers are milliseconds but for those that name their unit.",
        arguments.calibrate_seconds,
        arguments.seconds,
        range(&arguments.prompt_tokens),
        range(&arguments.output_tokens),
        arguments.model,
        arguments.engine.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn row(what: &'static str, measured: [f64; 2], foreseen: f64) -> Row {
        Row {
            workload: "bursts",
            what,
            measured,
            foreseen,
        }
    }

    fn told(rows: &[Row]) -> String {
        let arguments = Arguments::parse_from(["bench simulator", "--rounds", "2"]);
        page(&arguments, rows, &Summary::of(rows))
    }

    #[test]
    fn a_report_names_its_settings_and_the_bar_that_it_meets() {
        let rows = [
            row("TTFT p50", [100.0, 100.0], 104.0),
            // Off by 20 %, and the two measurements differ by as much.
            row("TPOT p50", [90.0, 110.0], 120.0),
        ];
        let told = told(&rows);
        for expected in [
            "Medians of 2 rounds of a measurement, a calibration of 20 s and a measurement",
            "Requests come for 20 s, with prompts of 16 to 240 tokens and answers of 16 to 112, to `bundled` with `--threads 1 --speculate off`",
            "| bursts | TTFT p50 | 100.00 | 100.00 | 104.00 | +4.0 % | 0.0 % |\n| bursts | TPOT p50 |",
            "2 are within 9 % or twice the difference of the two measurements",
            "The bar is a median error of at most 5 % and a 95th percentile of at most 9 %, or else each number within 9 %",
            "; it is met.",
        ] {
            assert!(told.contains(expected), "{expected}: {told}");
        }
        assert!(!told.contains("Further off"), "{told}");
    }

    #[test]
    fn numbers_that_are_further_off_are_named() {
        let rows = [
            row("TTFT p50", [100.0, 100.0], 104.0),
            row("TTFT p90", [100.0, 100.0], 115.0),
            row("refused, %", [0.0, 0.0], 3.0),
        ];
        assert!(!Summary::of(&rows).is_met());
        let told = told(&rows);
        assert!(
            told.contains(
                "; it is not met. Further off: bursts TTFT p90 (+15.0 %); bursts refused, %"
            ),
            "{told}"
        );
        let near = [
            row("TTFT p50", [100.0, 100.0], 95.1),
            row("E2E p50", [1.0, 1.0], 1.08),
        ];
        assert!(Summary::of(&near).is_met());
    }
}
