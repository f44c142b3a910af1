//! What drafts tokens, and what that costs a step.
//!
//! A draft model computes its drafts one after the other: the token that is known gives the first draft, that one the second,
//! and so on. Each is a step of the draft model with one token of each sequence that drafts so far. The prompt tokens of
//! a step go through the draft model in the first of them, as it needs their keys and values.
//!
//! So it needs those of all tokens before the one that is known. The last draft has given no other: where all drafts were accepted, it is a
//! token that the draft model has not computed, and so is each token of a step in which the sequence did not draft. These the model is
//! behind, and computes them in the first of its steps when the sequence drafts again:
//!
//! ```text
//! step 1   prompt tokens of the step, and one token of each sequence with at least 1 draft, and those that it is behind
//! step 2                                  one token of each sequence with at least 2 drafts
//! …
//! ```

use maitre_scheduler::{RequestId, StepPlan};

use crate::error::check_seconds;
use crate::{CostModel, ModelShape, SimError, StepPricer, StepWork};

/// Rows of an embedding are padded to a multiple of at most so many, each model to its own: with the same tokens two models may have
/// 151,936 rows and 152,064.
const PADDED_TO: u32 = 256;

/// What drafts tokens.
#[derive(Debug, Clone, PartialEq)]
pub enum Drafter {
    /// The text of prompt and answer, which costs nothing.
    Lookup,
    /// Something that takes so many seconds for one more token of all sequences that draft in a step.
    Seconds(f64),
    /// A smaller model on the same hardware. It has keys and values of each token too.
    Model(Box<ModelShape>),
}

impl Drafter {
    pub(super) fn validate(&self) -> Result<(), SimError> {
        match self {
            Self::Lookup => Ok(()),
            Self::Seconds(seconds) => check_seconds("the time of a draft", *seconds),
            Self::Model(shape) => shape.validate(),
        }
    }

    /// Checks that a draft model may have the vocabulary of the model that it drafts for, as the engine does before it compares the
    /// tokens themselves: a drafted token is a number, and has to mean the same to both.
    pub(crate) fn check_vocabulary(&self, target: &str, vocabulary: u32) -> Result<(), SimError> {
        let blocks = |rows: u32| rows.div_ceil(PADDED_TO);
        match self.model() {
            Some(draft) if blocks(draft.vocabulary) != blocks(vocabulary) => {
                Err(SimError::setting(
                    "the vocabulary of the draft model",
                    format!("{} tokens ({})", draft.vocabulary, draft.name),
                    format!(
                        "the {vocabulary} tokens of {target} but for padding, since a drafted token has to mean the same to both; \
                         choose a draft model of the same family"
                    ),
                ))
            }
            _ => Ok(()),
        }
    }

    /// What a report calls it.
    pub(crate) fn told(&self) -> String {
        match self {
            Self::Lookup => "drafts that cost nothing".to_owned(),
            Self::Seconds(seconds) => format!("drafts of {seconds} s"),
            Self::Model(shape) => format!("drafts of {}", shape.name),
        }
    }

    /// The model, if it is one.
    #[must_use]
    pub fn model(&self) -> Option<&ModelShape> {
        match self {
            Self::Model(shape) => Some(shape),
            _ => None,
        }
    }
}

/// What drafting costs.
#[derive(Debug, Clone)]
pub(super) enum DraftCost {
    Free,
    Seconds(f64),
    /// Steps of a draft model, some of whose layers may have a window of so many tokens.
    Steps(Box<StepPricer>, Option<u32>),
}

impl DraftCost {
    pub(super) fn new(
        drafter: &Drafter,
        cost: &CostModel,
        block_size: u32,
    ) -> Result<Self, SimError> {
        Ok(match drafter {
            Drafter::Lookup => Self::Free,
            Drafter::Seconds(seconds) => Self::Seconds(*seconds),
            Drafter::Model(shape) => {
                let pricer = StepPricer::new(shape, cost.clone(), block_size)?;
                Self::Steps(Box::new(pricer), shape.window.map(|it| it.tokens))
            }
        })
    }

    /// Seconds beside the step of this plan; a draft model is so many tokens `behind` in each sequence.
    pub(super) fn seconds(&self, plan: &StepPlan, behind: impl Fn(RequestId) -> u64) -> f64 {
        let longest = || plan.spans.iter().map(|span| span.drafts).max().unwrap_or(0);
        match self {
            Self::Free => 0.0,
            Self::Seconds(seconds) => seconds * longest() as f64,
            Self::Steps(pricer, window) => {
                let has_prompts = usize::from(plan.spans.iter().any(StepWork::is_chunk));
                let works = (0..longest().max(has_prompts))
                    .map(|step| StepWork::of_drafts(plan, step, *window, &behind));
                works.map(|work| pricer.price(&work).total()).sum()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(vocabulary: u32) -> Drafter {
        let known = ModelShape::known("qwen3-0.6b").unwrap();
        Drafter::Model(Box::new(ModelShape {
            vocabulary,
            ..known
        }))
    }

    #[test]
    fn a_draft_model_has_the_vocabulary_of_its_target_but_for_padding() {
        for drafter in [
            Drafter::Lookup,
            Drafter::Seconds(0.1),
            model(151_936),
            model(152_064),
        ] {
            drafter.check_vocabulary("target", 151_936).unwrap();
        }
        for (draft, target) in [(151_936, 128_256), (128_256, 151_936), (32_768, 32_000)] {
            let said = model(draft).check_vocabulary("target", target).unwrap_err();
            let expected = format!(
                "the vocabulary of the draft model is {draft} tokens (qwen3-0.6b); expected the {target} tokens of target"
            );
            assert!(said.to_string().starts_with(&expected), "{said}");
        }
    }
}
