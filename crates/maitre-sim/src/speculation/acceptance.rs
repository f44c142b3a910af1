//! How likely a drafted token is accepted, by its place in the draft.

use std::str::FromStr;

use super::recorded;
use crate::SimError;

/// What is expected of a list.
const LIST: &str = "shares from 0 to 1 such as 0.8,0.7,0.6: what is accepted at the first position, at the second one of the \
                    drafts that were accepted at the first, and so on";

/// Standard errors by which a share may be larger than that of the position before it and still be chance.
const CHANCE: f64 = 3.0;

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
    /// drafts are as long as they may be. The positions end at the first one at which nothing was drafted. Where nearly all drafts are
    /// accepted, chance lets the share of a position be a little larger than that of the one before: its conditional share is 1 then.
    ///
    /// # Errors
    ///
    /// [`SimError::Setting`] if more was accepted than drafted, or a share of a position that is larger than that of the one before it by
    /// more than 3 standard errors.
    pub fn of_counts(drafted: &[f64], accepted: &[f64]) -> Result<Self, SimError> {
        if drafted.len() != accepted.len() {
            return Err(SimError::setting(
                "the number of positions with accepted tokens",
                accepted.len(),
                format!("{}, as many as have drafted ones", drafted.len()),
            ));
        }
        let mut conditional = Vec::new();
        // The share of the position before, and how many drafts it is of.
        let (mut before, mut of) = (1.0, 0.0);
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
            if share > before && share - before > by_chance((before, of), (share, drafted)) {
                return Err(rising(position, share, before));
            }
            let share = share.min(before);
            // What is never reached is never accepted.
            conditional.push(if before > 0.0 { share / before } else { 0.0 });
            (before, of) = (share, drafted);
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

/// How far two shares, each with the number of drafts that it is of, may be apart by chance if one probability is behind both: the
/// standard error of the difference of two binomial shares, pooled, a few times. Shares without counts have 1 in the place of how many
/// drafts they are of; nothing is known of their error, and none is allowed.
fn by_chance((one, of_one): (f64, f64), (other, of_other): (f64, f64)) -> f64 {
    if of_one.min(of_other) <= 1.0 {
        return 0.0;
    }
    let both = (one * of_one + other * of_other) / (of_one + of_other);
    let variance = both * (1.0 - both) * (1.0 / of_one + 1.0 / of_other);
    CHANCE * variance.max(0.0).sqrt()
}

fn rising(position: usize, share: f64, before: f64) -> SimError {
    SimError::setting(
        "the acceptance",
        format!("{share:.4} of all drafts at position {position} and {before:.4} before it"),
        "a share that rises from position to position by no more than chance explains, since a draft is accepted only if those before it \
         are; record a run whose drafts are all as long as they may be",
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
    fn a_share_that_rises_by_chance_alone_is_that_of_the_position_before() {
        let found = Acceptance::of_counts(&[101.0, 99.0], &[100.0, 99.0]).unwrap();
        close(&found, &[100.0 / 101.0, 1.0]);
        let found = Acceptance::recorded(r#"{"drafted_at":[101,99],"accepted_at":[100,99]}"#);
        close(&found.unwrap(), &[100.0 / 101.0, 1.0]);
        // The pooled standard error of 0.50 and 0.55 of 1,000 each is 0.0223. The third share is compared with 0.5, not with 0.55.
        let drafted = [1000.0; 3];
        let found = Acceptance::of_counts(&drafted, &[500.0, 550.0, 400.0]).unwrap();
        close(&found, &[0.5, 1.0, 0.8]);
        let said = Acceptance::of_counts(&drafted, &[500.0, 550.0, 600.0]).unwrap_err();
        let expected = "0.6000 of all drafts at position 2 and 0.5000";
        assert!(said.to_string().contains(expected), "{said}");
    }

    #[test]
    fn counts_that_cannot_be_are_refused() {
        for (drafted, accepted, expected) in [
            (
                &[1000.0, 1000.0][..],
                &[500.0, 600.0][..],
                "0.6000 of all drafts at position 1 and 0.5000",
            ),
            // Shares without counts: by how much they may rise is not known.
            (
                &[1.0, 1.0],
                &[0.5, 0.501],
                "0.5010 of all drafts at position 1 and 0.5000",
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
