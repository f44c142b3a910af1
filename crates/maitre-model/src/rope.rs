//! Rotary position embedding: its configuration.
//!
//! Pair `i` of a head (elements `i` and `i + dims/2` of the `dims` that are turned) is turned by the angle
//! `position · frequency(i)`, with `frequency(i) = theta^(-2i/dims)` (Su et al. 2021, arXiv 2104.09864), unless the
//! frequencies are [scaled](RopeScaling) for longer contexts. Models whose pairs are [neighbours](RopePairs) are brought
//! into this form when they are loaded.

mod kinds;
mod scaling;

use crate::config::Settings;
use crate::error::ModelError;
use kinds::{read_growth, read_scaling, read_stretch};
pub use scaling::{DynamicNtk, Llama3Scaling, LongRope, RopeScaling, Yarn};

/// What transformers uses where no configuration gives a theta.
pub(crate) const DEFAULT_THETA: f64 = 10_000.0;

/// How positions turn into angles.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RopeConfig {
    /// The base of the geometric series of frequencies.
    pub theta: f64,
    /// How the frequencies are altered for contexts longer than those of pre-training.
    pub scaling: RopeScaling,
    /// Numbers of a head that are turned, even: the first ones.
    pub dims: usize,
    /// Which of them are turned together in the files.
    pub pairs: RopePairs,
    /// How queries grow with their position, if they do.
    pub query_growth: Option<QueryGrowth>,
}

/// Turned queries are multiplied by `1 + beta ln(1 + floor(position / original))`, so that attention to long contexts stays
/// as sharp as to those of pre-training (Nakanishi 2025, arXiv 2501.19399, is where the logarithm comes from).
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct QueryGrowth {
    /// How much a query grows.
    pub beta: f64,
    /// The context of pre-training, in tokens.
    pub original_max_position_embeddings: usize,
}

impl QueryGrowth {
    /// The factor at a position; every step is rounded to f32, as in transformers.
    pub(crate) fn factor(&self, position: usize) -> f32 {
        let periods = (position / self.original_max_position_embeddings) as f32;
        1.0 + self.beta as f32 * (1.0 + periods).ln()
    }
}

/// Which numbers of a head are a pair, of those that are turned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RopePairs {
    /// One of the first half and one of the second.
    Halves,
    /// Two that lie side by side. Scores do not depend on the order of a head's numbers as long as queries and keys have
    /// the same: so the rows of both projections are brought into the order of halves when they are loaded. (Weights of norms of heads
    /// would have to be, too; no family has both.)
    Neighbours,
}

/// What the rest of a configuration says to RoPE.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RopeContext {
    pub(crate) head_dim: usize,
    pub(crate) max_position_embeddings: usize,
    /// The base where no setting gives it.
    pub(crate) theta: f64,
    /// The trained context where no setting gives it.
    pub(crate) original: usize,
    /// Which numbers of a head are turned together.
    pub(crate) pairs: RopePairs,
    /// The share of a head that is turned where `partial_rotary_factor` does not say, if the family implements that.
    pub(crate) turned_part: Option<f64>,
    /// Whether the family implements `dynamic` with an `alpha`, a larger base for all lengths.
    pub(crate) has_alpha: bool,
    /// Whether the family implements `dynamic`, a larger base for longer contexts.
    pub(crate) has_dynamic: bool,
    /// Whether the family implements LongRoPE.
    pub(crate) has_long_rope: bool,
    /// Whether the family's queries grow with their position.
    pub(crate) has_query_growth: bool,
}

/// Bases of a family whose layers with a window have their own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Thetas {
    /// Of layers that read the whole context, where `rope_theta` is absent.
    pub(crate) full: f64,
    /// Of layers with a window, where theirs is absent.
    pub(crate) windowed: f64,
    /// The setting of transformers 4 that holds it; without one it is `rope_theta`.
    pub(crate) windowed_key: Option<&'static str>,
}

impl RopeConfig {
    /// Reads `rope_parameters` (transformers v5), or `rope_theta` and `rope_scaling` (v4).
    pub(crate) fn read(settings: &Settings<'_>, context: &RopeContext) -> Result<Self, ModelError> {
        let nested = nested_object(settings)?;
        let theta = read_theta(settings, nested.as_ref(), "rope_theta")?;
        Self::of_object(
            settings,
            nested.as_ref(),
            theta.unwrap_or(context.theta),
            context,
        )
    }

    /// Reads that of layers without a window and that of layers with one: an object each in `rope_parameters` (v5), or
    /// settings of which `rope_scaling` acts on the first alone (v4).
    pub(crate) fn read_by_layer_type(
        settings: &Settings<'_>,
        context: &RopeContext,
        thetas: Thetas,
    ) -> Result<[Self; 2], ModelError> {
        let outer = settings.positive("rope_theta")?;
        let windowed = match thetas.windowed_key {
            Some(key) => settings.positive(key)?,
            None => outer,
        };
        let plain = |theta| Self::of_object(settings, None, theta, context);
        if let Some(v5) = settings.object("rope_parameters", "rope_parameters.")? {
            let full = v5.object("full_attention", "rope_parameters.full_attention.")?;
            let sliding = v5.object("sliding_attention", "rope_parameters.sliding_attention.")?;
            if full.is_some() || sliding.is_some() {
                v5.refuse_others(&["full_attention", "sliding_attention"])?;
                // Both spellings at once are refused, as for families with one object.
                nested_object(settings)?;
                let theta = read_theta(settings, full.as_ref(), "rope_theta")?;
                let of_full = theta.unwrap_or(thetas.full);
                let theta = match thetas.windowed_key {
                    Some(key) => read_theta(settings, sliding.as_ref(), key)?,
                    // What stands outside is that of the other layers.
                    None => match &sliding {
                        Some(object) => object.positive("rope_theta")?,
                        None => outer,
                    },
                };
                let of_windowed = theta.unwrap_or(thetas.windowed);
                return Ok([
                    Self::of_object(settings, full.as_ref(), of_full, context)?,
                    Self::of_object(settings, sliding.as_ref(), of_windowed, context)?,
                ]);
            }
        }
        let nested = nested_object(settings)?;
        let theta = read_theta(settings, nested.as_ref(), "rope_theta")?;
        let theta = theta.unwrap_or(thetas.full);
        Ok([
            Self::of_object(settings, nested.as_ref(), theta, context)?,
            plain(windowed.unwrap_or(thetas.windowed))?,
        ])
    }

    fn of_object(
        settings: &Settings<'_>,
        object: Option<&Settings<'_>>,
        theta: f64,
        context: &RopeContext,
    ) -> Result<Self, ModelError> {
        let dims = read_dims(settings, object, context)?;
        let (scaling, stretch) = match object {
            None => (RopeScaling::Default, 1.0),
            Some(object) => (
                read_scaling(settings, object, dims, context)?,
                read_stretch(object, dims, context)?,
            ),
        };
        Ok(Self {
            theta: theta * stretch,
            scaling,
            dims,
            pairs: context.pairs,
            query_growth: match object {
                Some(object) if context.has_query_growth => Some(read_growth(object)?),
                _ => None,
            },
        })
    }

    /// The angles per position, before multiplication by the position, in a model set up for `context_len` tokens.
    pub(crate) fn frequencies(&self, context_len: usize) -> Vec<f32> {
        self.scaling.frequencies(self.theta, self.dims, context_len)
    }
}

/// The one object that describes RoPE.
fn nested_object<'a>(settings: &Settings<'a>) -> Result<Option<Settings<'a>>, ModelError> {
    let v5 = settings.object("rope_parameters", "rope_parameters.")?;
    let v4 = settings.object("rope_scaling", "rope_scaling.")?;
    match (v5, v4) {
        (Some(_), Some(_)) => Err(settings.contradicts(
            "rope_scaling",
            "an object beside rope_parameters".to_owned(),
            "only one of the two".to_owned(),
        )),
        (one, other) => Ok(one.or(other)),
    }
}

/// The base, which may stand in the object, outside or in both places alike.
fn read_theta(
    settings: &Settings<'_>,
    nested: Option<&Settings<'_>>,
    key: &'static str,
) -> Result<Option<f64>, ModelError> {
    let outer = settings.positive(key)?;
    let inner = nested.map(|it| it.positive("rope_theta")).transpose()?;
    match (inner.flatten(), outer) {
        (Some(inner), Some(outer)) if inner != outer => Err(settings.contradicts(
            key,
            outer.to_string(),
            format!("{inner}, as in the nested object, or absent"),
        )),
        (inner, outer) => Ok(inner.or(outer)),
    }
}

/// Numbers of a head that are turned.
fn read_dims(
    settings: &Settings<'_>,
    object: Option<&Settings<'_>>,
    context: &RopeContext,
) -> Result<usize, ModelError> {
    const KEY: &str = "partial_rotary_factor";
    let Some(default) = context.turned_part else {
        return Ok(context.head_dim);
    };
    let inner = object.map(|it| it.positive(KEY)).transpose()?.flatten();
    let share = inner.map_or_else(|| settings.positive(KEY), |inner| Ok(Some(inner)))?;
    let share = share.unwrap_or(default);
    let dims = (context.head_dim as f64 * share) as usize;
    if dims == 0 || !dims.is_multiple_of(2) || dims > context.head_dim {
        let head_dim = context.head_dim;
        return Err(settings.contradicts(
            KEY,
            share.to_string(),
            format!(
                "a share of head_dim = {head_dim} that is an even number, because pairs are turned"
            ),
        ));
    }
    Ok(dims)
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
            dims: 128,
            pairs: RopePairs::Halves,
            query_growth: None,
        }
    }

    #[test]
    fn llama3_keeps_fast_turns_and_slows_slow_ones() {
        let scaled = llama31().frequencies(1);
        let plain = RopeConfig {
            scaling: RopeScaling::Default,
            ..llama31()
        }
        .frequencies(1);
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
    fn a_dynamic_base_belongs_to_the_context_that_the_model_is_set_up_for() {
        let rope = RopeConfig {
            theta: 100.0,
            scaling: RopeScaling::Dynamic(DynamicNtk {
                factor: 4.0,
                original_max_position_embeddings: 100,
            }),
            dims: 8,
            pairs: RopePairs::Halves,
            query_growth: None,
        };
        let plain = RopeConfig {
            scaling: RopeScaling::Default,
            ..rope.clone()
        };
        assert_eq!(rope.frequencies(100), plain.frequencies(100));
        assert_eq!(rope.frequencies(7), plain.frequencies(100));
        // The slowest pair turns as far in the longer context: (4 · 2 - 3) times slower.
        let [longer, trained] = [rope.frequencies(200), plain.frequencies(100)];
        assert_eq!(longer[0], 1.0);
        assert!((trained[3] / longer[3] - 5.0).abs() < 1e-5);
    }

    #[test]
    fn long_rope_takes_its_factors_by_the_context_it_is_set_up_for() {
        let rope = RopeConfig {
            theta: 10_000.0,
            scaling: RopeScaling::LongRope(LongRope {
                short_factor: vec![1.0, 2.0],
                long_factor: vec![4.0, 8.0],
                original_max_position_embeddings: 100,
                attention_factor: 1.2,
            }),
            dims: 4,
            pairs: RopePairs::Halves,
            query_growth: None,
        };
        assert_eq!(rope.frequencies(100), [1.0, 0.005]);
        assert_eq!(rope.frequencies(101), [0.25, 0.00125]);
    }
}
