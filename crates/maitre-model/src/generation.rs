//! `generation_config.json`: when the model's authors say an answer ends, and how to sample.
//!
//! These are defaults: they apply where a request is silent. Their meaning and limits belong to
//! whoever samples; here they are only read.

use serde_json::Value;

use crate::config::Settings;
use crate::error::ModelError;
use crate::source::ModelSource;

/// What the model's authors recommend. `None` where they say nothing.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct GenerationDefaults {
    /// Tokens that end an answer; empty if neither file names one.
    pub eos_token_ids: Vec<u32>,
    /// Softmax temperature.
    pub temperature: Option<f32>,
    /// Nucleus mass.
    pub top_p: Option<f32>,
    /// How many of the likeliest tokens to keep.
    pub top_k: Option<u32>,
    /// Smallest probability to keep, relative to the likeliest token's.
    pub min_p: Option<f32>,
    /// Divisor of the logits of tokens already seen.
    pub repetition_penalty: Option<f32>,
    /// Whether to sample at all; false means greedy.
    pub do_sample: Option<bool>,
}

impl GenerationDefaults {
    /// Reads a model's `generation_config.json`, if it has one; the end-of-sequence ids fall back
    /// to `config.json`'s.
    ///
    /// # Errors
    /// A file that is not JSON, or a setting that is not of its kind, by name.
    pub fn load(source: &ModelSource) -> Result<Self, ModelError> {
        let mut defaults = match source.read("generation_config.json")? {
            Some(json) => Self::from_json("generation_config.json", &json)?,
            None => Self::default(),
        };
        if defaults.eos_token_ids.is_empty()
            && let Some(json) = source.read("config.json")?
        {
            defaults.eos_token_ids = Self::from_json("config.json", &json)?.eos_token_ids;
        }
        Ok(defaults)
    }

    fn from_json(file: &str, json: &[u8]) -> Result<Self, ModelError> {
        let value: Value = serde_json::from_slice(json).map_err(|source| ModelError::Json {
            file: file.to_owned(),
            source,
        })?;
        let settings = Settings::of_file(file, &value)?;
        let number = |key| -> Result<Option<f32>, ModelError> {
            Ok(settings.number(key)?.map(|number| number as f32))
        };
        Ok(Self {
            eos_token_ids: settings.token_ids("eos_token_id")?.unwrap_or_default(),
            temperature: number("temperature")?,
            top_p: number("top_p")?,
            top_k: settings.whole("top_k")?,
            min_p: number("min_p")?,
            repetition_penalty: number("repetition_penalty")?,
            do_sample: settings.optional_flag("do_sample")?,
        })
    }
}
