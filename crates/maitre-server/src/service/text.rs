//! Text into tokens and back.

use maitre_engine::Engine;

use crate::service::Service;
use crate::service::api_error::ApiError;
use crate::service::call::Call;
use crate::service::limits::{MAX_DETOKENIZED_IDS, MAX_TOKENIZED_BYTES};

/// A text to be cut into tokens.
#[derive(Debug)]
pub(crate) struct Tokenize {
    /// The model asked for; empty = whichever there is.
    pub(crate) model: String,
    pub(crate) text: String,
    /// Whether control tokens are added and those in the text are parsed, as for a prompt.
    pub(crate) special_tokens: bool,
    /// Whether each token's own text is wanted.
    pub(crate) token_texts: bool,
}

/// The tokens of a text.
#[derive(Debug)]
pub(crate) struct Tokenized {
    pub(crate) token_ids: Vec<u32>,
    /// One for each, or none.
    pub(crate) token_texts: Vec<String>,
}

/// Tokens to be made into text.
#[derive(Debug)]
pub(crate) struct Detokenize {
    /// The model asked for; empty = whichever there is.
    pub(crate) model: String,
    pub(crate) token_ids: Vec<u32>,
    /// Whether control tokens are left out of the text.
    pub(crate) skip_special_tokens: bool,
}

impl Service {
    /// The tokens of a text.
    ///
    /// # Errors
    ///
    /// The model is not served, the text is too long, or the tokenizer does not take it.
    pub(crate) async fn tokenize(
        &self,
        mut call: Call,
        request: Tokenize,
    ) -> Result<Tokenized, ApiError> {
        self.check_model(&request.model)?;
        let bytes = request.text.len();
        check_length("text", "bytes", bytes, MAX_TOKENIZED_BYTES)?;
        self.work(&mut call, bytes, move |engine| tokenized(engine, &request))
            .await
    }

    /// The text of tokens.
    ///
    /// # Errors
    ///
    /// The model is not served, there are too many tokens, or one is not in the vocabulary.
    pub(crate) async fn detokenize(
        &self,
        mut call: Call,
        request: Detokenize,
    ) -> Result<String, ApiError> {
        self.check_model(&request.model)?;
        let ids = request.token_ids.len();
        check_length("token_ids", "ids", ids, MAX_DETOKENIZED_IDS)?;
        let bytes = size_of_val(request.token_ids.as_slice());
        self.work(&mut call, bytes, move |engine| {
            detokenized(engine, &request)
        })
        .await
    }
}

fn check_length(field: &str, what: &str, length: usize, most: usize) -> Result<(), ApiError> {
    if length <= most {
        return Ok(());
    }
    let description = format!("has {length} {what}; at most {most} are taken in one call");
    Err(ApiError::unusable(field, description))
}

fn tokenized(engine: &Engine, request: &Tokenize) -> Result<Tokenized, ApiError> {
    let tokenizer = engine.tokenizer();
    let token_ids = if request.special_tokens {
        tokenizer.encode(&request.text)
    } else {
        tokenizer.encode_plain(&request.text)
    }
    .map_err(|error| ApiError::unusable("text", error.to_string()))?;
    let text_of = |id: &u32| tokenizer.token_text(*id).unwrap_or_default();
    let token_texts = if request.token_texts {
        token_ids.iter().map(text_of).collect()
    } else {
        Vec::new()
    };
    Ok(Tokenized {
        token_ids,
        token_texts,
    })
}

fn detokenized(engine: &Engine, request: &Detokenize) -> Result<String, ApiError> {
    let vocab_size = engine.info().vocab_size;
    let outside = |id: &u32| usize::try_from(*id).is_ok_and(|id| id >= vocab_size);
    let unknown = request.token_ids.iter().enumerate();
    if let Some((index, id)) = unknown.into_iter().find(|(_, id)| outside(id)) {
        let largest = vocab_size.saturating_sub(1);
        let description = format!("is {id}; the vocabulary has ids 0 to {largest}");
        return Err(ApiError::unusable(
            format!("token_ids[{index}]"),
            description,
        ));
    }
    engine
        .tokenizer()
        .decode(&request.token_ids, request.skip_special_tokens)
        .map_err(|error| ApiError::unusable("token_ids", error.to_string()))
}
