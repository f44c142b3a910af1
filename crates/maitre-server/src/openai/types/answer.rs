//! Answers: whole, and in chunks.

use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::scores::{ChatScores, CompletionScores, PromptScores};

/// Counts of tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(in crate::openai) struct Usage {
    /// Of the prompts.
    pub(in crate::openai) prompt_tokens: u32,
    /// Of both.
    pub(in crate::openai) total_tokens: u32,
    /// Of the answers.
    pub(in crate::openai) completion_tokens: u32,
    /// More about the prompts.
    pub(in crate::openai) prompt_tokens_details: PromptTokensDetails,
    /// More about the answers.
    pub(in crate::openai) completion_tokens_details: CompletionTokensDetails,
}

/// Of a prompt's tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(in crate::openai) struct PromptTokensDetails {
    /// Those that the prefix cache had.
    pub(in crate::openai) cached_tokens: u32,
}

/// Of an answer's tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(in crate::openai) struct CompletionTokensDetails {
    /// Those of what the model thought.
    pub(in crate::openai) reasoning_tokens: u32,
    /// Those that had been drafted.
    pub(in crate::openai) accepted_prediction_tokens: u32,
    /// Those that were drafted and not taken.
    pub(in crate::openai) rejected_prediction_tokens: u32,
}

/// What ended an answer: a stop token's id, or a stop string.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub(in crate::openai) enum StopReason {
    /// A token.
    Token(u32),
    /// A text.
    Text(String),
}

/// A whole answer to a conversation.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::openai) struct ChatCompletion {
    pub(in crate::openai) id: String,
    /// `chat.completion`
    pub(in crate::openai) object: &'static str,
    /// When, in seconds since 1970.
    pub(in crate::openai) created: u64,
    pub(in crate::openai) model: String,
    pub(in crate::openai) choices: Vec<ChatChoice>,
    pub(in crate::openai) usage: Usage,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Object>>)]
    pub(in crate::openai) prompt_logprobs: Option<PromptScores>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::openai) prompt_token_ids: Option<Vec<u32>>,
}

/// One of its answers.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::openai) struct ChatChoice {
    pub(in crate::openai) index: u32,
    pub(in crate::openai) message: AnswerMessage,
    pub(in crate::openai) logprobs: Option<ChatScores>,
    /// `stop`, `length` or `tool_calls`
    pub(in crate::openai) finish_reason: &'static str,
    pub(in crate::openai) stop_reason: Option<StopReason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::openai) token_ids: Option<Vec<u32>>,
}

/// What the model says.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::openai) struct AnswerMessage {
    /// `assistant`
    pub(in crate::openai) role: &'static str,
    /// Null where it only calls tools.
    pub(in crate::openai) content: Option<String>,
    /// Always null.
    pub(in crate::openai) refusal: Option<String>,
    /// What it thought, under both names that clients know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::openai) reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::openai) reasoning: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(in crate::openai) tool_calls: Vec<ToolCall>,
}

/// A call of a tool.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::openai) struct ToolCall {
    pub(in crate::openai) id: String,
    /// `function`
    pub(in crate::openai) r#type: &'static str,
    pub(in crate::openai) function: CalledFunction,
}

/// What is called, and with what.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::openai) struct CalledFunction {
    pub(in crate::openai) name: String,
    /// A JSON object, as text.
    pub(in crate::openai) arguments: String,
}

/// A piece of an answer to a conversation.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::openai) struct ChatChunk<'a> {
    pub(in crate::openai) id: &'a str,
    /// `chat.completion.chunk`
    pub(in crate::openai) object: &'static str,
    pub(in crate::openai) created: u64,
    pub(in crate::openai) model: &'a str,
    /// One, or none in the chunk with the counts of tokens.
    pub(in crate::openai) choices: Vec<ChatChunkChoice>,
    #[serde(skip_serializing_if = "Shown::is_hidden")]
    #[schema(value_type = Option<Usage>)]
    pub(in crate::openai) usage: Shown<Usage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::openai) prompt_token_ids: Option<Vec<u32>>,
}

/// A piece of one of its answers.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::openai) struct ChatChunkChoice {
    pub(in crate::openai) index: u32,
    pub(in crate::openai) delta: ChatDelta,
    pub(in crate::openai) logprobs: Option<ChatScores>,
    /// There in the last piece.
    pub(in crate::openai) finish_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::openai) stop_reason: Option<StopReason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::openai) token_ids: Option<Vec<u32>>,
}

/// What is new.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(in crate::openai) struct ChatDelta {
    /// In the first piece.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::openai) role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::openai) content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::openai) reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::openai) reasoning: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::openai) tool_calls: Option<[ToolCallDelta; 1]>,
}

/// More of a call of a tool.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::openai) struct ToolCallDelta {
    /// Which of the answer's calls.
    pub(in crate::openai) index: u32,
    /// In its first piece.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::openai) id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::openai) r#type: Option<&'static str>,
    pub(in crate::openai) function: FunctionDelta,
}

/// More of what is called, and with what.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::openai) struct FunctionDelta {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::openai) name: Option<String>,
    pub(in crate::openai) arguments: String,
}

/// Continuations of prompts, whole or a piece of one.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::openai) struct Completion<'a> {
    pub(in crate::openai) id: &'a str,
    /// `text_completion`
    pub(in crate::openai) object: &'static str,
    pub(in crate::openai) created: u64,
    pub(in crate::openai) model: &'a str,
    /// The answers to the first prompt, then those to the second, ...
    pub(in crate::openai) choices: Vec<CompletionChoice>,
    #[serde(skip_serializing_if = "Shown::is_hidden")]
    #[schema(value_type = Option<Usage>)]
    pub(in crate::openai) usage: Shown<Usage>,
}

/// One of them.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::openai) struct CompletionChoice {
    pub(in crate::openai) index: u32,
    pub(in crate::openai) text: String,
    pub(in crate::openai) logprobs: Option<CompletionScores>,
    /// `stop` or `length`
    pub(in crate::openai) finish_reason: Option<&'static str>,
    pub(in crate::openai) stop_reason: Option<StopReason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Object>>)]
    pub(in crate::openai) prompt_logprobs: Option<PromptScores>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::openai) prompt_token_ids: Option<Vec<u32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::openai) token_ids: Option<Vec<u32>>,
}

/// A field that is there, null, or not there at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::openai) enum Shown<T> {
    Hidden,
    Null,
    Value(T),
}

impl<T> Shown<T> {
    pub(in crate::openai) fn is_hidden(&self) -> bool {
        matches!(self, Self::Hidden)
    }
}

impl<T: Serialize> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Value(value) => value.serialize(serializer),
            Self::Hidden | Self::Null => serializer.serialize_none(),
        }
    }
}
