//! Rotary position embedding: its configuration and its tables of cosines and sines.
//!
//! Pair `i` of a head (elements `i` and `i + head_dim/2`) is turned by the angle
//! `position · frequency(i)`, with `frequency(i) = theta^(-2i/head_dim)` (Su et al. 2021,
//! arXiv 2104.09864). Llama 3.1 stretches the low frequencies for longer contexts.
//!
//! Models are trained and published with angles computed in f32, whose rounding at position 10,000
//! already shows in the third decimal. The tables therefore round where the reference does.

use maitre_tensor::{Backend, Buffer, TensorError};

use crate::config::Settings;
use crate::error::ModelError;

/// What transformers uses where no configuration gives a theta.
const DEFAULT_THETA: f64 = 10_000.0;

/// How positions turn into angles.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct RopeConfig {
    /// The base of the geometric series of frequencies.
    pub theta: f64,
    /// How the frequencies are altered for contexts longer than those of pre-training.
    pub scaling: RopeScaling,
}

/// An alteration of the frequencies.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum RopeScaling {
    /// None.
    Default,
    /// Llama 3.1's: slow turns are slowed by `factor`, fast ones kept, those between interpolated.
    Llama3(Llama3Scaling),
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

impl RopeConfig {
    /// Reads `rope_parameters` (transformers v5), or `rope_theta` and `rope_scaling` (v4).
    pub(crate) fn from_settings(settings: &Settings<'_>) -> Result<Self, ModelError> {
        let v5 = settings.object("rope_parameters", "rope_parameters.")?;
        let v4 = settings.object("rope_scaling", "rope_scaling.")?;
        let nested = match (v5, v4) {
            (Some(_), Some(_)) => {
                return Err(settings.contradicts(
                    "rope_scaling",
                    "an object beside rope_parameters".to_owned(),
                    "only one of the two".to_owned(),
                ));
            }
            (one, other) => one.or(other),
        };
        let outer_theta = settings.positive("rope_theta")?;
        let Some(nested) = nested else {
            return Ok(Self {
                theta: outer_theta.unwrap_or(DEFAULT_THETA),
                scaling: RopeScaling::Default,
            });
        };
        let inner_theta = nested.positive("rope_theta")?;
        if let (Some(inner), Some(outer)) = (inner_theta, outer_theta)
            && inner != outer
        {
            return Err(settings.contradicts(
                "rope_theta",
                outer.to_string(),
                format!("{inner}, as in the nested object, or absent"),
            ));
        }
        Ok(Self {
            theta: inner_theta.or(outer_theta).unwrap_or(DEFAULT_THETA),
            scaling: read_scaling(settings, &nested)?,
        })
    }

    /// The `head_dim / 2` angles per position, before multiplication by the position.
    pub(crate) fn frequencies(&self, head_dim: usize) -> Vec<f32> {
        (0..head_dim / 2)
            .map(|pair| {
                let exponent = (2 * pair) as f32 / head_dim as f32;
                let base = 1.0 / self.theta.powf(f64::from(exponent)) as f32;
                match &self.scaling {
                    RopeScaling::Default => base,
                    RopeScaling::Llama3(scaling) => scaling.apply(base),
                }
            })
            .collect()
    }
}

impl Llama3Scaling {
    /// Scales one frequency as the model's published code does.
    fn apply(&self, frequency: f32) -> f32 {
        let context = self.original_max_position_embeddings as f64;
        let (low, high) = (self.low_freq_factor, self.high_freq_factor);
        let frequency = f64::from(frequency);
        let turns = context * frequency / std::f64::consts::TAU;
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

/// The keys that may stand beside `rope_type`, apart from those a type asks for.
const COMMON_KEYS: &[&str] = &[
    "rope_type",
    "type",
    "rope_theta",
    "original_max_position_embeddings",
];
const LLAMA3_KEYS: &[&str] = &["factor", "low_freq_factor", "high_freq_factor"];

fn read_scaling(outer: &Settings<'_>, nested: &Settings<'_>) -> Result<RopeScaling, ModelError> {
    let kind = match nested.text("rope_type")? {
        Some(kind) => kind,
        None => nested.text("type")?.unwrap_or("default"),
    };
    let (scaling, own_keys): (_, &[&str]) = match kind {
        "default" => (RopeScaling::Default, &[]),
        "llama3" => (
            RopeScaling::Llama3(read_llama3(outer, nested)?),
            LLAMA3_KEYS,
        ),
        other => {
            return Err(nested.unsupported("rope_type", &other.into(), "default, llama3"));
        }
    };
    for (key, value) in nested.entries() {
        let one = matches!(key, "partial_rotary_factor" | "factor" | "attention_factor")
            && value.as_f64() == Some(1.0);
        if !one && !COMMON_KEYS.contains(&key) && !own_keys.contains(&key) {
            let supported = format!("no such key with rope_type {kind}");
            return Err(nested.unsupported(key, value, &supported));
        }
    }
    Ok(scaling)
}

fn read_llama3(outer: &Settings<'_>, nested: &Settings<'_>) -> Result<Llama3Scaling, ModelError> {
    let required = |key: &str| {
        nested
            .positive(key)?
            .ok_or_else(|| nested.missing(key, "a number above 0, for rope_type llama3"))
    };
    const CONTEXT: &str = "original_max_position_embeddings";
    // Phi and its kin keep the original context outside; where both are given, that one counts.
    let context = match outer.size(CONTEXT)? {
        Some(context) => context,
        None => nested.required_size(CONTEXT)?,
    };
    let scaling = Llama3Scaling {
        factor: required("factor")?,
        low_freq_factor: required("low_freq_factor")?,
        high_freq_factor: required("high_freq_factor")?,
        original_max_position_embeddings: context,
    };
    if scaling.high_freq_factor <= scaling.low_freq_factor {
        return Err(nested.contradicts(
            "high_freq_factor",
            scaling.high_freq_factor.to_string(),
            format!("more than low_freq_factor = {}", scaling.low_freq_factor),
        ));
    }
    Ok(scaling)
}

/// Cosines and sines of every angle, `[positions, head_dim / 2]` each.
#[derive(Debug)]
pub(crate) struct RopeTables {
    pub(crate) cos: Buffer,
    pub(crate) sin: Buffer,
}

impl RopeTables {
    /// Tables for positions `0..positions`.
    pub(crate) fn new(
        backend: &Backend,
        config: &RopeConfig,
        head_dim: usize,
        positions: usize,
    ) -> Result<Self, TensorError> {
        let frequencies = config.frequencies(head_dim);
        let angles = || {
            (0..positions).flat_map(|position| {
                frequencies
                    .iter()
                    .map(move |frequency| f64::from(position as f32 * frequency))
            })
        };
        let table = |function: fn(f64) -> f64| -> Result<Buffer, TensorError> {
            let values: Vec<f32> = angles().map(|angle| function(angle) as f32).collect();
            backend.vector(&values)
        };
        Ok(Self {
            cos: table(f64::cos)?,
            sin: table(f64::sin)?,
        })
    }

    pub(crate) fn size_in_bytes(&self) -> usize {
        self.cos.size_in_bytes() + self.sin.size_in_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn llama31() -> RopeConfig {
        RopeConfig {
            theta: 500_000.0,
            scaling: RopeScaling::Llama3(Llama3Scaling {
                factor: 8.0,
                low_freq_factor: 1.0,
                high_freq_factor: 4.0,
                original_max_position_embeddings: 8192,
            }),
        }
    }

    #[test]
    fn llama3_keeps_fast_turns_and_slows_slow_ones() {
        let scaled = llama31().frequencies(128);
        let plain = RopeConfig {
            theta: 500_000.0,
            scaling: RopeScaling::Default,
        }
        .frequencies(128);
        assert_eq!(scaled[0], 1.0);
        assert_eq!(scaled[20], plain[20]);
        assert_eq!(scaled[63], plain[63] / 8.0);
        let between = (0..64)
            .filter(|&pair| scaled[pair] != plain[pair] && scaled[pair] != plain[pair] / 8.0)
            .count();
        assert!((5..=9).contains(&between), "{between} interpolated");
        assert!(scaled.windows(2).all(|pair| pair[0] > pair[1]));
    }

    #[test]
    fn tables_hold_the_angle_of_position_times_frequency() {
        let config = llama31();
        let tables = RopeTables::new(&Backend::cpu(1).unwrap(), &config, 8, 300).unwrap();
        let angle = 299.0 * config.frequencies(8)[1];
        assert_eq!(tables.cos.f32s().unwrap()[299 * 4 + 1], angle.cos());
        assert_eq!(tables.sin.f32s().unwrap()[299 * 4 + 1], angle.sin());
        assert_eq!(tables.cos.f32s().unwrap()[..4], [1.0; 4]);
    }
}
