//! Speculation of a simulation: how many drafts, which of them are accepted, and what drafts them.

use std::path::Path;

use anyhow::{Context, Result};
use clap::Args;
use maitre::server::Startup;
use maitre_sim::{Acceptance, Drafter, Speculation};

use super::machine::model_of;

/// How several tokens of an answer come from one step.
#[derive(Debug, Args)]
pub(in crate::cli) struct SpeculationArgs {
    /// Verify at most so many drafted tokens of each sequence in a step, 1 to 64 [default: none].
    #[arg(long, value_name = "K", requires = "acceptance")]
    speculate: Option<usize>,
    /// The share of the drafts accepted at each position, of those whose predecessors were accepted, such as 0.8,0.7,0.6; or a file that
    /// was recorded: what /metrics of a server says that has speculated, or JSON with the lists drafted_at and accepted_at.
    #[arg(long, value_name = "LIST|FILE", requires = "speculate")]
    acceptance: Option<String>,
    /// The model that drafts, on the same hardware: named as --model is [default: drafts cost nothing].
    #[arg(long, value_name = "MODEL", requires = "speculate")]
    draft_model: Option<String>,
    /// Seconds that one more drafted token of all sequences of a step takes, in place of a draft model.
    #[arg(
        long,
        value_name = "S",
        requires = "speculate",
        conflicts_with = "draft_model"
    )]
    draft_seconds: Option<f64>,
}

impl SpeculationArgs {
    pub(in crate::cli) async fn read(&self, startup: &Startup) -> Result<Option<Speculation>> {
        let Some((drafts, acceptance)) = self.speculate.zip(self.acceptance.as_deref()) else {
            return Ok(None);
        };
        let drafter = match (&self.draft_model, self.draft_seconds) {
            (Some(name), _) => {
                Drafter::Model(Box::new(model_of("--draft-model", name, startup).await?))
            }
            (None, Some(seconds)) => Drafter::Seconds(seconds),
            (None, None) => Drafter::Lookup,
        };
        let speculation = Speculation {
            drafts,
            acceptance: read_acceptance(acceptance)?,
            drafter,
        };
        speculation.validate().context("--speculate")?;
        Ok(Some(speculation))
    }
}

fn read_acceptance(given: &str) -> Result<Acceptance> {
    let path = Path::new(given);
    if path.is_file() {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("--acceptance: {given} cannot be read"))?;
        let read = Acceptance::recorded(&text);
        return read.with_context(|| format!("--acceptance: {given} is of no use"));
    }
    given
        .parse()
        .with_context(|| format!("--acceptance: {given} is no file here and no list of shares"))
}
