//! How frequencies of rotary embeddings are altered for contexts longer than those of pre-training.
//!
//! All of it rounds where transformers rounds: numbers of the configuration are double precision, frequencies are f32.

use std::f64::consts::TAU;

/// An alteration of the frequencies.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum RopeScaling {
    /// None.
    Default,
    /// All are divided by this factor (Chen et al. 2023, arXiv 2306.15595).
    Linear(f64),
    /// Each is divided by a factor of its own.
    Factors(Vec<f32>),
    /// Llama 3.1's: slow turns are slowed by `factor`, fast ones kept, those between interpolated.
    Llama3(Llama3Scaling),
    /// YaRN (Peng et al. 2023, arXiv 2309.00071).
    Yarn(Yarn),
    /// LongRoPE (Ding et al. 2024, arXiv 2402.13753).
    LongRope(LongRope),
    /// A larger base for longer contexts, so that the slowest pair turns as far as in the trained one ("dynamic NTK": Peng et
    /// al. 2023, arXiv 2309.00071, section 3.2).
    Dynamic(DynamicNtk),
}

/// The parameters of [`RopeScaling::Llama3`].
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Llama3Scaling {
    /// What low frequencies are divided by.
    pub factor: f64,
    /// Below this many turns per original context a frequency counts as low.
    pub low_freq_factor: f64,
    /// Above this many turns per original context a frequency counts as high.
    pub high_freq_factor: f64,
    /// The context of pre-training, in tokens.
    pub original_max_position_embeddings: usize,
}

/// The parameters of [`RopeScaling::Yarn`].
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Yarn {
    /// What the frequencies of slow turns are divided by.
    pub factor: f64,
    /// From this many turns per original context on a frequency is kept.
    pub beta_fast: f64,
    /// Up to this many it is divided.
    pub beta_slow: f64,
    /// The context of pre-training, in tokens.
    pub original_max_position_embeddings: usize,
    /// Factor of cosines and sines.
    pub attention_factor: f64,
    /// Whether the pairs between which frequencies are interpolated are rounded to whole ones.
    pub truncate: bool,
}

/// The parameters of [`RopeScaling::Dynamic`].
///
/// The base belongs to the longest context that the model is set up for, as in vLLM, and is the trained one up to
/// `original_max_position_embeddings`. transformers takes it from the length so far, and leaves keys in its cache that were turned
/// by another base. What a cache holds must not depend on what came later, so that isn't done here: answers differ from
/// transformers' where a model is set up for more than the trained context.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct DynamicNtk {
    /// How many times the trained context the longest one is.
    pub factor: f64,
    /// The context of pre-training, in tokens.
    pub original_max_position_embeddings: usize,
}

/// The parameters of [`RopeScaling::LongRope`].
///
/// A model has two lists of factors, one for contexts up to the trained one and one for longer ones. Keys that were
/// cached under one list are wrong under the other. The list is therefore chosen once, by the longest context that the
/// model is set up for, as vLLM and llama.cpp do. transformers chooses by the length so far and forgets its cache when a
/// sequence outgrows the trained context: in a model set up for more, its answers to short prompts differ from ours.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LongRope {
    /// Divisors of the frequencies, one per pair, for contexts up to `original_max_position_embeddings`.
    pub short_factor: Vec<f32>,
    /// The same for longer ones.
    pub long_factor: Vec<f32>,
    /// The context of pre-training, in tokens.
    pub original_max_position_embeddings: usize,
    /// Factor of cosines and sines.
    pub attention_factor: f64,
}

impl RopeScaling {
    /// The factor of cosines and sines.
    pub(crate) fn attention_factor(&self) -> f32 {
        match self {
            Self::Yarn(yarn) => yarn.attention_factor as f32,
            Self::LongRope(long) => long.attention_factor as f32,
            _ => 1.0,
        }
    }

    /// The frequencies of a head of which `dims` numbers are turned, in a model set up for `context_len` tokens.
    pub(crate) fn frequencies(&self, theta: f64, dims: usize, context_len: usize) -> Vec<f32> {
        let theta = match self {
            Self::Dynamic(dynamic) => theta * dynamic.stretch(dims, context_len),
            _ => theta,
        };
        let powers = (0..dims / 2).map(|pair| {
            let exponent = (2 * pair) as f32 / dims as f32;
            theta.powf(f64::from(exponent)) as f32
        });
        match self {
            Self::Default | Self::Dynamic(_) => powers.map(|power| 1.0 / power).collect(),
            Self::Linear(factor) => powers.map(|power| 1.0 / power / *factor as f32).collect(),
            Self::Factors(factors) => {
                let factors = factors.iter();
                factors
                    .zip(powers)
                    .map(|(factor, power)| 1.0 / power / factor)
                    .collect()
            }
            Self::Llama3(scaling) => powers.map(|power| scaling.apply(1.0 / power)).collect(),
            Self::Yarn(yarn) => {
                let ramp = yarn.ramp(theta, dims);
                let pairs = powers.enumerate();
                pairs
                    .map(|(pair, power)| yarn.apply(power, ramp.at(pair)))
                    .collect()
            }
            Self::LongRope(long) => {
                let factors = long.factors(context_len).iter();
                factors
                    .zip(powers)
                    .map(|(factor, power)| 1.0 / (factor * power))
                    .collect()
            }
        }
    }
}

impl Llama3Scaling {
    /// Scales one frequency as the model's published code does.
    fn apply(&self, frequency: f32) -> f32 {
        let context = self.original_max_position_embeddings as f64;
        let (low, high) = (self.low_freq_factor, self.high_freq_factor);
        let frequency = f64::from(frequency);
        let turns = context * frequency / TAU;
        let scaled = if turns < low {
            frequency / self.factor
        } else if turns > high {
            frequency
        } else {
            let smooth = (turns - low) / (high - low);
            (1.0 - smooth) * frequency / self.factor + smooth * frequency
        };
        scaled as f32
    }
}

impl DynamicNtk {
    /// What the base is multiplied by; more than two numbers of a head are turned.
    pub(crate) fn stretch(&self, dims: usize, context_len: usize) -> f64 {
        let original = self.original_max_position_embeddings as f64;
        let times = (context_len as f64 / original).max(1.0);
        let longer = self.factor * times - (self.factor - 1.0);
        longer.powf(dims as f64 / (dims as f64 - 2.0))
    }

    /// The longest context.
    pub(crate) fn longest(&self) -> usize {
        (self.original_max_position_embeddings as f64 * self.factor) as usize
    }
}

/// From 0 at the first of two pairs to 1 at the second.
struct Ramp {
    low: f32,
    high: f32,
}

impl Ramp {
    fn at(&self, pair: usize) -> f32 {
        ((pair as f32 - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }
}

impl Yarn {
    /// The factor of cosines and sines that the paper gives (equation 22), `mscale` times as far from 1.
    pub(crate) fn paper_attention_factor(factor: f64, mscale: f64) -> f64 {
        match factor <= 1.0 {
            true => 1.0,
            false => 0.1 * mscale * factor.ln() + 1.0,
        }
    }

    /// Between which pairs frequencies are interpolated.
    fn ramp(&self, theta: f64, dims: usize) -> Ramp {
        let context = self.original_max_position_embeddings as f64;
        // The pair that makes so many turns in the original context.
        let pair_of =
            |turns: f64| dims as f64 * (context / (turns * TAU)).ln() / (2.0 * theta.ln());
        let (mut low, mut high) = (pair_of(self.beta_fast), pair_of(self.beta_slow));
        if self.truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        let (low, mut high) = (low.max(0.0), high.min(dims as f64 - 1.0));
        if low == high {
            high += 0.001;
        }
        Ramp {
            low: low as f32,
            high: high as f32,
        }
    }

    /// The frequency of `power` = theta^(2i / dims); `ramp` is how far it is slowed.
    fn apply(&self, power: f32, ramp: f32) -> f32 {
        let (kept, slowed) = (1.0 / power, 1.0 / (self.factor as f32 * power));
        let share = 1.0 - ramp;
        slowed * (1.0 - share) + kept * share
    }
}

impl LongRope {
    /// The factor of cosines and sines of the published models: `scale` is how many times the trained context the
    /// longest one is.
    pub(crate) fn published_attention_factor(scale: f64, original: usize) -> f64 {
        match scale <= 1.0 {
            true => 1.0,
            false => (1.0 + scale.ln() / (original as f64).ln()).sqrt(),
        }
    }

    fn factors(&self, context_len: usize) -> &[f32] {
        match context_len > self.original_max_position_embeddings {
            true => &self.long_factor,
            false => &self.short_factor,
        }
    }
}
