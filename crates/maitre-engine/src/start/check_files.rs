//! What a start would refuse, found without reading weights: for tools that only describe a model.

use maitre_model::{GenerationDefaults, Model, ModelConfig, ModelError};

use crate::start::load_tokenizer::ModelText;
use crate::{Engine, ModelSource, StartError};

/// Checks a model's files as a start does, apart from the numbers in its weights. Weights and
/// tokenizer may be absent: a configuration alone says much about a model.
///
/// # Errors
/// The error that a start would end with.
pub fn check_files(source: &ModelSource) -> Result<ModelConfig, StartError> {
    let config = ModelConfig::load(source)?;
    let defaults = GenerationDefaults::load(source)?;
    Model::check_weights(source, &config)?;
    if has_tokenizer(source)? {
        let tokenizer = Engine::builder(source.clone()).tokenizer()?;
        ModelText::new(tokenizer, config.vocab_size, defaults)?;
    }
    Ok(config)
}

/// Whether there are files of a tokenizer.
fn has_tokenizer(source: &ModelSource) -> Result<bool, ModelError> {
    Ok(match source.gguf()? {
        Some(file) => file.index().get("tokenizer.ggml.model").is_some(),
        None => source.read("tokenizer.json")?.is_some(),
    })
}

/// The same for a model that drafts for another: its generation defaults are not used.
///
/// # Errors
/// The error that a start with it as draft model would end with.
pub fn check_draft_files(source: &ModelSource) -> Result<ModelConfig, StartError> {
    let check = || -> Result<ModelConfig, ModelError> {
        let config = ModelConfig::load(source)?;
        Model::check_weights(source, &config)?;
        Ok(config)
    };
    check().map_err(StartError::draft_model)
}
