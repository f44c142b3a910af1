//! What was measured of each workload, pair by pair, and the table of it.

use anyhow::{Context, Result};

use super::bootstrap::{bounds, median};
use super::contestant::Contestant;
use super::peers::Workload;
use super::roofline::{Machine, Shape};

/// A workload and what was measured of it, pair by pair.
pub(super) struct Record {
    workload: Workload,
    pub(super) pairs: Vec<Pair>,
}

/// Seconds of both, measured one after the other.
pub(super) struct Pair {
    ours: f64,
    theirs: f64,
}

impl Record {
    fn column(&self, pick: fn(&Pair) -> f64) -> Vec<f64> {
        self.pairs.iter().map(pick).collect()
    }

    pub(super) fn new(workload: Workload) -> Self {
        Self {
            workload,
            pairs: Vec::new(),
        }
    }

    /// One measurement of each.
    pub(super) fn measure(
        &self,
        maitre: &mut Contestant,
        peer: &mut Contestant,
        ours_first: bool,
    ) -> Result<Pair> {
        let mut ours = || {
            let seconds = maitre.seconds(self.workload);
            seconds.with_context(|| format!("maitre at {}", self.workload.name()))
        };
        let mut theirs = || {
            let seconds = peer.seconds(self.workload);
            seconds.with_context(|| format!("the peer at {}", self.workload.name()))
        };
        let (ours, theirs) = if ours_first {
            (ours()?, theirs()?)
        } else {
            let theirs = theirs()?;
            (ours()?, theirs)
        };
        Ok(Pair { ours, theirs })
    }
}

/// The ratio of each workload in the pair that was measured last.
pub(super) fn last(records: &[Record]) -> String {
    let pairs = records.iter().filter_map(|record| record.pairs.last());
    pairs
        .map(|pair| format!(" {:.3}", pair.theirs / pair.ours))
        .collect()
}

/// A line for each workload; the shares of the limit are those of the medians.
pub(super) fn print_table(peer: &str, records: &[Record], shape: &Shape, machine: Machine) {
    println!("\nmaitre beside {peer}; {machine}");
    println!(
        "{:>15}  {:>12}  {:>8}  {:>12}  {:>8}  {:>6}  {:>10}  {:>10}",
        "workload",
        "maitre tok/s",
        "of limit",
        "peer tok/s",
        "of limit",
        "ratio",
        "95 % above",
        "95 % below"
    );
    let mut logarithms = 0.0;
    for record in records {
        let seconds = |pick: fn(&Pair) -> f64| median(&record.column(pick));
        let (ours, theirs) = (seconds(|pair| pair.ours), seconds(|pair| pair.theirs));
        let ratios = record.column(|pair| pair.theirs / pair.ours);
        let tokens = record.workload.tokens() as f64;
        let limit = 100.0 * shape.seconds(record.workload, machine);
        let bounds = bounds(&ratios);
        logarithms += median(&ratios).ln();
        println!(
            "{:>15}  {:>12.1}  {:>6.1} %  {:>12.1}  {:>6.1} %  {:>6.3}  {:>10.3}  {:>10.3}",
            record.workload.name(),
            tokens / ours,
            limit / ours,
            tokens / theirs,
            limit / theirs,
            median(&ratios),
            bounds.lower,
            bounds.upper
        );
    }
    let mean = (logarithms / records.len() as f64).exp();
    println!("{:>15}  geometric mean of the ratios {mean:.3}", "");
}
