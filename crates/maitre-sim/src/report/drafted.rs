//! What a report tells of speculation.

use std::fmt;

use serde::Serialize;

use super::table::{Share, row};
use super::{ReplicaTally, Report, ratio};
use crate::Speculation;

/// Drafts, and what came of them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SpeculationReport {
    /// Most drafts of a sequence in a step.
    pub drafts: usize,
    /// The share that is accepted at each position, of the drafts whose predecessors were.
    pub acceptance: Vec<f64>,
    /// What drafts, in words.
    pub drafter: String,
    /// Drafts that were verified.
    pub drafted: u64,
    /// Of them, those that were accepted.
    pub accepted: u64,
    /// Drafts that were verified, by their place.
    pub drafted_at: Vec<u64>,
    /// Of them, those that were accepted.
    pub accepted_at: Vec<u64>,
    /// How often a sequence had its next token or tokens in a step.
    pub decodes: u64,
    /// Tokens of a sequence in such a step.
    pub tokens_per_step: f64,
}

impl SpeculationReport {
    pub(super) fn new(speculation: &Speculation, all: &ReplicaTally) -> Self {
        let counts = &all.drafts;
        Self {
            drafts: speculation.drafts,
            acceptance: speculation.acceptance.conditional().to_vec(),
            drafter: speculation.drafter.told(),
            drafted: counts.drafted_at.iter().sum(),
            accepted: counts.accepted_at.iter().sum(),
            drafted_at: counts.drafted_at.clone(),
            accepted_at: counts.accepted_at.clone(),
            decodes: counts.decodes,
            tokens_per_step: ratio(counts.tokens as f64, counts.decodes as f64),
        }
    }
}

impl Report {
    pub(super) fn write_speculation(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(drafts) = &self.speculation else {
            return Ok(());
        };
        row(
            f,
            "speculation",
            format_args!(
                "{}, {} of {} accepted ({}), {:.2} tokens a step for each sequence",
                drafts.drafter,
                drafts.accepted,
                drafts.drafted,
                Share(ratio(drafts.accepted as f64, drafts.drafted as f64)),
                drafts.tokens_per_step
            ),
        )
    }
}
