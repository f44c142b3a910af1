//! The report as people read it.

use std::fmt;

use super::{Percentiles, Report};
use crate::workload::OutOfOrder;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.replicas == 1 { "" } else { "s" };
        writeln!(
            f,
            "{} on {}, {} replica{plural}, {}, seed {}",
            self.model, self.hardware, self.replicas, self.routing, self.seed
        )?;
        writeln!(f, "{}\n", self.workload)?;
        self.write_totals(f)?;
        self.write_latencies(f)?;
        self.write_load(f)?;
        self.write_steps(f)?;
        self.write_speculation(f)?;
        self.write_replicas(f)?;
        self.write_fleet(f)
    }
}

impl Report {
    fn write_totals(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let requests = &self.requests;
        row(
            f,
            "requests",
            format_args!(
                "{} arrived, {} completed",
                requests.arrived, requests.completed
            ),
        )?;
        for (reason, count) in &requests.refused {
            row(f, "refused", format_args!("{count} {reason}"))?;
        }
        if requests.skipped_lines > 0 {
            let order = OutOfOrder(requests.lines_out_of_order);
            row(
                f,
                "skipped lines",
                format_args!("{}{order}", requests.skipped_lines),
            )?;
        }
        row(f, "duration", format_args!("{:.3} s", self.duration_s))?;
        row(
            f,
            "throughput",
            format_args!(
                "{:.3} requests/s, {:.1} output tok/s, {:.1} total tok/s",
                self.requests_per_second,
                self.output_tokens_per_second,
                self.total_tokens_per_second
            ),
        )?;
        match &self.goodput {
            None => Ok(()),
            Some(good) if good.requests == 0 => row(
                f,
                "goodput",
                format_args!("no request kept to {}", good.slo),
            ),
            Some(good) => row(
                f,
                "goodput",
                format_args!(
                    "{:.3} requests/s, {} of all that arrived, kept to {}",
                    good.requests_per_second,
                    Share(good.share),
                    good.slo
                ),
            ),
        }
    }

    fn write_latencies(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:<16}{:>12}{:>12}{:>12}{:>12}{:>12}{:>12}",
            "ms", "mean", "p50", "p90", "p95", "p99", "max"
        )?;
        for (name, times) in [
            ("TTFT", self.ttft_ms),
            ("TPOT", self.tpot_ms),
            ("ITL", self.itl_ms),
            ("E2E", self.e2e_ms),
            ("queue wait", self.queue_wait_ms),
        ] {
            let Some(Percentiles {
                mean,
                p50,
                p90,
                p95,
                p99,
                max,
            }) = times
            else {
                writeln!(f, "{name:<16}{:>12}", "-")?;
                continue;
            };
            write!(f, "{name:<16}")?;
            for time in [mean, p50, p90, p95, p99, max] {
                write!(f, "{time:>12.2}")?;
            }
            writeln!(f)?;
        }
        writeln!(f)
    }

    fn write_load(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tokens = &self.tokens;
        row(
            f,
            "tokens",
            format_args!(
                "{} prompt, {} of them cached, {} output, {} computed",
                tokens.prompt, tokens.cached, tokens.output, tokens.computed
            ),
        )?;
        row(
            f,
            "queue",
            format_args!(
                "{:.2} waiting on average, {} at most",
                self.queue.mean_waiting, self.queue.max_waiting
            ),
        )?;
        row(
            f,
            "KV cache",
            format_args!(
                "{} blocks, {} used on average, {} at most",
                self.kv.blocks,
                Share(self.kv.mean_used_share),
                Share(self.kv.max_used_share)
            ),
        )?;
        let lost = &self.preemptions;
        row(
            f,
            "preemptions",
            format_args!("{}, {} computed tokens lost", lost.requests, lost.tokens),
        )
    }

    fn write_steps(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps = &self.steps;
        row(
            f,
            "steps",
            format_args!(
                "{} of {:.3} ms, with {:.1} sequences and {:.1} tokens; busy {}",
                steps.count,
                steps.mean_ms,
                steps.mean_sequences,
                steps.mean_tokens,
                Share(steps.busy_share)
            ),
        )?;
        let seconds = &steps.seconds;
        let total = seconds.total();
        let terms = seconds.terms();
        // What would be told as nothing is left out.
        let told = terms
            .iter()
            .filter(|(_, seconds)| *seconds >= 0.0005 * total);
        let told: Vec<String> = told
            .map(|(name, seconds)| format!("{name} {}", Share(seconds / total)))
            .collect();
        row(f, "their time", told.join(", "))
    }

    /// How evenly the replicas were used.
    fn write_replicas(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.per_replica.len() < 2 {
            return Ok(());
        }
        let shares = || self.per_replica.iter().map(|replica| replica.busy_share);
        let counts = || self.per_replica.iter().map(|replica| replica.completed);
        row(
            f,
            "replicas",
            format_args!(
                "{} to {} requests each, busy {} to {}",
                counts().min().unwrap_or(0),
                counts().max().unwrap_or(0),
                Share(shares().fold(f64::INFINITY, f64::min)),
                Share(shares().fold(0.0, f64::max))
            ),
        )
    }
}

pub(super) fn row(f: &mut fmt::Formatter<'_>, name: &str, value: impl fmt::Display) -> fmt::Result {
    writeln!(f, "{name:<16}{value}")
}

/// A part of a whole, in percent.
pub(super) struct Share(pub(super) f64);

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} %", self.0 * 100.0)
    }
}
