//! How likely a drafted token is accepted, by its place in the draft.

use std::str::FromStr;

use super::recorded;
use crate::SimError;

/// What is expected of a list.
const LIST: &str = "shares from 0 to 1 such as 0.8,0.7,0.6: what is accepted at the first position, at the second one of the \
                    drafts that were accepted at the first, and so on";

/// The share of the drafted tokens that is accepted at each position of a draft, of those whose predecessors were all accepted.
///
/// Engines export other shares: those of all drafts that are accepted at a position. [`Acceptance::recorded`] converts them.
#[derive(Debug, Clone, PartialEq)]
pub struct Acceptance {
    conditional: Vec<f64>,
}

impl Acceptance {
    /// By the conditional share of each position.
    ///
    /// # Errors
    ///
    /// [`SimError::Setting`] without any, or for one that is no share.
    pub fn of_shares(conditional: Vec<f64>) -> Result<Self, SimError> {
        if conditional.is_empty() {
            return Err(SimError::setting("the acceptance", "empty", LIST));
        }
        for share in &conditional {
            if !(0.0..=1.0).contains(share) {
                return Err(SimError::setting("a share of the acceptance", share, LIST));
            }
        }
        Ok(Self { conditional })
    }

    /// By how many tokens were drafted at each position of the drafts, and how many of these were accepted. The conditional share
    /// of a position is `(accepted / drafted)` of it, divided by the same of the position before.
    ///
    /// That takes for granted that whether a draft reaches a position does not depend on whether the one before is accepted: true where
    /// drafts are as long as they may be. The positions end at the first one at which nothing was drafted.
    ///
    /// # Errors
    ///
    /// [`SimError::Setting`] if more was accepted than drafted, or a larger share of a position than of the one before it.
    pub fn of_counts(drafted: &[f64], accepted: &[f64]) -> Result<Self, SimError> {
        if drafted.len() != accepted.len() {
            return Err(SimError::setting(
                "the number of positions with accepted tokens",
                accepted.len(),
                format!("{}, as many as have drafted ones", drafted.len()),
            ));
        }
        let mut conditional = Vec::new();
        let mut before = 1.0;
        let there = drafted.iter().zip(accepted);
        let there = there.take_while(|(drafted, _)| **drafted != 0.0);
        for (position, (&drafted, &accepted)) in there.enumerate() {
            let share = accepted / drafted;
            if !(drafted > 0.0 && (0.0..=1.0).contains(&share)) {
                return Err(SimError::setting(
                    "the acceptance",
                    format!("{accepted} of {drafted} at position {position}"),
                    "0 to all of the drafted tokens",
                ));
            }
            if share > before {
                return Err(rising(position, share, before));
            }
            // What is never reached is never accepted.
            conditional.push(if before > 0.0 { share / before } else { 0.0 });
            before = share;
        }
        Self::of_shares(conditional)
    }

    /// By what an engine recorded: a JSON object with the lists `drafted_at` and `accepted_at`, or the text of `/metrics` of this
    /// project's server or of vLLM's.
    ///
    /// # Errors
    ///
    /// [`SimError::Setting`] if there is nothing of that in it, and as [`Acceptance::of_counts`].
    pub fn recorded(text: &str) -> Result<Self, SimError> {
        let (drafted, accepted) = recorded::counts(text)?;
        Self::of_counts(&drafted, &accepted)
    }

    /// The conditional share of each position.
    #[must_use]
    pub fn conditional(&self) -> &[f64] {
        &self.conditional
    }

    /// How many positions have a share.
    #[must_use]
    pub fn positions(&self) -> usize {
        self.conditional.len()
    }
}

impl FromStr for Acceptance {
    type Err = SimError;

    fn from_str(list: &str) -> Result<Self, SimError> {
        let shares = list.split(',').map(|share| {
            let share = share.trim();
            let read = share.parse();
            read.map_err(|_| SimError::setting("a share of the acceptance", quoted(share), LIST))
        });
        Self::of_shares(shares.collect::<Result<_, _>>()?)
    }
}

fn quoted(text: &str) -> String {
    format!("`{text}`")
}

fn rising(position: usize, share: f64, before: f64) -> SimError {
    SimError::setting(
        "the acceptance",
        format!(
            "{share:.4} of all drafts at position {position} and {before:.4} at the one before"
        ),
        "a share that falls from position to position, since a draft is accepted only if those before it are; record a run whose \
         drafts are all as long as they may be, or of more drafts",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: &Acceptance, expected: &[f64]) {
        assert_eq!(found.positions(), expected.len());
        for (found, expected) in found.conditional().iter().zip(expected) {
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        }
    }

    #[test]
    fn a_list_has_conditional_shares() {
        close(&"0.8, 0.7,1".parse().unwrap(), &[0.8, 0.7, 1.0]);
        for wrong in ["", "0.8,", "0.8;0.7", "1.2", "-0.1", "nan"] {
            let said = wrong.parse::<Acceptance>().unwrap_err().to_string();
            assert!(said.contains("such as 0.8,0.7,0.6"), "{wrong}: {said}");
        }
    }

    #[test]
    fn counts_are_divided_by_those_of_the_position_before() {
        let found = Acceptance::of_counts(&[100.0, 90.0, 80.0], &[80.0, 54.0, 24.0]).unwrap();
        close(&found, &[0.8, 0.6 / 0.8, 0.3 / 0.6]);
        // Positions that were never drafted at end it; those that are never reached have no share.
        let found = Acceptance::of_counts(&[10.0, 10.0, 10.0, 0.0], &[5.0, 0.0, 0.0, 0.0]);
        close(&found.unwrap(), &[0.5, 0.0, 0.0]);
    }

    #[test]
    fn counts_that_cannot_be_are_refused() {
        for (drafted, accepted, expected) in [
            (
                &[10.0, 10.0][..],
                &[5.0, 6.0][..],
                "0.6000 of all drafts at position 1 and 0.5000",
            ),
            (&[10.0], &[11.0], "11 of 10 at position 0"),
            (&[-10.0], &[-5.0], "-5 of -10 at position 0"),
            (&[10.0], &[f64::NAN], "NaN of 10 at position 0"),
            (
                &[10.0],
                &[],
                "positions with accepted tokens is 0; expected 1",
            ),
            (&[0.0], &[0.0], "the acceptance is empty"),
        ] {
            let said = Acceptance::of_counts(drafted, accepted).unwrap_err();
            assert!(said.to_string().contains(expected), "{said}");
        }
    }
}
