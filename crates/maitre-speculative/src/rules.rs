//! What decides a sequence's next tokens beside the logits.

use maitre_model::Draw;
use maitre_sampling::{
    Distribution, Exclusions, Logits, Sampled, Sampler, SamplingError, SamplingParams, TokenCounts,
    TokenMask,
    noise::{Noise, Purpose},
};

use crate::{Acceptance, Drafted};

/// How one sequence chooses its tokens, and where it ends.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// How a row of logits becomes a token.
    pub params: &'a SamplingParams,
    /// What the penalties look at: the sequence as it is, without drafted tokens.
    pub counts: &'a TokenCounts,
    /// Tokens generated so far: the position of the next one.
    pub generated: u64,
    /// Tokens that end the sequence; impossible until `min_tokens` are generated.
    pub stop_tokens: &'a [u32],
    /// Tokens before which the sequence does not end.
    pub min_tokens: u64,
    /// Tokens at which the sequence ends.
    pub max_tokens: u64,
    /// What its constraint allows, if it has one.
    pub constraint: Option<Allowed<'a>>,
}

/// What a constraint says of a sequence's next tokens.
#[derive(Debug, Clone, Copy, Default)]
pub struct Allowed<'a> {
    /// Tokens that were shown to the constraint, each of them allowed behind those before it, `[k]`.
    pub drafts: &'a [u32],
    /// Whether they have to come, being the only ones allowed.
    pub forced: bool,
    /// `masks[i]` is for the token behind the first `i` of `drafts`, `[k + 1]`. Empty while it is not known what may
    /// come: then nothing is drafted, and nothing can be chosen.
    pub masks: &'a [TokenMask],
}

impl Rules<'_> {
    /// Tokens that may not be chosen at output position `position`.
    pub fn banned(&self, position: u64) -> &[u32] {
        if position < self.min_tokens {
            self.stop_tokens
        } else {
            &[]
        }
    }

    /// What may not be chosen at output position `position`. `None` if that is not known: the constraint was not asked
    /// about that position.
    pub fn excluded(&self, position: u64) -> Option<Exclusions<'_>> {
        let banned = self.banned(position);
        let mask = match &self.constraint {
            None => None,
            Some(allowed) => {
                let index = usize::try_from(position.checked_sub(self.generated)?).ok()?;
                Some(allowed.masks.get(index)?)
            }
        };
        Some(Exclusions { banned, mask })
    }

    /// Whether a constraint lets any token follow at output position `position`, as far as it was asked.
    pub fn goes_on(&self, position: u64) -> bool {
        let excluded = self.excluded(position);
        excluded.is_some_and(|it| it.mask.is_none_or(|mask| !mask.is_empty()))
    }

    /// Whether a constraint allows `token` at output position `position`, as far as it was asked.
    pub fn allows(&self, position: u64, token: u32) -> bool {
        let excluded = self.excluded(position);
        excluded.is_some_and(|it| it.mask.is_none_or(|mask| mask.allows(token)))
    }

    /// As [`excluded`](Self::excluded); where it is not known what may come, nothing can.
    fn known_exclusions(
        &self,
        position: u64,
        row: Logits<'_>,
    ) -> Result<Exclusions<'_>, SamplingError> {
        let vocab_size = row.values.len();
        self.excluded(position)
            .ok_or(SamplingError::NothingPossible { vocab_size })
    }

    /// Whether `token`, chosen at output position `position`, is the last one.
    pub fn ends(&self, position: u64, token: u32) -> bool {
        position + 1 >= self.max_tokens || self.stop_tokens.contains(&token)
    }

    /// The token at output position `position`, with `counts` of everything before it.
    ///
    /// # Errors
    ///
    /// What the sampler refuses: logits that are not numbers, or nothing left to choose. A constraint that was not
    /// asked about the position leaves nothing.
    pub fn choose(
        &self,
        sampler: &mut Sampler,
        row: Logits<'_>,
        counts: &TokenCounts,
        position: u64,
    ) -> Result<Sampled, SamplingError> {
        let excluded = self.known_exclusions(position, row)?;
        sampler.sample(row, self.params, counts, position, excluded)
    }

    /// What [`choose`](Self::choose) draws from.
    ///
    /// # Errors
    ///
    /// As [`choose`](Self::choose).
    pub(crate) fn distribution(
        &self,
        sampler: &mut Sampler,
        row: Logits<'_>,
        counts: &TokenCounts,
        position: u64,
    ) -> Result<Distribution, SamplingError> {
        let excluded = self.known_exclusions(position, row)?;
        sampler.distribution(row, self.params, counts, excluded)
    }

    /// How a device may choose the token at output position `position`, if nothing but the row decides.
    ///
    /// A sequence with a constraint is chosen for on the host, from logits that are copied there: its mask comes while
    /// the device computes. A mask for a device would be a slot beside `Draw` in `RowWant::Token`, filled before the
    /// step samples; until then such rows are right and slow.
    pub fn draw(&self, position: u64) -> Option<Draw> {
        let params = self.params;
        let is_free = self.constraint.is_none() && !params.adjusts_rows(self.banned(position));
        is_free.then_some(Draw {
            temperature: params.temperature,
            top_k: params.top_k,
            top_p: params.top_p,
            min_p: params.min_p,
            seed: params.seed,
            position,
        })
    }

    /// How a device may turn row `index` of a sequence with `drafts` drafted tokens into a token, if that can be told
    /// before the rows in front of it are looked at: the token must be the target's own choice, and nothing but its
    /// id be asked for.
    pub fn draw_row(&self, index: usize, drafts: usize, acceptance: Acceptance) -> Option<Draw> {
        let is_own = acceptance == Acceptance::Coupling || index >= drafts;
        (is_own && self.params.logprobs.is_none())
            .then(|| self.draw(self.generated + index as u64))
            .flatten()
    }

    /// How a draft model's row becomes the guess at output position `position`, with `counts` of everything before
    /// it, drafted tokens included.
    ///
    /// Under [`Acceptance::Coupling`] the draft chooses as the target will: by the same rules and with the same
    /// noise, so that both agree wherever their probabilities do. Under [`Acceptance::Rejection`] it
    /// draws by itself and keeps what it drew from. What the target may not choose is never drafted.
    ///
    /// # Errors
    ///
    /// What the sampler refuses, see [`choose`](Self::choose). Nothing can be drafted at this position and after
    /// it; the sequence itself has not failed.
    pub fn draft(
        &self,
        sampler: &mut Sampler,
        row: Logits<'_>,
        counts: &TokenCounts,
        position: u64,
        acceptance: Acceptance,
    ) -> Result<Drafted, SamplingError> {
        match acceptance {
            Acceptance::Coupling => {
                let excluded = self.known_exclusions(position, row)?;
                let token = sampler.choose(row, self.params, counts, position, excluded)?;
                Ok(Drafted {
                    token,
                    distribution: None,
                })
            }
            Acceptance::Rejection => {
                let drawn_from = self.distribution(sampler, row, counts, position)?;
                let noise = Noise {
                    seed: self.params.seed,
                    position,
                    purpose: Purpose::Draft,
                };
                Ok(Drafted {
                    token: drawn_from.draw(noise),
                    distribution: Some(drawn_from),
                })
            }
        }
    }
}
