//! Rules by which drafted tokens stand or fall, sound ones and unsound ones, on two models of four tokens.
//!
//! The models know the last token only, so that all answers of two tokens and their probabilities fit on a
//! page, and it can be told by a chi-square test whether a rule changes them.

use anyhow::Result;
use maitre_sampling::noise::{Noise, Purpose};
use maitre_sampling::{Distribution, Sampler, SamplingParams, TokenCounts};
use maitre_speculative::{Acceptance, Drafted, Rules, Verifier};

use crate::numbers::normal;

/// Tokens of the vocabulary.
const VOCAB: usize = 4;

/// Answers of two tokens.
pub const ANSWERS: usize = VOCAB * VOCAB;

/// Tokens that are drafted at a time.
const DRAFTS: usize = 2;

/// How tokens are drafted and judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Both models choose with the same noise; a draft stands if it is what the target chooses.
    Coupling,
    /// A draft stands with probability min(1, p/q), or is replaced by what p has more than q.
    Rejection,
    /// The draft model draws with noise of its own; a draft stands if it is what the target chooses.
    OwnNoise,
    /// Wrong: as rejection, but replaced by what the target draws, not by what it has more.
    ReplacedFromTarget,
    /// Wrong: as rejection, but judged by the random number that the draft was drawn with.
    NoiseUsedTwice,
    /// Wrong: as rejection, but a drawn token that is not the draft model's favourite is not shown.
    DoubtsHidden,
}

impl Rule {
    fn acceptance(self) -> Acceptance {
        match self {
            Self::Coupling | Self::OwnNoise => Acceptance::Coupling,
            _ => Acceptance::Rejection,
        }
    }

    /// The purpose of the number that judges a draft.
    fn judges(self) -> Purpose {
        match self {
            Self::NoiseUsedTwice => Purpose::Draft,
            _ => Purpose::Accept,
        }
    }

    /// A token drafted on `row`, or none if this rule keeps it to itself.
    ///
    /// # Errors
    ///
    /// A row that is not one of numbers.
    pub fn draft(
        self,
        sampler: &mut Sampler,
        rules: &Rules<'_>,
        row: &[f32],
        position: u64,
    ) -> Result<Option<Drafted>> {
        let drafted = match self {
            Self::OwnNoise => {
                let q = sampler.distribution(row, rules.params, rules.counts, &[])?;
                Drafted {
                    token: q.draw(noise(rules, position, Purpose::Draft)),
                    distribution: None,
                }
            }
            _ => rules.draft(
                sampler,
                row.into(),
                rules.counts,
                position,
                self.acceptance(),
            )?,
        };
        let is_favourite = || {
            row.iter()
                .all(|other| *other <= row[drafted.token as usize])
        };
        let is_shown = self != Self::DoubtsHidden || is_favourite();
        Ok(is_shown.then_some(drafted))
    }

    /// The tokens that come of `drafts`, `row(i)` being the target's logits behind the first `i` of them.
    fn verify<'r>(
        self,
        sampler: &mut Sampler,
        rules: &Rules<'_>,
        drafts: &[Drafted],
        row: impl Fn(usize) -> &'r [f32],
    ) -> Result<Vec<u32>> {
        if matches!(self, Self::ReplacedFromTarget | Self::NoiseUsedTwice) {
            return self.judge(sampler, rules, drafts, row);
        }
        let mut verifier = Verifier::new(*rules, drafts, self.acceptance());
        for at in 0..=drafts.len() {
            verifier.row(sampler, row(at).into())?;
        }
        let tokens = verifier.finish().tokens;
        Ok(tokens.into_iter().map(|sampled| sampled.token).collect())
    }

    /// Rejection by hand, with the mistakes.
    fn judge<'r>(
        self,
        sampler: &mut Sampler,
        rules: &Rules<'_>,
        drafts: &[Drafted],
        row: impl Fn(usize) -> &'r [f32],
    ) -> Result<Vec<u32>> {
        let mut tokens = Vec::new();
        for at in 0..=drafts.len() {
            let position = rules.generated + at as u64;
            let noise = |purpose| noise(rules, position, purpose);
            let p = sampler.distribution(row(at), rules.params, rules.counts, &[])?;
            let Some(Drafted {
                token,
                distribution: Some(q),
            }) = drafts.get(at)
            else {
                tokens.push(p.draw(noise(Purpose::Target)));
                break;
            };
            let ratio = f64::from(p.probability(*token)) / f64::from(q.probability(*token));
            if noise(self.judges()).uniform() >= ratio {
                let replacement = match self {
                    Self::ReplacedFromTarget => None,
                    _ => {
                        let rest = p.iter().map(|(token, p)| (token, p - q.probability(token)));
                        Distribution::from_weights(rest)
                    }
                };
                let noise = noise(Purpose::Residual);
                tokens.push(replacement.unwrap_or(p).draw(noise));
                break;
            }
            tokens.push(*token);
        }
        Ok(tokens)
    }
}

fn noise(rules: &Rules<'_>, position: u64, purpose: Purpose) -> Noise {
    Noise {
        seed: rules.params.seed,
        position,
        purpose,
    }
}

/// A sequence that has generated so much, and draws without end.
#[must_use]
pub fn rules<'a>(params: &'a SamplingParams, counts: &'a TokenCounts, generated: u64) -> Rules<'a> {
    Rules {
        params,
        counts,
        generated,
        stop_tokens: &[],
        min_tokens: 0,
        max_tokens: u64::MAX,
        constraint: None,
    }
}

/// Two models that know the last token only.
pub struct Toy {
    /// Logits by last token, `[VOCAB][VOCAB]`.
    target: Vec<f32>,
    draft: Vec<f32>,
}

impl Default for Toy {
    fn default() -> Self {
        let target = normal(31, ANSWERS);
        let other = normal(32, ANSWERS);
        let draft = target.iter().zip(&other);
        Self {
            draft: draft.map(|(a, b)| 0.5 * a + 0.9 * b).collect(),
            target,
        }
    }
}

impl Toy {
    /// The logits behind `text`; an empty one counts as token 0.
    fn row<'m>(model: &'m [f32], text: &[u32]) -> &'m [f32] {
        let last = text.last().map_or(0, |token| *token as usize);
        &model[last * VOCAB..][..VOCAB]
    }

    /// The first two tokens of the answer that has this seed.
    fn answer(&self, sampler: &mut Sampler, rule: Rule, seed: u64) -> Result<Vec<u32>> {
        let params = SamplingParams {
            seed,
            ..SamplingParams::default()
        };
        let (counts, mut text) = (TokenCounts::default(), Vec::new());
        while text.len() < 2 {
            let generated = text.len();
            let rules = rules(&params, &counts, generated as u64);
            let (mut guess, mut drafts) = (text.clone(), Vec::new());
            for _ in 0..DRAFTS {
                let row = Self::row(&self.draft, &guess);
                let Some(drafted) = rule.draft(sampler, &rules, row, guess.len() as u64)? else {
                    break;
                };
                guess.push(drafted.token);
                drafts.push(drafted);
            }
            let row = |at: usize| Self::row(&self.target, &guess[..generated + at]);
            text.extend(rule.verify(sampler, &rules, &drafts, row)?);
        }
        text.truncate(2);
        Ok(text)
    }

    /// Pearson's chi-square of the first two tokens of `draws` answers under `rule`, against their exact
    /// probabilities: 15 on average for a sound rule, as there are 16 answers.
    ///
    /// # Errors
    ///
    /// A row that is not one of numbers.
    pub fn chi_square(&self, rule: Rule, draws: u64) -> Result<f64> {
        let mut sampler = Sampler::new();
        let mut observed = [0.0; ANSWERS];
        for seed in 0..draws {
            let answer = self.answer(&mut sampler, rule, seed)?;
            observed[answer[0] as usize * VOCAB + answer[1] as usize] += 1.0;
        }
        let (params, counts) = (SamplingParams::default(), TokenCounts::default());
        let mut of = |text: &[u32]| {
            sampler.distribution(Self::row(&self.target, text), &params, &counts, &[])
        };
        let first = of(&[])?;
        let mut chi_square = 0.0;
        for (a, p) in first.iter() {
            for (b, q) in of(&[a])?.iter() {
                let expected = f64::from(p) * f64::from(q) * draws as f64;
                let found: f64 = observed[a as usize * VOCAB + b as usize];
                chi_square += (found - expected).powi(2) / expected;
            }
        }
        Ok(chi_square)
    }
}

/// What is known of two distributions `p` and `q` without drawing.
#[derive(Debug, Clone, Copy)]
pub struct Theory {
    /// Half the sum of the differences.
    pub total_variation: f64,
    /// The probability that two races with the same noise have the same winner.
    pub coupling: f64,
    /// The probability that two independent draws agree.
    pub own_noise: f64,
}

impl Theory {
    /// Of these two, in the square of their tokens.
    #[must_use]
    pub fn of(p: &Distribution, q: &Distribution) -> Self {
        let both: Vec<(f64, f64)> = p
            .iter()
            .map(|(token, p)| (f64::from(p), f64::from(q.probability(token))))
            .filter(|&(p, q)| p > 0.0 && q > 0.0)
            .collect();
        let shared: f64 = both.iter().map(|&(p, q)| p.min(q)).sum();
        // What only one of them has slows its race in full.
        let (p_rest, q_rest) = both
            .iter()
            .fold((1.0, 1.0), |(p, q), both| (p - both.0, q - both.1));
        let wins_both = |&(p, q): &(f64, f64)| {
            let others = both.iter().map(|other| (other.0 / p).max(other.1 / q));
            1.0 / (others.sum::<f64>() + p_rest.max(0.0) / p + q_rest.max(0.0) / q)
        };
        Self {
            total_variation: 1.0 - shared,
            coupling: both.iter().map(wins_both).sum(),
            own_noise: both.iter().map(|(p, q)| p * q).sum(),
        }
    }

    /// What coupling reaches at least (Daliri et al. 2024).
    #[must_use]
    pub fn least(&self) -> f64 {
        (1.0 - self.total_variation) / (1.0 + self.total_variation)
    }
}

/// Whether the first of `DRAFTS` would stand: one draft on the draft's row, judged on the target's.
///
/// # Errors
///
/// A row that is not one of numbers.
pub fn stands(
    sampler: &mut Sampler,
    rule: Rule,
    rules: &Rules<'_>,
    target: &[f32],
    draft: &[f32],
) -> Result<bool> {
    let Some(drafted) = rule.draft(sampler, rules, draft, rules.generated)? else {
        return Ok(false);
    };
    let drafts = [drafted];
    let mut verifier = Verifier::new(*rules, &drafts, rule.acceptance());
    verifier.row(sampler, target.into())?;
    Ok(verifier.finish().accepted > 0)
}
