//! From a row of logits to a token: the steps of the crate's root page in their order.
//!
//! Every truncation keeps the tokens above some logit, so all of them together are one *cut*. The draw then
//! looks at the tokens the cut keeps, and of these only at those whose noise could still lift them over the
//! best so far.

use crate::{
    Distribution, Exclusions, SamplingError, SamplingParams, TokenCounts, TokenLogprobs, adjust,
    logprobs::token_logprobs,
    noise::{self, Noise},
    nucleus::{self, Candidate},
    params::GREEDY_BELOW,
    row::{BLOCK, Cut, Logits, Row, RowScratch},
};

/// The token that was chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampled {
    /// Its id.
    pub token: u32,
    /// How probable it was, if the request asked.
    pub logprobs: Option<TokenLogprobs>,
}

/// Draws tokens. Holds nothing but memory to work in, which is reused from row to row: once it has seen the
/// largest vocabulary, a draw allocates only the alternatives it returns.
#[derive(Debug, Default)]
pub struct Sampler {
    scratch: RowScratch,
    adjusted: Vec<f32>,
    candidates: Vec<Candidate>,
}

impl Sampler {
    /// A sampler that has not yet reserved any memory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The token that follows, from `logits` `[vocabulary]`.
    ///
    /// `position` counts the tokens generated before. Tokens that are `excluded` are not chosen: stop tokens while
    /// `min_tokens` holds, and what a constraint's mask does not allow. `params` must be valid, see
    /// [`SamplingParams::validate`]; excluded tokens and those of `counts` or the bias beyond the vocabulary are
    /// passed over.
    ///
    /// Log-probabilities are those of the row as it came, before any mask, ban or bias: they say what the model
    /// thought of the token, and a token that a mask rules out may be among the alternatives.
    ///
    /// The result depends on the arguments alone, not on what this sampler did before.
    ///
    /// # Errors
    ///
    /// [`SamplingError::NonFinite`] if a logit is NaN or +inf (-inf is a token the model rules out),
    /// [`SamplingError::NothingPossible`] if no token is left.
    pub fn sample<'a>(
        &mut self,
        logits: impl Into<Logits<'a>>,
        params: &SamplingParams,
        counts: &TokenCounts,
        position: u64,
        excluded: impl Into<Exclusions<'a>>,
    ) -> Result<Sampled, SamplingError> {
        let logits = logits.into();
        let token = self.choose(logits, params, counts, position, excluded)?;
        let logprobs = match params.logprobs {
            Some(k) => Some(self.token_logprobs(logits, token, k)?),
            None => None,
        };
        Ok(Sampled { token, logprobs })
    }

    /// As [`sample`](Self::sample), without log-probabilities even if `params` ask for them: what a guess
    /// at the token needs.
    ///
    /// # Errors
    ///
    /// As [`sample`](Self::sample).
    pub fn choose<'a>(
        &mut self,
        logits: impl Into<Logits<'a>>,
        params: &SamplingParams,
        counts: &TokenCounts,
        position: u64,
        excluded: impl Into<Exclusions<'a>>,
    ) -> Result<u32, SamplingError> {
        let noise = Noise::target(params.seed, position);
        let (logits, excluded) = (logits.into(), excluded.into());
        self.with_adjusted(logits, params, counts, excluded, |row, candidates| {
            choose(row, params, noise, candidates)
        })
    }

    /// What [`sample`](Self::sample) draws from: mask, bans, biases, penalties, temperature and truncation applied.
    /// All on the largest logit if the request is greedy. Tokens that no noise could make win are left out
    /// (see [`noise`]; together they hold less than 5·10⁻¹² for each token of the vocabulary).
    ///
    /// # Errors
    ///
    /// As [`sample`](Self::sample).
    pub fn distribution<'a>(
        &mut self,
        logits: impl Into<Logits<'a>>,
        params: &SamplingParams,
        counts: &TokenCounts,
        excluded: impl Into<Exclusions<'a>>,
    ) -> Result<Distribution, SamplingError> {
        let (logits, excluded) = (logits.into(), excluded.into());
        self.with_adjusted(logits, params, counts, excluded, |row, candidates| {
            let mode = Distribution::point(row.argmax());
            if params.temperature < GREEDY_BELOW {
                return mode;
            }
            let temperature = f64::from(params.temperature);
            let reach = (f64::from(noise::MAX) - f64::from(noise::MIN)) * temperature;
            let least = (f64::from(row.max()) - reach) as f32;
            let cut = truncate(row, params, candidates).raised(least);
            Distribution::softmax(row, 1.0 / temperature, cut).unwrap_or(mode)
        })
    }

    /// How probable `token` was under `logits` `[vocabulary]`, and the `k` most probable tokens: what is
    /// reported for the tokens of a prompt.
    ///
    /// # Errors
    ///
    /// As [`sample`](Self::sample), and [`SamplingError::UnknownToken`] if `token` is beyond the
    /// vocabulary.
    pub fn token_logprobs<'a>(
        &mut self,
        logits: impl Into<Logits<'a>>,
        token: u32,
        k: u32,
    ) -> Result<TokenLogprobs, SamplingError> {
        let Logits { values, peaks } = logits.into();
        token_logprobs(
            &mut Row::with_peaks(values, peaks, &mut self.scratch)?,
            token,
            k,
        )
    }

    /// Hands `then` the row with mask, bans, biases and penalties applied, and memory to work in.
    fn with_adjusted<T>(
        &mut self,
        logits: Logits<'_>,
        params: &SamplingParams,
        counts: &TokenCounts,
        excluded: Exclusions<'_>,
        then: impl FnOnce(&mut Row<'_>, &mut Vec<Candidate>) -> T,
    ) -> Result<T, SamplingError> {
        let Self {
            scratch,
            adjusted,
            candidates,
        } = self;
        // The row as it came is looked at in any case: a ban or a mask must not hide a NaN.
        let mut raw = Row::with_peaks(logits.values, logits.peaks, scratch)?;
        if !adjust::is_needed(params, excluded) {
            return Ok(then(&mut raw, candidates));
        }
        adjusted.clear();
        adjusted.extend_from_slice(logits.values);
        adjust::adjust(adjusted, params, counts, excluded);
        Ok(then(&mut Row::scan(adjusted, scratch)?, candidates))
    }
}

/// Temperature, truncation and the draw.
fn choose(
    row: &mut Row<'_>,
    params: &SamplingParams,
    noise: Noise,
    candidates: &mut Vec<Candidate>,
) -> u32 {
    let mode = row.argmax();
    if params.temperature < GREEDY_BELOW {
        return mode;
    }
    let cut = truncate(row, params, candidates);
    Race::new(mode, row.max(), params.temperature, noise).winner(row, cut)
}

/// What `min_p`, `top_k` and `top_p` keep.
fn truncate(row: &mut Row<'_>, params: &SamplingParams, candidates: &mut Vec<Candidate>) -> Cut {
    let mut cut = Cut::at(least_logit(row, params));
    if params.top_p < 1.0 {
        let scale = 1.0 / params.temperature;
        cut = nucleus::cut(row, scale, cut.logit, params.top_p, candidates);
    }
    cut
}

/// The least logit that `min_p` and `top_k` keep.
fn least_logit(row: &mut Row<'_>, params: &SamplingParams) -> f32 {
    let kth = row.kth_largest(params.top_k as usize);
    // p ≥ min_p · p_max says (logit - max) / temperature ≥ ln(min_p); ln 0 is -inf.
    let reach = libm::log(f64::from(params.min_p)) * f64::from(params.temperature);
    kth.max((f64::from(row.max()) + reach) as f32)
}

/// The Gumbel-max trick: every token scores its scaled logit plus its noise, the best score wins, the lowest
/// id among equals. Scores are f64, so that a low temperature's large scaled logits keep the noise's digits.
struct Race {
    max: f64,
    scale: f64,
    noise: Noise,
    leader: u32,
    score: f64,
}

impl Race {
    /// Starts with the most probable token, whose score already rules out most others.
    fn new(mode: u32, max: f32, temperature: f32, noise: Noise) -> Self {
        Self {
            max: f64::from(max),
            scale: 1.0 / f64::from(temperature),
            noise,
            leader: mode,
            score: f64::from(noise.gumbel(mode)),
        }
    }

    /// The winner among the tokens of `row` that `cut` keeps.
    fn winner(mut self, row: &Row<'_>, cut: Cut) -> u32 {
        for (number, block) in row.blocks_from(cut.logit) {
            if self.scaled(row.peak(number)) + f64::from(noise::MAX) < self.score {
                continue;
            }
            let bits = self.noise.block_bits(number as u32);
            let first = (number * BLOCK) as u32;
            for ((token, logit), bits) in (first..).zip(block).zip(bits) {
                if cut.keeps(token, *logit) {
                    self.enter(token, self.scaled(*logit), bits);
                }
            }
        }
        self.leader
    }

    /// The logit over the temperature, less that of the most probable token: at most zero.
    fn scaled(&self, logit: f32) -> f64 {
        (f64::from(logit) - self.max) * self.scale
    }

    /// Lets a token take part whose noise is that of `bits`.
    fn enter(&mut self, token: u32, scaled: f64, bits: u32) {
        if scaled + noise::upper_bound(bits) < self.score {
            return;
        }
        let score = scaled + f64::from(noise::from_bits(bits));
        if score > self.score || (score == self.score && token < self.leader) {
            (self.leader, self.score) = (token, score);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_used_sampler_reserves_no_more_memory() {
        let capacities = |sampler: &Sampler| {
            let Sampler {
                scratch,
                adjusted,
                candidates,
            } = sampler;
            (
                scratch.capacities(),
                adjusted.capacity(),
                candidates.capacity(),
            )
        };
        let params = |n: u32| SamplingParams {
            top_k: n % 3,
            top_p: 0.9,
            logit_bias: vec![(0, 1.0)],
            ..Default::default()
        };
        let mut sampler = Sampler::new();
        let mut sample = |n: u32, logits: &[f32]| {
            let counts = TokenCounts::default();
            sampler.sample(logits, &params(n), &counts, 0, &[]).unwrap();
            capacities(&sampler)
        };
        let peaked: Vec<f32> = (0..500).map(|token| -(token as f32)).collect();
        let reserved = sample(1, &peaked);
        for n in 2..20 {
            assert_eq!(sample(n, &vec![0.0; 500]), reserved, "row {n}");
        }
    }
}
