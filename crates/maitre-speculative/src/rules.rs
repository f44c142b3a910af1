//! What decides a sequence's next tokens beside the logits.

use maitre_model::Draw;
use maitre_sampling::{
    Logits, Sampled, Sampler, SamplingError, SamplingParams, TokenCounts,
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

    /// Whether `token`, chosen at output position `position`, is the last one.
    pub fn ends(&self, position: u64, token: u32) -> bool {
        position + 1 >= self.max_tokens || self.stop_tokens.contains(&token)
    }

    /// The token at output position `position`, with `counts` of everything before it.
    ///
    /// # Errors
    ///
    /// What the sampler refuses: logits that are not numbers, or nothing left to choose.
    pub fn choose(
        &self,
        sampler: &mut Sampler,
        row: Logits<'_>,
        counts: &TokenCounts,
        position: u64,
    ) -> Result<Sampled, SamplingError> {
        sampler.sample(row, self.params, counts, position, self.banned(position))
    }

    /// How a device may choose the token at output position `position`, if nothing but the row decides.
    pub fn draw(&self, position: u64) -> Option<Draw> {
        let params = self.params;
        (!params.adjusts_rows(self.banned(position))).then_some(Draw {
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
        let banned = self.banned(position);
        match acceptance {
            Acceptance::Coupling => {
                let token = sampler.choose(row, self.params, counts, position, banned)?;
                Ok(Drafted {
                    token,
                    distribution: None,
                })
            }
            Acceptance::Rejection => {
                let drawn_from = sampler.distribution(row, self.params, counts, banned)?;
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
