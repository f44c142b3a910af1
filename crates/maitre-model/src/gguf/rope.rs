//! How positions turn heads: the base and the scaling of its frequencies.
//!
//! A scaling acts on the layers that read the whole context. llama.cpp multiplies cosines and sines by
//! `rope.scaling.attn_factor` beside what the scaling itself asks for; so the two are one factor here.

use serde_json::{Map, Value, json};

use super::GgufFile;
use super::families::{Family, LLAMA_FACTORS, LONG_FACTORS, SHORT_FACTORS};
use super::settings::Words;
use crate::config::{ModelConfig, is_positive};
use crate::error::ModelError;
use crate::rope::{RopeScaling, Yarn};

type Object = Map<String, Value>;

/// Where a file does not say.
const DEFAULT_THETA: f64 = 10_000.0;
const TYPE: &str = "rope.scaling.type";
const ATTENTION_FACTOR: &str = "rope.scaling.attn_factor";
const ORIGINAL_CONTEXT: &str = "rope.scaling.original_context_length";

/// The base of layers that read the whole context.
pub(super) fn theta(words: &Words<'_>) -> Result<f64, ModelError> {
    Ok(words.number("rope.freq_base")?.unwrap_or(DEFAULT_THETA))
}

/// `rope_parameters` of a model whose layers are turned alike.
pub(super) fn of_all_layers(words: &Words<'_>) -> Result<Object, ModelError> {
    let mut rope = scaling(words)?;
    rope.insert("rope_theta".into(), json!(theta(words)?));
    Ok(rope)
}

/// `rope_parameters` of a model whose layers with a window have a base of their own, and no scaling.
pub(super) fn by_layer_type(words: &Words<'_>, windowed: f64) -> Result<Object, ModelError> {
    let full = of_all_layers(words)?;
    let mut ropes = Map::new();
    ropes.insert("full_attention".into(), full.into());
    let windowed = json!({"rope_type": "default", "rope_theta": windowed});
    ropes.insert("sliding_attention".into(), windowed);
    Ok(ropes)
}

fn scaling(words: &Words<'_>) -> Result<Object, ModelError> {
    let factor = match words.number("rope.scaling.factor")? {
        Some(factor) => Some(factor),
        // Its old name.
        None => words.number("rope.scale_linear")?,
    };
    // llama.cpp takes 0 for no factor.
    let factor = factor.filter(|factor| *factor != 0.0);
    let attention = words.number(ATTENTION_FACTOR)?.unwrap_or(1.0);
    let kind = match words.text(TYPE)? {
        Some(kind) => kind,
        None if words.file.has(LONG_FACTORS) || words.file.has(SHORT_FACTORS) => "longrope",
        None => "linear",
    };
    let mut rope = Map::new();
    match kind {
        "none" | "linear" if attention != 1.0 => {
            return Err(words.unsupported(ATTENTION_FACTOR, attention));
        }
        "linear" if factor.is_some_and(|factor| factor != 1.0) => {
            rope.insert("rope_type".into(), json!("linear"));
            rope.insert("factor".into(), json!(factor));
        }
        "none" | "linear" => {
            rope.insert("rope_type".into(), json!("default"));
        }
        "yarn" => yarn(words, factor, attention, &mut rope)?,
        "longrope" => long_rope(words, &mut rope)?,
        other => return Err(words.unsupported(TYPE, format!("{other:?}"))),
    }
    Ok(rope)
}

fn yarn(
    words: &Words<'_>,
    factor: Option<f64>,
    attention: f64,
    rope: &mut Object,
) -> Result<(), ModelError> {
    const EXTRAPOLATION: &str = "rope.scaling.yarn_ext_factor";
    let extrapolated = words.number(EXTRAPOLATION)?.unwrap_or(1.0);
    // Below 0 is llama.cpp's word for one that is not set.
    if extrapolated >= 0.0 && extrapolated != 1.0 {
        return Err(words.unsupported(EXTRAPOLATION, extrapolated));
    }
    rope.insert("rope_type".into(), json!("yarn"));
    if let Some(factor) = factor {
        rope.insert("factor".into(), json!(factor));
    }
    if let Some(original) = words.size(ORIGINAL_CONTEXT)? {
        rope.insert("original_max_position_embeddings".into(), json!(original));
    }
    for (setting, name) in [
        ("beta_fast", "rope.scaling.yarn_beta_fast"),
        ("beta_slow", "rope.scaling.yarn_beta_slow"),
    ] {
        if let Some(value) = words.number(name)? {
            rope.insert(setting.into(), json!(value));
        }
    }
    let given = words.number("rope.scaling.yarn_attn_factor")?;
    let log = words.number("rope.scaling.yarn_log_multiplier")?;
    let stretched = factor.unwrap_or(1.0);
    let own = match (given, log.filter(|log| *log != 0.0)) {
        (Some(given), _) => Some(given),
        (None, Some(log)) => Some(
            Yarn::paper_attention_factor(stretched, 1.0)
                / Yarn::paper_attention_factor(stretched, log),
        ),
        (None, None) if attention == 1.0 => None,
        (None, None) => Some(Yarn::paper_attention_factor(stretched, 1.0)),
    };
    if let Some(own) = own {
        rope.insert("attention_factor".into(), json!(own * attention));
    }
    Ok(())
}

fn long_rope(words: &Words<'_>, rope: &mut Object) -> Result<(), ModelError> {
    rope.insert("rope_type".into(), json!("longrope"));
    for (setting, tensor) in [
        ("short_factor", SHORT_FACTORS),
        ("long_factor", LONG_FACTORS),
    ] {
        let factors = words.file.floats(tensor)?;
        let factors =
            factors.ok_or_else(|| words.unsupported(TYPE, format!("longrope without {tensor}")))?;
        rope.insert(setting.into(), json!(factors));
    }
    if let Some(original) = words.size(ORIGINAL_CONTEXT)? {
        rope.insert("original_max_position_embeddings".into(), json!(original));
    }
    if let Some(attention) = words.number(ATTENTION_FACTOR)? {
        rope.insert("attention_factor".into(), json!(attention));
    }
    Ok(())
}

/// Divides frequencies by the factors that a tensor holds, which is how Llama 3.1's scaling is written.
pub(super) fn apply_factors(
    file: &GgufFile,
    family: &Family,
    config: &mut ModelConfig,
) -> Result<(), ModelError> {
    if !family.factors.contains(&LLAMA_FACTORS) {
        return Ok(());
    }
    let Some(factors) = file.floats(LLAMA_FACTORS)? else {
        return Ok(());
    };
    for rope in &mut config.ropes {
        let pairs = rope.dims / 2;
        if factors.len() != pairs {
            let count = factors.len();
            return Err(file.unsupported(&format!(
                "{count} factors in {LLAMA_FACTORS} for {pairs} pairs that are turned"
            )));
        }
        if let Some(factor) = factors.iter().find(|it| !is_positive(f64::from(**it))) {
            let what = format!("a factor of {factor} in {LLAMA_FACTORS}");
            return Err(file.unsupported(&what));
        }
        if rope.scaling != RopeScaling::Default {
            let what = format!("{LLAMA_FACTORS} beside another scaling of RoPE");
            return Err(file.unsupported(&what));
        }
        rope.scaling = RopeScaling::Factors(factors.clone());
    }
    Ok(())
}
