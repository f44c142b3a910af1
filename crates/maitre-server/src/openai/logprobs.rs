//! Log-probabilities, from the engine's shape into those that clients know.

use std::collections::BTreeMap;

use maitre_engine::{LogprobEntry, TokenLogprob};

use super::shape::Shape;
use super::types::scores::{
    ChatScore, ChatScores, ChatTokenScore, CompletionScores, PromptScore, PromptScores,
};

/// JSON has no infinity: what cannot be is written as this, as with vLLM.
const LEAST: f32 = -9999.0;

fn finite(logprob: f32) -> f32 {
    // NaN, too, becomes the least.
    logprob.max(LEAST)
}

impl Shape {
    fn token_name(&self, id: u32, text: &str) -> String {
        match self.tokens_as_ids {
            true => format!("token_id:{id}"),
            false => text.to_owned(),
        }
    }

    fn chat_score(&self, entry: &LogprobEntry) -> ChatScore {
        let bytes = self.engine.tokenizer().token_bytes(entry.token_id);
        ChatScore {
            token: self.token_name(entry.token_id, &entry.text),
            logprob: finite(entry.logprob),
            bytes: bytes.unwrap_or_default().to_vec(),
        }
    }

    /// Those of a conversation's answer, if they are wanted.
    pub(super) fn chat_scores(&self, tokens: &[TokenLogprob]) -> Option<ChatScores> {
        self.logprobs?;
        let content = tokens.iter().map(|token| ChatTokenScore {
            token: self.chat_score(&token.token),
            top_logprobs: token.top.iter().map(|it| self.chat_score(it)).collect(),
        });
        Some(ChatScores {
            content: content.collect(),
        })
    }

    /// Those of a prompt in vLLM's shape, if they are wanted; nothing predicts its first token.
    pub(super) fn prompt_scores(&self, tokens: &[TokenLogprob]) -> Option<PromptScores> {
        if !self.prompt_logprobs {
            return None;
        }
        let scores = |token: &TokenLogprob| {
            let score = |entry: &LogprobEntry, rank| PromptScore {
                logprob: finite(entry.logprob),
                rank,
                decoded_token: entry.text.clone(),
            };
            let top = token.top.iter().zip(1..);
            let mut scores: BTreeMap<u32, PromptScore> = top
                .map(|(entry, rank)| (entry.token_id, score(entry, rank)))
                .collect();
            scores.insert(token.token.token_id, score(&token.token, token.rank));
            Some(scores)
        };
        Some(
            std::iter::once(None)
                .chain(tokens.iter().map(scores))
                .collect(),
        )
    }

    /// The first token of a prompt, at the beginning of the text.
    pub(super) fn add_unpredicted(&self, id: u32, scores: &mut CompletionScores, offset: usize) {
        let text = self.engine.tokenizer().token_text(id).unwrap_or_default();
        scores.text_offset.push(offset);
        scores.token_logprobs.push(None);
        scores.tokens.push(self.token_name(id, &text));
        scores.top_logprobs.push(None);
    }

    /// More tokens of a completion; `offset` says of each where it begins.
    pub(super) fn add_scores(
        &self,
        tokens: &[TokenLogprob],
        scores: &mut CompletionScores,
        mut offset: impl FnMut(u32) -> usize,
    ) {
        let most = usize::try_from(self.logprobs.unwrap_or_default()).unwrap_or(usize::MAX);
        for token in tokens {
            let chosen = &token.token;
            let mut top = BTreeMap::new();
            // Tokens of the same text: the likelier one is shown.
            for entry in token.top.iter().take(most).chain([chosen]) {
                top.entry(self.token_name(entry.token_id, &entry.text))
                    .or_insert(finite(entry.logprob));
            }
            scores.text_offset.push(offset(chosen.token_id));
            scores.token_logprobs.push(Some(finite(chosen.logprob)));
            scores
                .tokens
                .push(self.token_name(chosen.token_id, &chosen.text));
            scores.top_logprobs.push(Some(top));
        }
    }
}
