//! What proposes tokens for many sequences at once, one token of each at a time.

use std::any::Any;

use maitre_model::CacheMoves;
use maitre_sampling::TokenCounts;

use crate::{Acceptance, Drafted, Rules};

/// A decoding sequence for which tokens may be drafted.
#[derive(Debug, Clone, Copy)]
pub struct DraftRequest<'a> {
    /// Who it is, in the caller's numbers.
    pub id: u64,
    /// Tokens that may be drafted for it in this step.
    pub most: usize,
    /// How its tokens are chosen.
    pub rules: Rules<'a>,
    /// The blocks of its positions, those of the tokens to be drafted included.
    pub table: &'a [u32],
    /// Where the keys and values of its last known token and of each drafted one are kept, `[1 + most]`.
    pub slots: &'a [u32],
}

/// The drafts of one sequence in the making.
#[derive(Debug)]
pub struct Drafting<'a> {
    /// Whose.
    pub request: DraftRequest<'a>,
    /// Its known tokens, prompt and answer.
    pub text: &'a [u32],
    /// What was drafted so far, in order.
    pub drafts: Vec<Drafted>,
    /// The probability that the drafter gave its newest token; NaN where it does not know.
    pub probability: f32,
    /// What the penalties look at, drafted tokens included; `None` where there are no penalties.
    pub counts: Option<TokenCounts>,
}

impl<'a> Drafting<'a> {
    pub(crate) fn new(request: DraftRequest<'a>, text: &'a [u32]) -> Self {
        let counts = request.rules.params.uses_counts();
        Self {
            request,
            text,
            drafts: Vec::with_capacity(request.most),
            probability: f32::NAN,
            counts: counts.then(|| request.rules.counts.clone()),
        }
    }

    /// The output position of the next token to be drafted.
    pub fn position(&self) -> u64 {
        self.request.rules.generated + self.drafts.len() as u64
    }

    /// Adds a token.
    pub fn push(&mut self, drafted: Drafted, probability: f32) {
        if let Some(counts) = &mut self.counts {
            counts.record(drafted.token);
        }
        self.drafts.push(drafted);
        self.probability = probability;
    }
}

/// Why nothing was drafted. A request never fails for that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the draft model failed: {message}; its sequences go on without drafted tokens")]
pub struct DraftError {
    /// What went wrong.
    pub message: String,
}

impl DraftError {
    pub(crate) fn from_panic(panic: &(dyn Any + Send)) -> Self {
        let text = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Self {
            message: format!("it panicked: {}", text.unwrap_or("no message")),
        }
    }
}

/// Proposes tokens. The real one is [`DraftModel`](crate::DraftModel); tests and benchmarks bring doubles
/// whose acceptance and cost they set.
pub trait Drafter: Send {
    /// Tokens that have to be computed before anything can be drafted for this sequence, beyond its
    /// newest one: what the drafter has not seen yet. `None` if nothing can be drafted for it at all.
    fn behind(&self, request: &DraftRequest<'_>, text: &[u32]) -> Option<usize>;

    /// Adds one token to each of `draftings`, at the same time. To those that it can't serve now, being
    /// too far behind or without a token that is possible, it adds none.
    ///
    /// # Errors
    ///
    /// A computation that failed: none of `draftings` can be relied on.
    fn draft(
        &mut self,
        draftings: &mut [&mut Drafting<'_>],
        acceptance: Acceptance,
    ) -> Result<(), DraftError>;

    /// Blocks are moved before the step.
    ///
    /// # Errors
    ///
    /// A copy that failed.
    fn moved(&mut self, moves: &CacheMoves<'_>) -> Result<(), DraftError>;

    /// The target has written the positions `kept..end` of this table with tokens that the drafter has
    /// not seen there.
    fn written(&mut self, table: &[u32], kept: usize, end: usize);
}
