//! One row for each attack, and what makes it a failure.

use std::fmt::Write;
use std::time::Duration;

use super::process::Usage;
use super::samples::{Phase, Wait};
use super::tally::Gains;

/// What the neighbours and the operator are promised, whatever a client does.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// How many times its quiet value the neighbours' ITL p99 may be.
    pub itl_ratio: f64,
    /// The slowest answer to a health probe, on either listener.
    pub health: Duration,
    /// By when everything is free after an attack.
    pub free_within: Duration,
    /// Open files, and as many tasks, beside those before the attack: probes come and go.
    pub files: usize,
    /// Bytes by which memory at rest may grow from the middle round of an attack to the last.
    pub growth: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            itl_ratio: 2.0,
            health: Duration::from_millis(250),
            free_within: Duration::from_secs(15),
            files: 6,
            growth: 4 << 20,
        }
    }
}

/// What the server still holds when no request is under way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// Requests of neighbours that were not answered.
    pub neighbours: usize,
    /// Requests in flight, answers that wait, KV blocks in use; `None` if the server did not say.
    pub load: Option<(u32, u32, u32)>,
    /// Files and threads.
    pub usage: Usage,
}

impl Held {
    /// What is not as it was before, in words.
    #[must_use]
    pub fn beyond(&self, before: &Usage, bounds: &Bounds) -> Vec<String> {
        let mut found = Vec::new();
        let mut check = |count: usize, what: &str| {
            if count > 0 {
                found.push(format!("{count} {what}"));
            }
        };
        check(self.neighbours, "neighbours unanswered");
        if let Some((in_flight, waiting, blocks)) = self.load {
            check(in_flight as usize, "requests in flight");
            check(waiting as usize, "answers waiting");
            check(blocks as usize, "KV blocks in use");
        }
        let files = self.usage.open_files.saturating_sub(before.open_files);
        check(if files > bounds.files { files } else { 0 }, "files more");
        let threads = self.usage.threads.saturating_sub(before.threads);
        check(threads as usize, "threads more");
        let tasks = self.usage.tasks.saturating_sub(before.tasks) as usize;
        check(if tasks > bounds.files { tasks } else { 0 }, "tasks more");
        if self.load.is_none() {
            found.push("no answer to GetLoad".to_owned());
        }
        found
    }
}

/// One attack and what came of it.
#[derive(Debug, Clone, Default)]
pub struct Row {
    /// The attack's name.
    pub attack: &'static str,
    /// The neighbours just before.
    pub quiet: Phase,
    /// The neighbours meanwhile.
    pub attacked: Phase,
    /// The most resident memory of the server meanwhile, in bytes.
    pub peak_rss: u64,
    /// What its banner promised.
    pub budget: u64,
    /// What the attacker got.
    pub gains: Gains,
    /// How long it took until everything was free; `None` if the time ran out.
    pub free_after: Option<Duration>,
    /// What was held at the end of that time.
    pub still_held: Vec<String>,
    /// Memory that is no file's, in bytes, when nothing was under way any more.
    pub at_rest: u64,
    /// The same after the middle round of this attack; 0 up to then.
    pub settled_at_rest: u64,
    /// How the server ended, if it did.
    pub death: Option<String>,
}

impl Row {
    /// How many times its quiet value the neighbours' ITL p99 was.
    #[must_use]
    pub fn itl_ratio(&self) -> f64 {
        let p99 = |phase: &Phase| phase.quantile(Wait::Token, 0.99).as_secs_f64();
        p99(&self.attacked) / p99(&self.quiet).max(1e-6)
    }

    /// Every bound that was exceeded; empty if the server held.
    #[must_use]
    pub fn violations(&self, bounds: &Bounds) -> Vec<String> {
        let mut found = Vec::new();
        let mut check = |holds: bool, otherwise: String| {
            if !holds {
                found.push(otherwise);
            }
        };
        if let Some(death) = &self.death {
            check(false, format!("the server ended: {death}"));
        }
        let ratio = self.itl_ratio();
        let waits = self.attacked.count(Wait::Token);
        check(waits > 0, "no neighbour got a token".to_owned());
        check(
            ratio <= bounds.itl_ratio,
            format!("ITL p99 is {ratio:.1} times that without the attack"),
        );
        for (wait, door) in [(Wait::GrpcHealth, "gRPC"), (Wait::HttpHealth, "HTTP")] {
            let (slowest, asked) = (self.attacked.longest(wait), self.attacked.count(wait));
            check(asked > 0, format!("{door} health was never asked"));
            check(
                slowest <= bounds.health,
                format!("{door} health took {} ms", slowest.as_millis()),
            );
        }
        for (failure, count) in self.attacked.failures() {
            check(false, format!("{count} times {failure}"));
        }
        check(
            self.peak_rss <= self.budget,
            format!(
                "{} MiB beyond the budget",
                mib(self.peak_rss.saturating_sub(self.budget))
            ),
        );
        let grown = self.at_rest.saturating_sub(self.settled_at_rest);
        check(
            self.settled_at_rest == 0 || grown <= bounds.growth,
            format!(
                "{} KiB more at rest than after half of the rounds",
                grown >> 10
            ),
        );
        check(
            self.free_after.is_some(),
            format!("not free: {}", self.still_held.join(", ")),
        );
        found.extend(self.gains.faults.iter().cloned());
        found
    }
}

/// All rows of a run.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// In the order of the attacks.
    pub rows: Vec<Row>,
    /// The neighbours after the last attack, beside those before the first.
    pub recovery: Option<Row>,
    /// What the rows are judged by.
    pub bounds: Bounds,
}

impl Report {
    /// Attacks whose bounds were exceeded, each with the reasons.
    #[must_use]
    pub fn failures(&self) -> Vec<(&'static str, Vec<String>)> {
        let rows = self.rows.iter().chain(&self.recovery);
        rows.map(|row| (row.attack, row.violations(&self.bounds)))
            .filter(|(_, violations)| !violations.is_empty())
            .collect()
    }

    /// The table, in Markdown.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = format!(
            "| attack | ITL p99, ms | × quiet | longest gap, ms | TTFT p99, ms | tokens/s | health gRPC, ms | \
             health HTTP, ms | peak memory / budget, MiB | memory at rest, MiB | free after, s | attacker's CPU, % | what it got | holds |\n{}|\n",
            "|---".repeat(14)
        );
        for row in self.rows.iter().chain(&self.recovery) {
            let holds = match row.violations(&self.bounds).len() {
                0 => "yes".to_owned(),
                count => format!("**no** ({count})"),
            };
            // Writing to a string can't fail.
            let _ = writeln!(text, "{} {holds} |", cells(row));
        }
        for (attack, reasons) in self.failures() {
            let _ = write!(text, "\n- `{attack}`: {}", reasons.join("; "));
        }
        text
    }
}

fn cells(row: &Row) -> String {
    let ms = |wait, share| row.attacked.quantile(wait, share).as_secs_f64() * 1e3;
    let free = match row.free_after {
        Some(after) => format!("{:.1}", after.as_secs_f64()),
        None => "never".to_owned(),
    };
    let length = row.attacked.length.as_secs_f64().max(1e-9);
    format!(
        "| {} | {:.1} | {:.2} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {} / {} | {:.1} | {free} | {:.0} | {} |",
        row.attack,
        ms(Wait::Token, 0.99),
        row.itl_ratio(),
        ms(Wait::Token, 1.0),
        ms(Wait::FirstToken, 0.99),
        row.attacked.tokens_per_second(),
        ms(Wait::GrpcHealth, 1.0),
        ms(Wait::HttpHealth, 1.0),
        mib(row.peak_rss),
        mib(row.budget),
        row.at_rest as f64 / f64::from(1 << 20),
        100.0 * row.gains.cpu_s / length,
        got(&row.gains),
    )
}

fn got(gains: &Gains) -> String {
    let counts = gains.counts.iter();
    let counts = counts.map(|(what, count)| format!("{count} {what}"));
    let all: Vec<String> = counts.chain(gains.notes.iter().cloned()).collect();
    all.join(", ")
}

fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn phase(itl_ms: u32, health_ms: u32) -> Phase {
        let mut phase = Phase::default();
        for wait in [Wait::GrpcHealth, Wait::HttpHealth] {
            phase.record(wait, MS * health_ms);
        }
        phase.record(Wait::Token, MS * itl_ms);
        phase
    }

    /// A row whose every bound is just met.
    fn held() -> Row {
        Row {
            attack: "attack",
            quiet: phase(10, 1),
            attacked: phase(20, 250),
            peak_rss: 100 << 20,
            budget: 100 << 20,
            free_after: Some(Duration::from_secs(15)),
            ..Row::default()
        }
    }

    #[track_caller]
    fn fails_for(change: impl FnOnce(&mut Row), reason: &str) {
        let mut row = held();
        change(&mut row);
        let found = row.violations(&Bounds::default());
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains(reason), "{found:?}");
        let report = Report {
            rows: vec![held(), row],
            ..Report::default()
        };
        assert_eq!(report.failures(), [("attack", found)]);
        assert!(report.table().contains("| **no** (1) |"));
        assert!(report.table().contains("| yes |"));
    }

    #[test]
    fn bounds_that_are_just_met_hold() {
        assert_eq!(held().violations(&Bounds::default()), [""; 0]);
    }

    #[test]
    fn every_bound_that_is_exceeded_is_a_failure() {
        fails_for(|row| row.attacked = phase(21, 250), "2.1 times");
        fails_for(
            |row| row.attacked.record(Wait::GrpcHealth, MS * 251),
            "gRPC health took 251 ms",
        );
        fails_for(
            |row| row.attacked.record(Wait::HttpHealth, MS * 251),
            "HTTP health took 251 ms",
        );
        fails_for(
            |row| row.attacked.fail("CANCELLED".into()),
            "1 times CANCELLED",
        );
        fails_for(|row| row.peak_rss += 1, "beyond the budget");
        fails_for(
            |row| row.gains.faults.push("an answer was aborted".into()),
            "aborted",
        );
        fails_for(|row| row.death = Some("signal 9".into()), "signal 9");
        fails_for(
            |row| {
                row.free_after = None;
                row.still_held = vec!["3 KV blocks in use".into()];
            },
            "not free: 3 KV blocks in use",
        );
    }

    /// An attack that silences all neighbours leaves no gap to measure.
    #[test]
    fn nothing_measured_is_a_failure() {
        let mut row = held();
        row.attacked = Phase::default();
        let found = row.violations(&Bounds::default());
        assert_eq!(
            found,
            [
                "no neighbour got a token",
                "gRPC health was never asked",
                "HTTP health was never asked"
            ]
        );
    }

    #[test]
    fn what_was_not_there_before_is_held() {
        let before = Usage {
            open_files: 20,
            threads: 5,
            ..Usage::default()
        };
        let bounds = Bounds::default();
        let mut held = Held {
            load: Some((0, 0, 0)),
            usage: Usage {
                open_files: 26,
                ..before
            },
            neighbours: 0,
        };
        assert_eq!(held.beyond(&before, &bounds), [""; 0]);
        held.usage.open_files = 27;
        held.usage.threads = 6;
        held.neighbours = 1;
        held.load = Some((2, 0, 9));
        assert_eq!(
            held.beyond(&before, &bounds),
            [
                "1 neighbours unanswered",
                "2 requests in flight",
                "9 KV blocks in use",
                "7 files more",
                "1 threads more"
            ]
        );
        held.load = None;
        assert!(
            held.beyond(&before, &bounds)
                .contains(&"no answer to GetLoad".to_owned())
        );
    }
}
