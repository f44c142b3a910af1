//! Speculation by recorded acceptance: a simulation has no text, so it draws how many drafted tokens are accepted.
//!
//! The scheduler that serves plans the drafts of each step and may grant fewer than are asked for. Which of them are accepted
//! is drawn for the place in the answer that each is for, from the seed and the number of the request alone. So the draws
//! do not depend on the order of events, and two runs that differ in a setting see the same luck.
//!
//! What a step with drafts takes beside the step itself is the work of the drafter: nothing where drafts come from the
//! answer's own text, or the steps of a draft model (Leviathan et al. 2023).

mod acceptance;
mod drafter;
mod recorded;

pub use acceptance::Acceptance;
use drafter::DraftCost;
pub use drafter::Drafter;
use maitre_scheduler::{PlannedSpan, RequestId, StepPlan};

use crate::workload::{Random, Request, mix};
use crate::{CostModel, SimError, StepWork};

/// The most drafts of a sequence in a step, as the engine has it.
const MOST_DRAFTS: usize = 64;

/// Sets the draws of acceptance apart from all else that a seed chooses: "accepted" in ASCII.
const DRAWS: u64 = 0x6163_6365_7074_6564;

/// How several tokens of an answer come from one step.
#[derive(Debug, Clone, PartialEq)]
pub struct Speculation {
    /// Most drafted tokens that are verified of a sequence in a step.
    pub drafts: usize,
    /// How likely each of them is accepted.
    pub acceptance: Acceptance,
    /// What drafts them.
    pub drafter: Drafter,
}

impl Speculation {
    /// Drafts that cost nothing.
    #[must_use]
    pub fn new(drafts: usize, acceptance: Acceptance) -> Self {
        Self {
            drafts,
            acceptance,
            drafter: Drafter::Lookup,
        }
    }

    /// Checks that there are drafts, and that it is known how likely each is accepted.
    ///
    /// # Errors
    ///
    /// [`SimError::Setting`].
    pub fn validate(&self) -> Result<(), SimError> {
        if !(1..=MOST_DRAFTS).contains(&self.drafts) {
            return Err(SimError::setting(
                "the number of drafts",
                self.drafts,
                format!("1 to {MOST_DRAFTS}"),
            ));
        }
        let known = self.acceptance.positions();
        if known < self.drafts {
            return Err(SimError::setting(
                "the number of drafts",
                self.drafts,
                format!(
                    "at most {known}, as many positions as the acceptance has a share for; draft fewer, or record an acceptance \
                     with as many drafts"
                ),
            ));
        }
        self.drafter.validate()
    }

    /// Tokens of a sequence in a step, on average, as long as all drafts are granted and the answer does not end: each position adds
    /// the probability that it and all before it are accepted. With the same share a at each position that is
    /// (1 - a^(K + 1)) / (1 - a) (Leviathan et al. 2023, equation 1).
    #[must_use]
    pub fn expected_tokens(&self) -> f64 {
        let mut reached = 1.0;
        let conditional = self.acceptance.conditional().iter().take(self.drafts);
        let accepted: f64 = conditional
            .map(|share| {
                reached *= share;
                reached
            })
            .sum();
        1.0 + accepted
    }
}

/// Speculation in one replica.
#[derive(Debug, Clone)]
pub(crate) struct Drafting {
    pub(crate) most: usize,
    acceptance: Acceptance,
    seed: u64,
    cost: DraftCost,
}

impl Drafting {
    pub(crate) fn new(
        speculation: &Speculation,
        seed: u64,
        cost: &CostModel,
        block_size: u32,
    ) -> Result<Self, SimError> {
        speculation.validate()?;
        Ok(Self {
            most: speculation.drafts,
            acceptance: speculation.acceptance.clone(),
            seed,
            cost: DraftCost::new(&speculation.drafter, cost, block_size)?,
        })
    }

    /// How many of the drafts of a request's span are accepted.
    pub(crate) fn accepted(&self, request: &Request, span: &PlannedSpan) -> usize {
        let prompt = request.prompt_tokens as usize;
        let place = span.context_len.saturating_sub(prompt) as u64;
        let drafted = self.acceptance.conditional().iter().take(span.drafts);
        let accepted = drafted.zip(place..).take_while(|(share, place)| {
            // Above 0 and up to 1: a share of 0 accepts nothing, and one of 1 all.
            self.draw(request.number, *place) <= **share
        });
        accepted.count()
    }

    /// The draw for one place of one answer. A place is drawn for once: behind a draft that is not accepted comes the token that
    /// the step sampled in its place.
    fn draw(&self, number: u64, place: u64) -> f64 {
        let answer = mix(mix(self.seed ^ DRAWS) ^ number);
        Random::new(answer, place).unit()
    }

    /// Seconds of drafting for a step; a draft model is so many tokens `behind` in each sequence.
    pub(crate) fn seconds(&self, plan: &StepPlan, behind: impl Fn(RequestId) -> u64) -> f64 {
        self.cost.seconds(plan, behind)
    }

    /// Tokens of a sequence before the one that is known which a draft model has not computed, after a span of which so many drafts
    /// were accepted. Before that it was `behind` by so many.
    pub(crate) fn behind_after(span: &PlannedSpan, accepted: usize, behind: u64) -> u64 {
        match span.drafts {
            _ if StepWork::is_chunk(span) => 0,
            0 => behind + 1,
            // The last draft gave no other.
            drafts => u64::from(accepted == drafts),
        }
    }
}

/// What came of drafts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DraftCounts {
    /// How often a sequence had its next token or tokens in a step: a decode, with or without drafts.
    pub(crate) decodes: u64,
    /// Tokens that came of them.
    pub(crate) tokens: u64,
    /// Drafts that were verified, by their place in the draft.
    pub(crate) drafted_at: Vec<u64>,
    /// Of them, those that were accepted.
    pub(crate) accepted_at: Vec<u64>,
}

impl DraftCounts {
    /// A decode of which so many of its drafts are accepted.
    pub(crate) fn decode(&mut self, drafts: usize, accepted: usize) {
        self.decodes += 1;
        self.tokens += accepted as u64 + 1;
        count(&mut self.drafted_at, drafts);
        count(&mut self.accepted_at, accepted);
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.decodes += other.decodes;
        self.tokens += other.tokens;
        let pairs = [
            (&mut self.drafted_at, &other.drafted_at),
            (&mut self.accepted_at, &other.accepted_at),
        ];
        for (sums, counts) in pairs {
            sums.resize(sums.len().max(counts.len()), 0);
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum += count;
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        (self.decodes, self.tokens) = (0, 0);
        self.drafted_at.clear();
        self.accepted_at.clear();
    }
}

/// One more at each of the first places.
fn count(at: &mut Vec<u64>, places: usize) {
    at.resize(at.len().max(places), 0);
    at.iter_mut().take(places).for_each(|it| *it += 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expectation_is_the_closed_form_of_a_constant_share() {
        for share in [0.0, 0.3, 0.8] {
            for drafts in [1, 4, 8] {
                let acceptance = Acceptance::of_shares(vec![share; drafts]).unwrap();
                let found = Speculation::new(drafts, acceptance).expected_tokens();
                let closed = (1.0 - libm::pow(share, drafts as f64 + 1.0)) / (1.0 - share);
                assert!((found - closed).abs() < 1e-12, "{share} {drafts}: {found}");
            }
        }
    }

    #[test]
    fn what_cannot_be_drafted_is_refused() {
        let acceptance = Acceptance::of_shares(vec![0.5; 3]).unwrap();
        let said = |drafts| {
            let speculation = Speculation::new(drafts, acceptance.clone());
            speculation.validate().unwrap_err().to_string()
        };
        assert!(said(0).contains("is 0; expected 1 to 64"), "{}", said(0));
        assert!(said(65).contains("expected 1 to 64"), "{}", said(65));
        assert!(said(4).contains("is 4; expected at most 3"), "{}", said(4));
    }

    #[test]
    fn counts_add_up_by_place() {
        let mut counts = DraftCounts::default();
        counts.decode(3, 1);
        let mut other = DraftCounts::default();
        other.decode(2, 2);
        other.decode(0, 0);
        counts.add(&other);
        assert_eq!((counts.decodes, counts.tokens), (3, 6));
        assert_eq!(counts.drafted_at, [2, 2, 1]);
        assert_eq!(counts.accepted_at, [2, 1]);
    }
}
