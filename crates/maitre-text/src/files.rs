//! The files that make a tokenizer, and which of them has the chat template.
//!
//! The rules are those of transformers: `chat_template.jinja` is the default template and
//! `additional_chat_templates/NAME.jinja` the one called NAME; where there is any such file, templates
//! in `tokenizer_config.json` do not count. `chat_template.json` counts where nothing else does.

use crate::TextError;
use crate::config::{TemplateSource, TokenizerConfig};
use crate::template::{ChatTemplate, DEFAULT};

/// The contents of the files that [`Tokenizer::from_files`](crate::Tokenizer::from_files) reads, under the
/// names that transformers saves them with.
#[derive(Debug, Clone, Copy, Default)]
pub struct TokenizerFiles<'a> {
    /// `tokenizer.json`.
    pub tokenizer: &'a [u8],
    /// `tokenizer_config.json`.
    pub config: Option<&'a [u8]>,
    /// `special_tokens_map.json`.
    pub special_tokens_map: Option<&'a [u8]>,
    /// `chat_template.jinja`.
    pub chat_template: Option<&'a [u8]>,
    /// `additional_chat_templates/NAME.jinja`, as (name, content).
    pub additional_chat_templates: &'a [(String, Vec<u8>)],
    /// `chat_template.json`.
    pub chat_template_json: Option<&'a [u8]>,
}

impl TokenizerFiles<'_> {
    pub(crate) fn read_config(&self) -> Result<TokenizerConfig, TextError> {
        TokenizerConfig::from_json(self.config, self.special_tokens_map)
    }

    /// The model's chat template. One that stands alone must parse; one of several fails the chats that
    /// need it.
    pub(crate) fn chat_templates(
        &self,
        config: &TokenizerConfig,
    ) -> Result<Option<ChatTemplate>, TextError> {
        if !self.additional_chat_templates.is_empty() {
            return Ok(Some(ChatTemplate::from_members(self.members())));
        }
        if let Some(bytes) = self.chat_template {
            let source = text(bytes).map_err(|reason| TextError::InvalidTemplate {
                name: "chat_template.jinja".into(),
                reason,
            })?;
            return ChatTemplate::new(&source).map(Some);
        }
        let source = match (&config.chat_template, self.chat_template_json) {
            (None, Some(json)) => &TemplateSource::from_json(json)?,
            (source, _) => source,
        };
        match source {
            None => Ok(None),
            Some(TemplateSource::One(source)) => ChatTemplate::new(source).map(Some),
            Some(TemplateSource::Named(named)) => {
                Ok(Some(ChatTemplate::from_members(named.clone())))
            }
        }
    }

    /// All template files by name; a later one of the same name wins.
    fn members(&self) -> Vec<(String, Result<String, String>)> {
        let default = self.chat_template.map(|bytes| (DEFAULT, bytes));
        let additional = self.additional_chat_templates.iter();
        let additional = additional.map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
        default
            .into_iter()
            .chain(additional)
            .map(|(name, bytes)| (name.to_owned(), text(bytes)))
            .collect()
    }
}

fn text(bytes: &[u8]) -> Result<String, String> {
    let text = std::str::from_utf8(bytes);
    text.map(str::to_owned)
        .map_err(|error| format!("it is not UTF-8 ({error})"))
}
