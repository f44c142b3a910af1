//! Rotary position embedding: its configuration.
//!
//! Pair `i` of a head (elements `i` and `i + dims/2` of the `dims` that are turned) is turned by the angle
//! `position · frequency(i)`, with `frequency(i) = theta^(-2i/dims)` (Su et al. 2021, arXiv 2104.09864), unless the
//! frequencies are [scaled](RopeScaling) for longer contexts. Models whose pairs are [neighbours](RopePairs) are brought
//! into this form when they are loaded.

mod scaling;

use crate::config::{Settings, is_positive};
use crate::error::ModelError;
pub use scaling::{Llama3Scaling, LongRope, RopeScaling, Yarn};

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
    /// Whether the family implements LongRoPE.
    pub(crate) has_long_rope: bool,
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

/// The keys that may stand beside `rope_type`, apart from those a type asks for.
const COMMON_KEYS: &[&str] = &[
    "rope_type",
    "type",
    "rope_theta",
    "original_max_position_embeddings",
];
const ALPHA_KEYS: &[&str] = &[
    "alpha",
    // Written beside it, and without effect in the published code.
    "factor",
    "beta_fast",
    "beta_slow",
    "mscale",
    "mscale_all_dim",
];
const YARN_KEYS: &[&str] = &[
    "factor",
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "mscale",
    "mscale_all_dim",
    "truncate",
];

fn read_scaling(
    outer: &Settings<'_>,
    nested: &Settings<'_>,
    dims: usize,
    context: &RopeContext,
) -> Result<RopeScaling, ModelError> {
    let kind = match nested.text("rope_type")? {
        Some(kind) => kind,
        None => nested.text("type")?.unwrap_or("default"),
    };
    let (scaling, own_keys): (_, &[&str]) = match kind {
        "default" => (RopeScaling::Default, &[]),
        "linear" => {
            let factor = required(nested, "factor", "linear")?;
            (RopeScaling::Linear(factor), &["factor"])
        }
        "dynamic" if context.has_alpha => (RopeScaling::Default, ALPHA_KEYS),
        "llama3" => (
            RopeScaling::Llama3(read_llama3(outer, nested)?),
            &["factor", "low_freq_factor", "high_freq_factor"],
        ),
        "yarn" => (
            RopeScaling::Yarn(read_yarn(outer, nested, context)?),
            YARN_KEYS,
        ),
        // `su` is what the first Phi-3 models call it.
        "longrope" | "su" if context.has_long_rope => (
            RopeScaling::LongRope(read_long_rope(outer, nested, dims, context)?),
            &["short_factor", "long_factor", "factor", "attention_factor"],
        ),
        other => {
            let mut supported = "default, linear, llama3, yarn".to_owned();
            for (is_read, kind) in [
                (context.has_long_rope, ", longrope"),
                (context.has_alpha, ", dynamic with an alpha"),
            ] {
                supported += if is_read { kind } else { "" };
            }
            return Err(nested.unsupported("rope_type", &other.into(), &supported));
        }
    };
    for (key, value) in nested.entries() {
        let one = matches!(key, "partial_rotary_factor" | "factor" | "attention_factor")
            && value.as_f64() == Some(1.0);
        let is_read = key == "partial_rotary_factor" && context.turned_part.is_some();
        if !one && !is_read && !COMMON_KEYS.contains(&key) && !own_keys.contains(&key) {
            let supported = format!("no such key with rope_type {kind}");
            return Err(nested.unsupported(key, value, &supported));
        }
    }
    Ok(scaling)
}

/// What the base is multiplied by: `alpha` of `dynamic` ("NTK-aware" scaling) is how many times longer contexts may be, and
/// slows the slowest pair by just that.
fn read_stretch(
    nested: &Settings<'_>,
    dims: usize,
    context: &RopeContext,
) -> Result<f64, ModelError> {
    let kind = match nested.text("rope_type")? {
        Some(kind) => Some(kind),
        None => nested.text("type")?,
    };
    if !context.has_alpha || kind != Some("dynamic") {
        return Ok(1.0);
    }
    let alpha = nested.positive("alpha")?.ok_or_else(|| {
        let expected = "a number above 0, for rope_type dynamic";
        nested.missing("alpha", expected)
    })?;
    let stretch = alpha.powf(dims as f64 / (dims as f64 - 2.0));
    match is_positive(stretch) {
        true => Ok(stretch),
        false => {
            let expected = format!("a number that can be raised for heads of {dims}");
            Err(nested.contradicts("alpha", alpha.to_string(), expected))
        }
    }
}

fn required(nested: &Settings<'_>, key: &'static str, kind: &str) -> Result<f64, ModelError> {
    let expected = match kind {
        "llama3" => "a number above 0, for rope_type llama3",
        "yarn" => "a number above 0, for rope_type yarn",
        _ => "a number above 0, for rope_type linear",
    };
    nested
        .positive(key)?
        .ok_or_else(|| nested.missing(key, expected))
}

const ORIGINAL: &str = "original_max_position_embeddings";

/// The trained context. Phi and its kin keep it outside; where both are given, that one counts.
fn original_context(
    outer: &Settings<'_>,
    nested: &Settings<'_>,
) -> Result<Option<usize>, ModelError> {
    match outer.size(ORIGINAL)? {
        Some(context) => Ok(Some(context)),
        None => nested.size(ORIGINAL),
    }
}

fn read_llama3(outer: &Settings<'_>, nested: &Settings<'_>) -> Result<Llama3Scaling, ModelError> {
    let number = |key| required(nested, key, "llama3");
    let context = match original_context(outer, nested)? {
        Some(context) => context,
        None => nested.required_size(ORIGINAL)?,
    };
    let scaling = Llama3Scaling {
        factor: number("factor")?,
        low_freq_factor: number("low_freq_factor")?,
        high_freq_factor: number("high_freq_factor")?,
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

fn read_yarn(
    outer: &Settings<'_>,
    nested: &Settings<'_>,
    context: &RopeContext,
) -> Result<Yarn, ModelError> {
    let factor = required(nested, "factor", "yarn")?;
    let mscales = (nested.number("mscale")?, nested.number("mscale_all_dim")?);
    let attention_factor = match (nested.positive("attention_factor")?, mscales) {
        (Some(given), _) => given,
        (None, (Some(one), Some(all))) if one != 0.0 && all != 0.0 => {
            Yarn::paper_attention_factor(factor, one) / Yarn::paper_attention_factor(factor, all)
        }
        _ => Yarn::paper_attention_factor(factor, 1.0),
    };
    Ok(Yarn {
        factor,
        beta_fast: nested.positive("beta_fast")?.unwrap_or(32.0),
        beta_slow: nested.positive("beta_slow")?.unwrap_or(1.0),
        original_max_position_embeddings: original_context(outer, nested)?
            .unwrap_or(context.original),
        attention_factor,
        truncate: nested.optional_flag("truncate")?.unwrap_or(true),
    })
}

fn read_long_rope(
    outer: &Settings<'_>,
    nested: &Settings<'_>,
    dims: usize,
    context: &RopeContext,
) -> Result<LongRope, ModelError> {
    let original = original_context(outer, nested)?.unwrap_or(context.original);
    let factors = |key: &'static str| -> Result<Vec<f32>, ModelError> {
        let expected = "a list of numbers above 0, one per pair that is turned";
        let found = nested.numbers(key, expected)?;
        let found = found.ok_or_else(|| nested.missing(key, expected))?;
        match found.len() == dims / 2 && found.iter().all(|&factor| is_positive(factor)) {
            true => Ok(found.iter().map(|&factor| factor as f32).collect()),
            false => Err(nested.contradicts(
                key,
                format!("{} numbers", found.len()),
                format!("{} numbers above 0, one per pair that is turned", dims / 2),
            )),
        }
    };
    let scale = match nested.positive("factor")? {
        Some(factor) => factor,
        None => context.max_position_embeddings as f64 / original as f64,
    };
    let attention_factor = nested.positive("attention_factor")?;
    let attention_factor =
        attention_factor.unwrap_or_else(|| LongRope::published_attention_factor(scale, original));
    if !is_positive(attention_factor) {
        return Err(nested.contradicts(
            "original_max_position_embeddings",
            original.to_string(),
            "more than 1, or an attention_factor".to_owned(),
        ));
    }
    Ok(LongRope {
        short_factor: factors("short_factor")?,
        long_factor: factors("long_factor")?,
        original_max_position_embeddings: original,
        attention_factor,
    })
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
        };
        assert_eq!(rope.frequencies(100), [1.0, 0.005]);
        assert_eq!(rope.frequencies(101), [0.25, 0.00125]);
    }
}
