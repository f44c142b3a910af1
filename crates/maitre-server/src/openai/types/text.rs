//! Texts and their tokens, and the models that are served.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::chat_message::GivenMessage;
use crate::openai::schemas;

/// What is to be cut into tokens: a text, or a conversation.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(in crate::openai) struct TokenizeRequest {
    pub(in crate::openai) model: Option<String>,
    /// The text.
    pub(in crate::openai) prompt: Option<String>,
    /// The conversation.
    pub(in crate::openai) messages: Option<Vec<GivenMessage>>,
    /// Whether what the model expects in front of a text is put there, and control tokens in the text are such;
    /// default true.
    pub(in crate::openai) add_special_tokens: Option<bool>,
    /// Whether each token's own text is wanted.
    pub(in crate::openai) return_token_strs: Option<bool>,
    /// Whether a conversation ends with the opening of an answer; default true.
    pub(in crate::openai) add_generation_prompt: Option<bool>,
    /// Whether the last message, the assistant's, is left open; then `add_generation_prompt` has to be false or left out.
    pub(in crate::openai) continue_final_message: Option<bool>,
    /// Tools, as of a conversation.
    #[schema(schema_with = schemas::tools)]
    pub(in crate::openai) tools: Option<Vec<Value>>,
    /// Variables for the template.
    #[schema(value_type = Option<Object>)]
    pub(in crate::openai) chat_template_kwargs: Option<Map<String, Value>>,
}

/// The tokens of a text.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::openai) struct TokenizeResponse {
    pub(in crate::openai) count: usize,
    /// The longest prompt and answer together.
    pub(in crate::openai) max_model_len: usize,
    pub(in crate::openai) tokens: Vec<u32>,
    pub(in crate::openai) token_strs: Option<Vec<String>>,
}

/// What is to be made into text.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(in crate::openai) struct DetokenizeRequest {
    pub(in crate::openai) model: Option<String>,
    /// At most 262,144 ids.
    #[schema(required, value_type = Vec<u32>)]
    pub(in crate::openai) tokens: Option<Vec<u32>>,
}

/// The text of tokens.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::openai) struct DetokenizeResponse {
    pub(in crate::openai) prompt: String,
}

/// The models.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::openai) struct ModelList {
    /// `list`
    pub(in crate::openai) object: &'static str,
    pub(in crate::openai) data: Vec<Model>,
}

/// One of them.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::openai) struct Model {
    pub(in crate::openai) id: String,
    /// `model`
    pub(in crate::openai) object: &'static str,
    /// When the server started, in seconds since 1970.
    pub(in crate::openai) created: u64,
    pub(in crate::openai) owned_by: &'static str,
    pub(in crate::openai) root: String,
    pub(in crate::openai) parent: Option<String>,
    /// The longest prompt and answer together, in tokens.
    pub(in crate::openai) max_model_len: usize,
    /// Token ids are below this.
    pub(in crate::openai) vocab_size: usize,
}

/// Which server it is.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::openai) struct Version {
    pub(in crate::openai) version: &'static str,
}

/// A request as the engine would get it.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::openai) struct Rendered {
    pub(in crate::openai) request_id: String,
    pub(in crate::openai) model: String,
    /// The prompt.
    pub(in crate::openai) token_ids: Vec<u32>,
    /// The parameters, in vLLM's names.
    #[schema(value_type = Object)]
    pub(in crate::openai) sampling_params: Value,
    pub(in crate::openai) stream: bool,
    pub(in crate::openai) cache_salt: Option<String>,
    pub(in crate::openai) priority: i32,
}
