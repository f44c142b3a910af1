//! What a request may ask of the sampler, and which values are refused.
//!
//! [`SamplingParams::validate`] is called once, when a request arrives, and reports everything that
//! is wrong at once; the sampler then takes validity for granted (an invalid value draws some token,
//! it does not panic).

use std::fmt;

use crate::{Exclusions, adjust};

/// Most log-probabilities a request may ask for per token.
pub const MAX_LOGPROBS: u32 = 20;
/// Most entries of a `logit_bias`.
pub const MAX_LOGIT_BIAS: usize = 1024;
/// Largest magnitude of one bias, in logits.
pub const MAX_ABS_LOGIT_BIAS: f32 = 100.0;
/// Largest magnitude of the frequency and the presence penalty, in logits.
pub const MAX_ABS_PENALTY: f32 = 2.0;
/// Temperatures below this are greedy, as zero is: no difference of logits that matters survives them.
pub const GREEDY_BELOW: f32 = 1e-5;

/// How the next token is chosen from a row of logits.
///
/// The default draws from the model's own distribution: temperature 1, everything else off.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingParams {
    /// Divides the logits; ≥ 0. Zero takes the most probable token, the lowest id among equals.
    pub temperature: f32,
    /// Keeps the fewest tokens that together are this probable, in (0, 1]; 1 is off.
    pub top_p: f32,
    /// Keeps this many of the most probable tokens; 0 is off.
    pub top_k: u32,
    /// Keeps tokens at least this probable, as a share of the most probable one, in [0, 1]; 0 is off.
    pub min_p: f32,
    /// Divides the positive and multiplies the negative logits of tokens in the prompt or the output
    /// so far, > 0; 1 is off (Keskar et al. 2019, CTRL, section 4.1).
    pub repetition_penalty: f32,
    /// Taken off a logit for each time its token was generated, in [-2, 2]; 0 is off.
    pub frequency_penalty: f32,
    /// Taken off a logit if its token was generated at all, in [-2, 2]; 0 is off.
    pub presence_penalty: f32,
    /// Which of all possible answers: the key of the [`noise`](crate::noise).
    pub seed: u64,
    /// `(token, what is added to its logit)`, each token at most once.
    pub logit_bias: Vec<(u32, f32)>,
    /// How many of the most probable tokens are reported beside the chosen one; `None` reports nothing.
    pub logprobs: Option<u32>,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            seed: 0,
            logit_bias: Vec::new(),
            logprobs: None,
        }
    }
}

/// One thing that is wrong with a request's parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidParam {
    /// The field of [`SamplingParams`].
    pub field: &'static str,
    /// What was found and what was expected.
    pub description: String,
}

impl fmt::Display for InvalidParam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.description)
    }
}

impl SamplingParams {
    /// Whether more than the row decides which token is chosen: masks, bans, biases, penalties.
    #[must_use]
    pub fn adjusts_rows<'a>(&self, excluded: impl Into<Exclusions<'a>>) -> bool {
        adjust::is_needed(self, excluded.into())
    }

    /// Whether any penalty is on, so that it matters which tokens came before.
    #[must_use]
    pub fn uses_counts(&self) -> bool {
        self.repetition_penalty != 1.0
            || self.frequency_penalty != 0.0
            || self.presence_penalty != 0.0
    }

    /// Everything that is wrong with these parameters for a model of `vocab_size` tokens; empty if
    /// they can be used. The number of violations is bounded whatever the request holds.
    #[must_use]
    pub fn validate(&self, vocab_size: usize) -> Vec<InvalidParam> {
        let mut found = Violations::default();
        let finite_and_at_least_0 = |x: f32| x.is_finite() && x >= 0.0;
        let penalty = |x: f32| x.abs() <= MAX_ABS_PENALTY;
        let penalty_range = format!("a number in [-{MAX_ABS_PENALTY}, {MAX_ABS_PENALTY}]");

        found.check(
            "temperature",
            self.temperature,
            finite_and_at_least_0,
            "a finite number >= 0",
        );
        found.check(
            "top_p",
            self.top_p,
            |x| x > 0.0 && x <= 1.0,
            "a number in (0, 1]",
        );
        found.check(
            "min_p",
            self.min_p,
            |x| (0.0..=1.0).contains(&x),
            "a number in [0, 1]",
        );
        found.check(
            "repetition_penalty",
            self.repetition_penalty,
            |x| x.is_finite() && x > 0.0,
            "a finite number > 0",
        );
        found.check(
            "frequency_penalty",
            self.frequency_penalty,
            penalty,
            &penalty_range,
        );
        found.check(
            "presence_penalty",
            self.presence_penalty,
            penalty,
            &penalty_range,
        );
        self.check_logit_bias(vocab_size, &mut found);
        if let Some(k) = self.logprobs.filter(|k| *k > MAX_LOGPROBS) {
            found.add(
                "logprobs",
                format!("is {k}, expected at most {MAX_LOGPROBS}"),
            );
        }
        found.0
    }

    /// One violation for each kind of mistake, naming its first case.
    fn check_logit_bias(&self, vocab_size: usize, found: &mut Violations) {
        const FIELD: &str = "logit_bias";
        let entries = &self.logit_bias;
        if entries.len() > MAX_LOGIT_BIAS {
            let count = entries.len();
            found.add(
                FIELD,
                format!("has {count} entries, expected at most {MAX_LOGIT_BIAS}"),
            );
            return;
        }
        if let Some((token, _)) = entries
            .iter()
            .find(|(token, _)| *token as usize >= vocab_size)
        {
            let message = format!("names token {token}, expected a token id below {vocab_size}");
            found.add(FIELD, message);
        }
        let in_range = |bias: f32| bias.abs() <= MAX_ABS_LOGIT_BIAS;
        if let Some((token, bias)) = entries.iter().find(|(_, bias)| !in_range(*bias)) {
            let range = format!("[-{MAX_ABS_LOGIT_BIAS}, {MAX_ABS_LOGIT_BIAS}]");
            found.add(
                FIELD,
                format!("adds {bias} to token {token}, expected a number in {range}"),
            );
        }
        let mut tokens: Vec<u32> = entries.iter().map(|(token, _)| *token).collect();
        tokens.sort_unstable();
        if let Some(pair) = tokens.windows(2).find(|pair| pair[0] == pair[1]) {
            found.add(
                FIELD,
                format!("names token {} twice, expected it once", pair[0]),
            );
        }
    }
}

#[derive(Default)]
struct Violations(Vec<InvalidParam>);

impl Violations {
    fn add(&mut self, field: &'static str, description: String) {
        self.0.push(InvalidParam { field, description });
    }

    fn check(&mut self, field: &'static str, value: f32, ok: impl Fn(f32) -> bool, expected: &str) {
        if !ok(value) {
            self.add(field, format!("is {value}, expected {expected}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOCAB: usize = 100;

    /// The fields a default request with this one change violates.
    fn fields(change: impl FnOnce(&mut SamplingParams)) -> Vec<&'static str> {
        let mut params = SamplingParams::default();
        change(&mut params);
        params
            .validate(VOCAB)
            .into_iter()
            .map(|violation| violation.field)
            .collect()
    }

    /// A setter of one number, the numbers it must refuse, the numbers it must take.
    type Row = (
        &'static str,
        fn(&mut SamplingParams, f32),
        &'static [f32],
        &'static [f32],
    );

    const NUMBERS: [Row; 6] = [
        (
            "temperature",
            |p, x| p.temperature = x,
            &[-0.1, -1e-30],
            &[0.0, 1e-6, 1.0, 1e9],
        ),
        (
            "top_p",
            |p, x| p.top_p = x,
            &[0.0, -0.5, 1.000_001],
            &[1e-9, 0.5, 1.0],
        ),
        ("min_p", |p, x| p.min_p = x, &[-1e-9, 1.1], &[0.0, 0.5, 1.0]),
        (
            "repetition_penalty",
            |p, x| p.repetition_penalty = x,
            &[0.0, -1.0],
            &[1e-9, 1.0, 10.0],
        ),
        (
            "frequency_penalty",
            |p, x| p.frequency_penalty = x,
            &[-2.1, 2.1],
            &[-2.0, 0.0, 2.0],
        ),
        (
            "presence_penalty",
            |p, x| p.presence_penalty = x,
            &[-2.1, 2.1],
            &[-2.0, 0.0, 2.0],
        ),
    ];

    #[test]
    fn numbers_are_checked_against_their_range() {
        for (field, set, refused, taken) in NUMBERS {
            for bad in refused
                .iter()
                .chain(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY])
            {
                assert_eq!(fields(|p| set(p, *bad)), [field], "{field} = {bad}");
            }
            for good in taken {
                assert_eq!(fields(|p| set(p, *good)), [""; 0], "{field} = {good}");
            }
        }
    }

    #[test]
    fn logit_bias_is_checked_entry_by_entry() {
        let many = |n: u32| (0..n).map(|token| (token, 1.0)).collect::<Vec<_>>();
        let bad: [Vec<(u32, f32)>; 6] = [
            vec![(100, 1.0)],
            vec![(1, 1.0), (2, 100.5)],
            vec![(1, f32::NAN)],
            vec![(1, f32::NEG_INFINITY)],
            vec![(7, 1.0), (3, 1.0), (7, 2.0)],
            many(MAX_LOGIT_BIAS as u32 + 1),
        ];
        for bias in bad {
            let start = bias[..bias.len().min(3)].to_vec();
            assert_eq!(
                fields(|p| p.logit_bias = bias),
                ["logit_bias"],
                "{start:?}…"
            );
        }
        let params = SamplingParams {
            logit_bias: many(MAX_LOGIT_BIAS as u32),
            ..Default::default()
        };
        assert_eq!(params.validate(MAX_LOGIT_BIAS), []);
        assert_eq!(
            fields(|p| p.logit_bias = vec![(99, -100.0), (0, 100.0)]),
            [""; 0]
        );
    }

    #[test]
    fn everything_wrong_is_reported_at_once() {
        let params = SamplingParams {
            temperature: f32::NAN,
            top_p: 0.0,
            top_k: 0,
            min_p: 2.0,
            repetition_penalty: 0.0,
            frequency_penalty: 3.0,
            presence_penalty: -3.0,
            seed: 0,
            logit_bias: vec![(VOCAB as u32, f32::INFINITY)],
            logprobs: Some(MAX_LOGPROBS + 1),
        };
        let messages: Vec<String> = params
            .validate(VOCAB)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            messages,
            [
                "temperature: is NaN, expected a finite number >= 0",
                "top_p: is 0, expected a number in (0, 1]",
                "min_p: is 2, expected a number in [0, 1]",
                "repetition_penalty: is 0, expected a finite number > 0",
                "frequency_penalty: is 3, expected a number in [-2, 2]",
                "presence_penalty: is -3, expected a number in [-2, 2]",
                "logit_bias: names token 100, expected a token id below 100",
                "logit_bias: adds inf to token 100, expected a number in [-100, 100]",
                "logprobs: is 21, expected at most 20",
            ]
        );
    }
}
