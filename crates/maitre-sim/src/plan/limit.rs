//! What bounds a box: what it runs out of as the load grows.

use std::fmt;

use serde::Serialize;

use super::Question;
use super::search::Capacity;

/// What is scarce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scarce {
    /// Reading the weights.
    WeightReads,
    /// Products with weights.
    Arithmetic,
    /// Reading keys and values.
    KvReads,
    /// The arithmetic of attention.
    Attention,
    /// What kernels hand to each other.
    Activations,
    /// The link between devices.
    Link,
    /// The steps of a draft model.
    Drafts,
    /// Launching kernels and the work of the host.
    Overheads,
    /// Blocks of the KV cache.
    KvCapacity,
    /// The bounded queue, which refuses requests.
    Queue,
    /// Places in a step: as many sequences run as may.
    Places,
    /// Nothing that was tried.
    Nothing,
}

/// What bounds a box, and how that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Limit {
    /// What is scarce.
    pub scarce: Scarce,
    /// The bound that a little more load misses most: `ttft`, `tpot` or `e2e`.
    pub missed: Option<&'static str>,
    /// The numbers that say so.
    pub because: String,
}

/// The share of the places in a step from which on they are what is scarce.
const PLACES_TAKEN: f64 = 0.8;

impl fmt::Display for Scarce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::WeightReads => "reading weights",
            Self::Arithmetic => "arithmetic of products",
            Self::KvReads => "reading keys and values",
            Self::Attention => "arithmetic of attention",
            Self::Activations => "activations",
            Self::Link => "the link between devices",
            Self::Drafts => "drafting",
            Self::Overheads => "kernels and host",
            Self::KvCapacity => "the KV cache",
            Self::Queue => "the queue",
            Self::Places => "places in a step",
            Self::Nothing => "nothing",
        })
    }
}

impl Question {
    /// What is scarce just above the load that a box serves.
    pub(super) fn limit(&self, capacity: &Capacity) -> Limit {
        let Some(fails) = &capacity.fails else {
            return Limit {
                scarce: Scarce::Nothing,
                missed: None,
                because: "no load that was tried misses the SLO".to_owned(),
            };
        };
        let most = fails.missed.iter().max().copied().unwrap_or(0);
        let names = ["ttft", "tpot", "e2e"].into_iter().zip(fails.missed);
        let missed = names
            .filter(|(_, count)| *count > 0 && *count == most)
            .map(|(name, _)| name)
            .next();
        let report = &fails.report;
        let limit = |scarce, because: String| Limit {
            scarce,
            missed,
            because,
        };
        let held = report.kv.max_used_share;
        // One more request would not fit: the scheduler keeps a block of each group in reserve for each that runs.
        let blocks = f64::from(report.kv.blocks);
        let (prompt, output) = self.traffic.mean_lengths();
        let of_one = self.model.kv_bytes_of(prompt + output)
            / (blocks * self.model.page_bytes(self.block_size));
        let groups = self.model.kv_groups().specs.len() as f64;
        let reserved = report.steps.mean_sequences * groups / blocks;
        if held + reserved + of_one >= 1.0 || report.preemptions.requests > 0 {
            return limit(
                Scarce::KvCapacity,
                format!(
                    "a little more load holds {:.1} % of its blocks and preempts {} requests",
                    held * 100.0,
                    report.preemptions.requests
                ),
            );
        }
        let refused: u64 = report.requests.refused.values().sum();
        if refused > 0 {
            return limit(
                Scarce::Queue,
                format!("a little more load has {refused} requests refused"),
            );
        }
        let sequences = report.steps.mean_sequences;
        if missed != Some("tpot") && sequences >= PLACES_TAKEN * self.max_seqs as f64 {
            return limit(
                Scarce::Places,
                format!(
                    "{sequences:.1} of at most {} sequences run on average, and the others wait",
                    self.max_seqs
                ),
            );
        }
        let (scarce, share) = largest(&capacity.keeps.report.steps.seconds);
        limit(
            scarce,
            format!("{:.1} % of the steps' time goes there", share * 100.0),
        )
    }
}

/// Where most of the time goes, and which share of it.
fn largest(seconds: &crate::StepSeconds) -> (Scarce, f64) {
    let host = seconds.step + seconds.sequences + seconds.chunks + seconds.kernels;
    let groups = [
        (Scarce::WeightReads, seconds.weight_reads),
        (Scarce::Arithmetic, seconds.weight_products),
        (Scarce::KvReads, seconds.kv),
        (Scarce::Attention, seconds.attention),
        (Scarce::Activations, seconds.activations),
        (Scarce::Link, seconds.link),
        (Scarce::Drafts, seconds.drafts),
        (Scarce::Overheads, host),
    ];
    let largest = groups
        .into_iter()
        .max_by(|one, other| one.1.total_cmp(&other.1));
    let (scarce, most) = largest.unwrap_or((Scarce::Nothing, 0.0));
    (scarce, most / seconds.total().max(f64::MIN_POSITIVE))
}
