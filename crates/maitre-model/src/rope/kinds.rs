//! The kinds of scaling in the words of a configuration.

use super::{DynamicNtk, Llama3Scaling, LongRope, QueryGrowth, RopeContext, RopeScaling, Yarn};
use crate::config::{Settings, is_positive};
use crate::error::ModelError;

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
/// Of queries that grow with their position; the longest context is written beside it.
const GROWTH_KEYS: &[&str] = &[GROWTH, "max_position_embeddings"];
const GROWTH: &str = "llama_4_scaling_beta";
const YARN_KEYS: &[&str] = &[
    "factor",
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "mscale",
    "mscale_all_dim",
    "truncate",
];

pub(super) fn read_scaling(
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
        "dynamic" if context.has_dynamic => (
            RopeScaling::Dynamic(read_dynamic(outer, nested, dims, context)?),
            &["factor"],
        ),
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
                (context.has_dynamic, ", dynamic"),
            ] {
                supported += if is_read { kind } else { "" };
            }
            return Err(nested.unsupported("rope_type", &other.into(), &supported));
        }
    };
    for (key, value) in nested.entries() {
        let one = matches!(key, "partial_rotary_factor" | "factor" | "attention_factor")
            && value.as_f64() == Some(1.0);
        let is_read = key == "partial_rotary_factor" && context.turned_part.is_some()
            || context.has_query_growth && GROWTH_KEYS.contains(&key);
        if !one && !is_read && !COMMON_KEYS.contains(&key) && !own_keys.contains(&key) {
            let supported = format!("no such key with rope_type {kind}");
            return Err(nested.unsupported(key, value, &supported));
        }
    }
    Ok(scaling)
}

/// What the base is multiplied by: `alpha` of `dynamic` ("NTK-aware" scaling) is how many times longer contexts may be, and
/// slows the slowest pair by just that.
pub(super) fn read_stretch(
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

/// How queries grow: both settings have to be there.
pub(super) fn read_growth(nested: &Settings<'_>) -> Result<QueryGrowth, ModelError> {
    let beta = nested.number(GROWTH)?;
    let beta = beta.ok_or_else(|| nested.missing(GROWTH, "a number"))?;
    Ok(QueryGrowth {
        beta,
        original_max_position_embeddings: nested.required_size(ORIGINAL)?,
    })
}

fn required(nested: &Settings<'_>, key: &'static str, kind: &str) -> Result<f64, ModelError> {
    let expected = match kind {
        "llama3" => "a number above 0, for rope_type llama3",
        "yarn" => "a number above 0, for rope_type yarn",
        "dynamic" => "a number above 0, for rope_type dynamic",
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

fn read_dynamic(
    outer: &Settings<'_>,
    nested: &Settings<'_>,
    dims: usize,
    context: &RopeContext,
) -> Result<DynamicNtk, ModelError> {
    let dynamic = DynamicNtk {
        factor: required(nested, "factor", "dynamic")?,
        original_max_position_embeddings: context.max_position_embeddings,
    };
    let stated = original_context(outer, nested)?;
    if let Some(stated) = stated.filter(|stated| *stated != context.max_position_embeddings) {
        let expected = format!(
            "max_position_embeddings = {}, or absent",
            context.max_position_embeddings
        );
        return Err(nested.contradicts(ORIGINAL, stated.to_string(), expected));
    }
    let stretch = dynamic.stretch(dims, dynamic.longest());
    match dynamic.factor >= 1.0 && dims > 2 && is_positive(stretch) {
        true => Ok(dynamic),
        false => {
            let expected =
                format!("at least 1, and a number that can be raised for heads of {dims}");
            Err(nested.contradicts("factor", dynamic.factor.to_string(), expected))
        }
    }
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
