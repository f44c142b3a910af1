//! `generation_config.json`: when the model's authors say an answer ends, and how to sample.
//!
//! These are defaults: they apply where a request is silent. Their meaning and limits belong to
//! the sampler; here they are only read.

use crate::config::{Settings, text_settings};
use crate::error::ModelError;
use crate::json;
use crate::source::ModelSource;
use crate::wrapper::Wrapper;

const FILE: &str = "generation_config.json";
/// Where older models name the end of an answer.
const CONFIG: &str = "config.json";
const EOS: &str = "eos_token_id";

/// What the model's authors recommend. `None` where they say nothing.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct GenerationDefaults {
    /// Tokens that end an answer; empty if neither file names one.
    pub eos_token_ids: Vec<u32>,
    /// The file that names them.
    pub eos_file: &'static str,
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
        let mut defaults = match source.read(FILE)? {
            Some(json) => Self::from_json(FILE, &json)?,
            None => Self::default(),
        };
        if defaults.eos_token_ids.is_empty()
            && let Some(json) = source.read(CONFIG)?
        {
            let value = json::parse(CONFIG, &json)?;
            let settings = Settings::of_file(CONFIG, &value)?;
            let ids = match settings.token_ids(EOS)? {
                None if Wrapper::named_by(&settings).is_some() => {
                    text_settings(&settings)?.token_ids(EOS)?
                }
                stated => stated,
            };
            defaults.eos_token_ids = ids.unwrap_or_default();
            defaults.eos_file = CONFIG;
        }
        Ok(defaults)
    }

    fn from_json(file: &'static str, json: &[u8]) -> Result<Self, ModelError> {
        let value = json::parse(file, json)?;
        let settings = Settings::of_file(file, &value)?;
        let number = |key| -> Result<Option<f32>, ModelError> {
            Ok(settings.number(key)?.map(|number| number as f32))
        };
        let do_sample = settings.optional_flag("do_sample")?;
        let is_greedy = do_sample == Some(false);
        Ok(Self {
            eos_token_ids: settings.token_ids(EOS)?.unwrap_or_default(),
            eos_file: file,
            temperature: unless_unused(is_greedy, number("temperature"))?,
            top_p: unless_unused(is_greedy, number("top_p"))?,
            top_k: unless_unused(is_greedy, settings.top_k("top_k"))?,
            min_p: unless_unused(is_greedy, number("min_p"))?,
            repetition_penalty: number("repetition_penalty")?,
            do_sample,
        })
    }
}

/// A setting of sampling; one that cannot be read is absent where answers are greedy and nothing
/// samples.
fn unless_unused<T>(
    is_greedy: bool,
    read: Result<Option<T>, ModelError>,
) -> Result<Option<T>, ModelError> {
    match read {
        Err(error) if is_greedy => {
            tracing::warn!("{error}; it is ignored beside `do_sample` = false");
            Ok(None)
        }
        read => read,
    }
}
