//! Log-probabilities in the three shapes that clients know: those of a conversation's answer, those of a completion,
//! and vLLM's of a prompt.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

/// Of a conversation's answer.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub(in crate::openai) struct ChatScores {
    /// One for each token.
    pub(in crate::openai) content: Vec<ChatTokenScore>,
}

/// Of one token.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(in crate::openai) struct ChatTokenScore {
    /// The token that was chosen.
    #[serde(flatten)]
    pub(in crate::openai) token: ChatScore,
    /// The likeliest ones, best first.
    pub(in crate::openai) top_logprobs: Vec<ChatScore>,
}

/// A token and how likely it is.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(in crate::openai) struct ChatScore {
    /// Its text; bytes that are not UTF-8 alone are shown as U+FFFD.
    pub(in crate::openai) token: String,
    /// ln p.
    pub(in crate::openai) logprob: f32,
    /// The bytes of its text.
    pub(in crate::openai) bytes: Vec<u8>,
}

/// Of a completion: parallel lists.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub(in crate::openai) struct CompletionScores {
    /// Where each token begins in the returned text, in characters. Special tokens that are left out take no space, and a
    /// token that goes on with a character begins where the character does.
    pub(in crate::openai) text_offset: Vec<usize>,
    /// ln p of each; null for the first of a prompt, which nothing predicts.
    pub(in crate::openai) token_logprobs: Vec<Option<f32>>,
    /// The texts of the tokens.
    pub(in crate::openai) tokens: Vec<String>,
    /// The likeliest tokens at each place, by their texts, and the one that stands there.
    pub(in crate::openai) top_logprobs: Vec<Option<BTreeMap<String, f32>>>,
}

/// Of one token of a prompt, by ids.
pub(in crate::openai) type PromptScores = Vec<Option<BTreeMap<u32, PromptScore>>>;

/// A token and how likely it is.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(in crate::openai) struct PromptScore {
    /// ln p.
    pub(in crate::openai) logprob: f32,
    /// 1 = the likeliest.
    pub(in crate::openai) rank: u32,
    /// Its text.
    pub(in crate::openai) decoded_token: String,
}
