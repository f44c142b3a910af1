//! Which drafted tokens of a sequence stand, and the token that comes after them.
//!
//! The rows of a span arrive one after the other, as the logits are computed. Each row becomes the token of
//! its position under the sequence's [`Rules`]; while that is the drafted token the next row counts too, and at the first
//! difference, or where the sequence ends, the decision has fallen. It has also fallen behind a draft after which a
//! constraint lets nothing follow, or was not asked what may: that is for the next step to find out.

use maitre_sampling::{Distribution, Logits, Sampled, Sampler, SamplingError, TokenCounts};

use crate::{Rules, rejection};

/// When a drafted token is accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acceptance {
    /// If it is the token the target itself chooses there, with noise that depends on seed, position and token
    /// alone (Daliri et al. 2024, "Coupling without communication and drafter-invariant speculative decoding").
    /// Drafts change no answer. If the draft chose with the same noise, both agree with probability at least
    /// (1 - TV) / (1 + TV), TV being the total variation distance of their distributions.
    #[default]
    Coupling,
    /// With probability min(1, p/q), p being the target's probability of it and q the draft's (Leviathan et al.
    /// 2023, "Fast inference from transformers via speculative decoding", algorithm 1). Accepts the most that any rule
    /// can, with probability 1 - TV, and keeps the target's distribution; but which of the possible answers comes
    /// depends on the drafts.
    ///
    /// Exact only if a token that was drawn from a distribution is shown to the verifier whatever it is. Whether to
    /// draw one may depend on the tokens before it and on the distribution; to throw it away because of what
    /// it is, or because of what was drawn after it, shifts the answers. Guesses that were not drawn are free of that.
    Rejection,
}

/// A guess at the token of one position.
#[derive(Clone, Debug, PartialEq)]
pub struct Drafted {
    /// The token.
    pub token: u32,
    /// What it was drawn from, which [`Acceptance::Rejection`] needs to know. `None` if it was not drawn: the
    /// same text before it always gives the same guess.
    pub distribution: Option<Distribution>,
}

/// What became of a span.
#[derive(Clone, Debug, PartialEq)]
pub struct Verified {
    /// The sequence's next tokens: the accepted ones, and one more unless the last of them ended the sequence, or
    /// unless its constraint says nothing of what comes behind them.
    pub tokens: Vec<Sampled>,
    /// How many of the drafted tokens are among them, at the front.
    pub accepted: usize,
}

/// Verifies the drafted tokens of one sequence. It changes nothing outside of itself: dropped half way, it
/// leaves everything as if the step had not been.
///
/// ```
/// use maitre_sampling::{Sampler, SamplingParams, TokenCounts};
/// use maitre_speculative::{Acceptance, Drafted, Rules, Verifier};
///
/// let params = SamplingParams { temperature: 0.0, ..Default::default() };
/// let rules = Rules {
///     params: &params,
///     counts: &TokenCounts::new(&[3, 1]),
///     generated: 0,
///     stop_tokens: &[0],
///     min_tokens: 0,
///     max_tokens: 100,
///     constraint: None,
/// };
/// let drafts = [2, 3].map(|token| Drafted { token, distribution: None });
/// let mut verifier = Verifier::new(rules, &drafts, Acceptance::Coupling);
/// let mut sampler = Sampler::new();
/// // The logits behind the sequence, behind token 2, behind tokens 2 and 3.
/// for row in [[0.0, 1.0, 5.0, 2.0], [0.0, 7.0, 1.0, 3.0], [1.0, 0.0, 0.0, 0.0]] {
///     verifier.row(&mut sampler, (&row).into())?;
/// }
/// let verified = verifier.finish();
/// let tokens: Vec<u32> = verified.tokens.iter().map(|sampled| sampled.token).collect();
/// assert_eq!((tokens, verified.accepted), (vec![2, 1], 1));
/// # Ok::<(), maitre_sampling::SamplingError>(())
/// ```
#[derive(Debug)]
pub struct Verifier<'a> {
    rules: Rules<'a>,
    drafts: &'a [Drafted],
    acceptance: Acceptance,
    /// The sequence's counts with the tokens accepted so far; `None` while they are the sequence's own, or
    /// nothing asks for them.
    counts: Option<TokenCounts>,
    tokens: Vec<Sampled>,
    accepted: usize,
    is_done: bool,
}

impl<'a> Verifier<'a> {
    /// A verifier that has seen none of the `1 + drafts.len()` rows: the first decides over `drafts[0]`, the last
    /// is that behind the last draft.
    #[must_use]
    pub fn new(rules: Rules<'a>, drafts: &'a [Drafted], acceptance: Acceptance) -> Self {
        Self {
            rules,
            drafts,
            acceptance,
            counts: None,
            tokens: Vec::with_capacity(1 + drafts.len()),
            accepted: 0,
            is_done: false,
        }
    }

    /// Whether further rows change nothing.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.is_done
    }

    /// Looks at the next row of logits, `[vocabulary]`. Without drafts this is one [`Sampler::sample`].
    ///
    /// # Errors
    ///
    /// What the sampler refuses: logits that are not numbers, or nothing left to choose. The row counts as
    /// not seen.
    pub fn row(&mut self, sampler: &mut Sampler, row: Logits<'_>) -> Result<(), SamplingError> {
        if self.is_done {
            return Ok(());
        }
        let at = self.tokens.len();
        let position = self.rules.generated + at as u64;
        if at > 0 && !self.rules.goes_on(position) {
            self.is_done = true;
            return Ok(());
        }
        let counts = self.counts.as_ref().unwrap_or(self.rules.counts);
        let (sampled, is_accepted) = match (self.drafts.get(at), self.acceptance) {
            (None, _) => (self.rules.choose(sampler, row, counts, position)?, false),
            (Some(drafted), Acceptance::Coupling) => {
                let sampled = self.rules.choose(sampler, row, counts, position)?;
                let is_accepted = sampled.token == drafted.token;
                (sampled, is_accepted)
            }
            (Some(drafted), Acceptance::Rejection) => {
                rejection::judge(&self.rules, sampler, row, counts, position, drafted)?
            }
        };
        self.take(sampled, is_accepted);
        Ok(())
    }

    /// The next row has become `token` as [`Rules::draw_row`] said.
    pub fn token(&mut self, token: u32) {
        if self.is_done {
            return;
        }
        let drafted = self.drafts.get(self.tokens.len());
        let is_accepted = drafted.is_some_and(|drafted| drafted.token == token);
        let sampled = Sampled {
            token,
            logprobs: None,
        };
        self.take(sampled, is_accepted);
    }

    fn take(&mut self, sampled: Sampled, is_accepted: bool) {
        let position = self.rules.generated + self.tokens.len() as u64;
        self.accepted += usize::from(is_accepted);
        self.is_done = !is_accepted || self.rules.ends(position, sampled.token);
        if !self.is_done && self.rules.params.uses_counts() {
            let own = self.rules.counts;
            self.counts
                .get_or_insert_with(|| own.clone())
                .record(sampled.token);
        }
        self.tokens.push(sampled);
    }

    /// What the rows seen so far amount to.
    #[must_use]
    pub fn finish(self) -> Verified {
        let Self {
            tokens, accepted, ..
        } = self;
        Verified { tokens, accepted }
    }
}
