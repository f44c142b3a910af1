//! A model's tokenizer: text to ids and back, with the model's own habits.
//!
//! The tokenizers library does the work. Around it stand three decisions: what is added to a prompt
//! (what the file's post-processor says, plus the beginning-of-text token that
//! `tokenizer_config.json` asks for), which text may become a control token (a raw prompt's may, a
//! chat message's may not), and that ids become text one by one ([`Detokenizer`]).

use std::panic::catch_unwind;
use std::sync::Arc;

use serde::de::IgnoredAny;

use tokenizers::Tokenizer as Library;
use tokenizers::tokenizer::{Model, OffsetType, PreTokenizedString, PreTokenizer};

use crate::TextError;
use crate::chat::ChatRequest;
use crate::config::{SpecialTokens, TokenizerConfig};
use crate::decoding::{Decoding, Piece};
use crate::detokenizer::Detokenizer;
use crate::files::TokenizerFiles;
use crate::mask::{ControlTokens, Mask};
use crate::template::{ChatTemplate, TemplateLimits};
use crate::vocabulary::{Entry, Vocabulary};

/// A model's tokenizer and chat template. Cloning is cheap; clones share everything.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    shared: Arc<Shared>,
    template: Option<Arc<ChatTemplate>>,
}

#[derive(Debug)]
struct Shared {
    library: Library,
    decoding: Decoding,
    vocabulary: Vocabulary,
    control_tokens: ControlTokens,
    special_tokens: SpecialTokens,
    /// Put before a prompt because the configuration asks for it and the post-processor does not do it.
    added_bos: Option<u32>,
}

impl Tokenizer {
    /// [`from_files`](Self::from_files) with the contents of `tokenizer.json` and, where the model has
    /// them, `tokenizer_config.json` and `chat_template.jinja`.
    ///
    /// # Errors
    /// As [`from_files`](Self::from_files).
    pub fn from_bytes(
        tokenizer_json: &[u8],
        tokenizer_config: Option<&[u8]>,
        chat_template_file: Option<&[u8]>,
    ) -> Result<Self, TextError> {
        Self::from_files(&TokenizerFiles {
            tokenizer: tokenizer_json,
            config: tokenizer_config,
            chat_template: chat_template_file,
            ..TokenizerFiles::default()
        })
    }

    /// Builds a tokenizer from a model's files.
    ///
    /// Truncation and padding that a `tokenizer.json` asks for are ignored: how much fits is the
    /// engine's business. Of several chat templates one may be unusable, which
    /// [`template_problems`](Self::template_problems) tells.
    ///
    /// # Errors
    /// A file that cannot be read as what it should be, a decoder that cannot be streamed, a chat template
    /// that is the only one and does not parse: see [`TextError`].
    pub fn from_files(files: &TokenizerFiles<'_>) -> Result<Self, TextError> {
        let mut library = library(files.tokenizer)?;
        library
            .with_truncation(None)
            .map_err(invalid)?
            .with_padding(None);
        let config = files.read_config()?;
        let template = files.chat_templates(&config)?;
        let decoding = Decoding::new(library.get_decoder())?;
        let shared = Shared {
            vocabulary: Vocabulary::new(&library, &decoding)?,
            control_tokens: ControlTokens::new(&library),
            added_bos: added_bos(&library, &config)?,
            special_tokens: config.special_tokens,
            library,
            decoding,
        };
        Ok(Self {
            shared: Arc::new(shared),
            template: template.map(Arc::new),
        })
    }

    /// Replaces the limits of the chat template.
    #[must_use]
    pub fn with_template_limits(mut self, limits: TemplateLimits) -> Self {
        let limited =
            |template| Arc::new(Arc::<ChatTemplate>::unwrap_or_clone(template).with_limits(limits));
        self.template = self.template.map(limited);
        self
    }

    /// The ids of a raw prompt: control tokens in the text are control tokens, and what the model expects
    /// in front of a text is put there.
    ///
    /// # Errors
    /// [`TextError::Encode`].
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let encoding = self
            .shared
            .library
            .encode_fast(text, true)
            .map_err(encode_failure)?;
        Ok(self
            .shared
            .added_bos
            .into_iter()
            .chain(encoding.get_ids().iter().copied())
            .collect())
    }

    /// The ids of text that is text whatever it looks like: nothing in it becomes a control token,
    /// nothing is added.
    ///
    /// # Errors
    /// [`TextError::Encode`], [`TextError::Unmaskable`].
    pub fn encode_plain(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let (masked, mask) = self
            .shared
            .control_tokens
            .mask_plain(text, &self.shared.library)?;
        self.shared.encode_masked(&masked, &mask)
    }

    /// The ids of a conversation: the chat template's rendering, whose control tokens count, while text
    /// inside the messages that looks like a control token stays text. Nothing is added to what the
    /// template writes, as in transformers' `apply_chat_template`.
    ///
    /// In an assistant's message, the delimiters of a leading block of reasoning are left to a template
    /// that handles them (`<think>` … `</think>` with Qwen3's).
    ///
    /// # Errors
    /// [`TextError::NoChatTemplate`], those of [`ChatTemplate::render`] and of
    /// [`encode_plain`](Self::encode_plain).
    pub fn encode_chat(&self, request: &ChatRequest) -> Result<Vec<u32>, TextError> {
        let shared = &self.shared;
        let template = self.template.as_deref().ok_or(TextError::NoChatTemplate)?;
        let mentions = |text: &str| template.mentions(request, text);
        let (masked, mask) = shared
            .control_tokens
            .mask_chat(request, &shared.library, mentions)?;
        let rendered = template.render(&masked, &shared.special_tokens)?;
        shared.encode_masked(&rendered, &mask)
    }

    /// The text of a conversation as the chat template renders it.
    ///
    /// # Errors
    /// [`TextError::NoChatTemplate`] and those of [`ChatTemplate::render`].
    pub fn render_chat(&self, request: &ChatRequest) -> Result<String, TextError> {
        let template = self.template.as_deref().ok_or(TextError::NoChatTemplate)?;
        template.render(request, &self.shared.special_tokens)
    }

    /// Whether the model comes with a chat template.
    pub fn has_chat_template(&self) -> bool {
        self.template.is_some()
    }

    /// The model's chat template, if it comes with one.
    pub fn chat_template(&self) -> Option<&ChatTemplate> {
        self.template.as_deref()
    }

    /// What is wrong with chat templates that cannot be used: what chats that need them are answered.
    pub fn template_problems(&self) -> Vec<TextError> {
        let template = self.template.as_deref();
        template.map_or_else(Vec::new, ChatTemplate::problems)
    }

    /// The text of `ids`; ids outside the vocabulary stand for nothing. `skip_special` leaves out special
    /// tokens. Bytes that are no UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// None today; decoders that could fail are refused when the tokenizer is built.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, TextError> {
        let mut detokenizer = Detokenizer::new(self.clone(), skip_special);
        let mut text = String::new();
        for &id in ids {
            detokenizer.push_into(id, &mut text);
        }
        text.push_str(&detokenizer.finish());
        Ok(text)
    }

    /// The text of one token as it stands inside a text, with U+FFFD where it holds part of a character;
    /// `None` outside the vocabulary.
    pub fn token_text(&self, id: u32) -> Option<String> {
        self.token_bytes(id)
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    /// The bytes of one token as it stands inside a text; `None` outside the vocabulary.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.entry(id).map(|entry| entry.bytes)
    }

    /// Largest token id + 1. A model's embedding may have more rows.
    pub fn num_tokens(&self) -> usize {
        self.shared.vocabulary.num_tokens()
    }

    /// The id of a text that is a special token.
    pub fn special_token_id(&self, text: &str) -> Option<u32> {
        self.token_to_id(text).filter(|&id| self.is_special(id))
    }

    /// Whether `id` is a special token, which `skip_special` leaves out.
    pub fn is_special(&self, id: u32) -> bool {
        self.entry(id).is_some_and(|entry| entry.special)
    }

    /// The id of a token given by the text that `tokenizer.json` writes it with.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.shared.library.token_to_id(token)
    }

    /// Whether `id` was added to the vocabulary that the tokenizer was trained with: no ordinary text has it.
    pub fn is_added(&self, id: u32) -> bool {
        let added = self.shared.library.get_added_vocabulary();
        added.get_added_tokens_decoder().contains_key(&id)
    }

    /// The special tokens that `tokenizer_config.json` names, and where it does not,
    /// `special_tokens_map.json`.
    pub fn special_tokens(&self) -> &SpecialTokens {
        &self.shared.special_tokens
    }

    pub(crate) fn entry(&self, id: u32) -> Option<Entry<'_>> {
        self.shared.vocabulary.get(id)
    }

    pub(crate) fn decoding(&self) -> &Decoding {
        &self.shared.decoding
    }

    /// What `id` contributes as the first token of a text.
    pub(crate) fn first_piece(&self, id: u32) -> Piece {
        let library = &self.shared.library;
        let token = library
            .get_added_vocabulary()
            .simple_id_to_token(id)
            .or_else(|| library.id_to_token(id));
        self.shared.decoding.piece(&token.unwrap_or_default(), true)
    }
}

impl Shared {
    /// Tokenizes a text whose control tokens are genuine and whose stand-ins are text.
    fn encode_masked(&self, text: &str, mask: &Mask) -> Result<Vec<u32>, TextError> {
        let library = &self.library;
        if mask.is_empty() {
            return Ok(library
                .encode_fast(text, false)
                .map_err(encode_failure)?
                .get_ids()
                .to_vec());
        }
        // The library's own pipeline, with the stand-ins taken back after control tokens were split off.
        let mut pieces = library
            .get_added_vocabulary()
            .extract_and_normalize(library.get_normalizer(), text);
        let tokenize = |pieces: &mut PreTokenizedString| {
            pieces.normalize(|piece| {
                piece.map(|c| mask.unmask(c));
                Ok(())
            })?;
            if let Some(pre_tokenizer) = library.get_pre_tokenizer() {
                pre_tokenizer.pre_tokenize(pieces)?;
            }
            pieces.tokenize(|piece| library.get_model().tokenize(piece.get()))
        };
        tokenize(&mut pieces).map_err(encode_failure)?;
        let encoding = pieces
            .into_encoding(None, 0, OffsetType::None)
            .map_err(encode_failure)?;
        Ok(encoding.get_ids().to_vec())
    }
}

/// The beginning-of-text token, if the configuration asks for one that the post-processor does not add.
fn added_bos(library: &Library, config: &TokenizerConfig) -> Result<Option<u32>, TextError> {
    let Some(bos) = config
        .special_tokens
        .get("bos_token")
        .filter(|_| config.add_bos_token)
    else {
        return Ok(None);
    };
    let unknown = || TextError::UnknownSpecialToken {
        name: "bos_token",
        file: config.file_of("bos_token"),
        content: bos.clone(),
    };
    let id = library.token_to_id(bos).ok_or_else(unknown)?;
    let of_nothing = library.encode_fast("", true).map_err(encode_failure)?;
    Ok((!of_nothing.get_ids().contains(&id)).then_some(id))
}

/// Reads a `tokenizer.json`. The library panics at some that are damaged, those that are no JSON among them.
fn library(json: &[u8]) -> Result<Library, TextError> {
    let unusable = |reason: String| TextError::InvalidTokenizer { reason };
    serde_json::from_slice::<IgnoredAny>(json).map_err(|error| unusable(error.to_string()))?;
    match catch_unwind(|| Library::from_bytes(json)) {
        Ok(read) => read.map_err(invalid),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            let said = text.unwrap_or("it does not say why");
            Err(unusable(format!("the tokenizers library failed: {said}")))
        }
    }
}

fn invalid(error: tokenizers::Error) -> TextError {
    TextError::InvalidTokenizer {
        reason: error.to_string(),
    }
}

fn encode_failure(error: tokenizers::Error) -> TextError {
    TextError::Encode {
        reason: error.to_string(),
    }
}
