//! The tokenizer's files, and what they say about the model: which ids it can use, and which end an answer.

use maitre_model::{GenerationDefaults, LoadFormat, ModelSource};
use maitre_text::{Tokenizer, TokenizerFiles};

use crate::request::defaults::check_defaults;
use crate::{EngineBuilder, StartError};

/// Where transformers saves templates for special uses, such as `tool_use`.
const ADDITIONAL_TEMPLATES: &str = "additional_chat_templates";
const TEMPLATE_SUFFIX: &str = ".jinja";

/// A model's tokenizer, and what the two say together.
pub(crate) struct ModelText {
    pub(crate) tokenizer: Tokenizer,
    /// Ids below this have both a token and an embedding.
    pub(crate) usable_ids: usize,
    /// The model's own, with the tokenizer's end-of-sequence token among those that end an answer.
    pub(crate) defaults: GenerationDefaults,
}

impl ModelText {
    /// Puts together a tokenizer, a model's defaults and the `rows` of its embedding.
    ///
    /// # Errors
    /// A tokenizer that is another model's, or defaults that no request could ask for.
    pub(crate) fn new(
        tokenizer: Tokenizer,
        rows: usize,
        mut defaults: GenerationDefaults,
    ) -> Result<Self, StartError> {
        let usable_ids = usable_ids(&tokenizer, rows)?;
        check_defaults(&mut defaults, usable_ids)?;
        defaults.eos_token_ids = end_of_sequence(&tokenizer, &defaults.eos_token_ids, usable_ids);
        Ok(Self {
            tokenizer,
            usable_ids,
            defaults,
        })
    }
}

impl EngineBuilder {
    /// The model's tokenizer. Weights made up from a configuration alone can do without.
    pub(crate) fn tokenizer(&self) -> Result<Tokenizer, StartError> {
        let source = &self.source;
        if let Some(file) = source.gguf()? {
            return Ok(Tokenizer::from_gguf(file.index(), file.bytes())?);
        }
        let Some(json) = source.read("tokenizer.json")? else {
            if matches!(self.load.load_format, LoadFormat::Random { .. }) {
                return Ok(Tokenizer::of_bytes()?);
            }
            return Err(StartError::MissingFile {
                model: source.to_string(),
                file: "tokenizer.json",
                advice: "save the model with a fast tokenizer, which writes one",
            });
        };
        let tokenizer = Tokenizer::from_files(&TokenizerFiles {
            tokenizer: &json,
            config: source.read_json("tokenizer_config.json")?.as_deref(),
            special_tokens_map: source.read_json("special_tokens_map.json")?.as_deref(),
            chat_template: source.read("chat_template.jinja")?.as_deref(),
            additional_chat_templates: &additional_templates(source)?,
            chat_template_json: source.read_json("chat_template.json")?.as_deref(),
        })?;
        for problem in tokenizer.template_problems() {
            tracing::warn!("{problem}; chats that need it are refused");
        }
        Ok(tokenizer)
    }
}

/// `additional_chat_templates/NAME.jinja` as (NAME, content).
fn additional_templates(source: &ModelSource) -> Result<Vec<(String, Vec<u8>)>, StartError> {
    let mut templates = Vec::new();
    for file in source.files_in(ADDITIONAL_TEMPLATES, TEMPLATE_SUFFIX)? {
        if let Some(content) = source.read(&file)? {
            let name = file.trim_start_matches(ADDITIONAL_TEMPLATES);
            let name = name
                .trim_start_matches('/')
                .trim_end_matches(TEMPLATE_SUFFIX);
            templates.push((name.to_owned(), content.into_owned()));
        }
    }
    Ok(templates)
}

/// How many ids a model with `rows` embeddings and its tokenizer have in common. Added tokens may lie beyond
/// the last row: a padding token, say, for which the embedding was never enlarged.
///
/// # Errors
/// [`StartError::TokenizerBeyondVocabulary`] if anything else lies there: the tokenizer is another model's.
fn usable_ids(tokenizer: &Tokenizer, rows: usize) -> Result<usize, StartError> {
    let ids = tokenizer.num_tokens();
    if ids <= rows {
        return Ok(ids);
    }
    // Ids are numbers of 32 bits.
    let beyond = rows as u32..ids as u32;
    if !beyond.clone().all(|id| tokenizer.is_added(id)) {
        return Err(StartError::TokenizerBeyondVocabulary {
            largest_id: ids - 1,
            vocab_size: rows,
        });
    }
    let first = tokenizer.token_text(beyond.start).unwrap_or_default();
    tracing::warn!(
        "the tokenizer has {ids} tokens and the model embeddings for {rows}: the last {}, from {first:?} with id \
         {rows} on, can't be used; they are never generated, and a prompt that contains one is refused",
        beyond.len()
    );
    Ok(rows)
}

/// The ids that end an answer: those that the model's configurations name, and the tokenizer's
/// end-of-sequence token, which fine-tunes often change alone.
fn end_of_sequence(tokenizer: &Tokenizer, configured: &[u32], usable_ids: usize) -> Vec<u32> {
    let mut ids = configured.to_vec();
    if let Some(token) = tokenizer.special_tokens().get("eos_token") {
        match tokenizer.token_to_id(token) {
            Some(id) if (id as usize) < usable_ids => ids.push(id),
            Some(id) => tracing::warn!(
                "the tokenizer's eos_token {token:?} has id {id}, for which the model has no embedding: it ends no \
                 answer"
            ),
            None => tracing::warn!(
                "the tokenizer's eos_token {token:?} is not in its vocabulary: it ends no answer"
            ),
        }
    }
    let mut seen = std::collections::HashSet::new();
    ids.retain(|&id| seen.insert(id));
    if ids.is_empty() {
        tracing::warn!(
            "the model names no end-of-sequence token: an answer ends at max_tokens, at a stop string or stop token \
             of the request, or where the context is full; set eos_token_id in generation_config.json, or eos_token \
             in tokenizer_config.json"
        );
    }
    ids
}
