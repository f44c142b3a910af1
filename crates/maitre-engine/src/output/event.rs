//! What a caller receives: a stream of events for each answer.

use std::time::Duration;

use maitre_text::Part;
use smallvec::SmallVec;

/// One item of a [`Generation`](crate::Generation) stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Log-probabilities of the prompt, once, before any delta of that answer.
    PromptLogprobs(PromptLogprobs),
    /// More of an answer.
    Delta(Delta),
    /// An answer is complete; the stream ends after the last of `n`.
    Finished(Finished),
}

impl Event {
    /// Memory that the event takes, about: what it is charged while it is unread.
    #[must_use]
    pub fn size_in_bytes(&self) -> u64 {
        let size = match self {
            Self::PromptLogprobs(scores) => sizes_of(&scores.tokens),
            Self::Delta(delta) => {
                delta.part.size_in_bytes()
                    + size_of_val(delta.token_ids.as_slice())
                    + sizes_of(&delta.logprobs)
            }
            Self::Finished(finished) => match &finished.matched {
                Some(Matched::Text(text)) => text.len(),
                Some(Matched::Token(_)) | None => 0,
            },
        };
        u64::try_from(size_of::<Self>() + size).unwrap_or(u64::MAX)
    }
}

fn sizes_of(rows: &[TokenLogprob]) -> usize {
    let entry = |entry: &LogprobEntry| size_of::<LogprobEntry>() + entry.text.capacity();
    let row = |row: &TokenLogprob| {
        size_of::<TokenLogprob>()
            + row.token.text.capacity()
            + row.top.iter().map(entry).sum::<usize>()
    };
    rows.iter().map(row).sum()
}

/// The ids of one delta: up to four take no memory of their own.
pub type TokenIds = SmallVec<[u32; 4]>;

/// More of an answer. The concatenated [`text`](Self::text) of all deltas is the answer; a delta may carry
/// token ids whose text is still held back (half a character, half a stop string).
///
/// A delta is a piece of one [`Part`], as protocols send it. A token in which one part ends and another begins makes
/// two deltas, of which the first has its id.
/// Where a request has no [`parts`](crate::GenerateRequest::parts), all of its answer is text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Delta {
    /// Which of the request's `n` answers.
    pub index: u32,
    /// What it is more of. Its text is final: whole characters only, never part of a stop string.
    pub part: Part,
    /// The tokens generated since the last delta.
    pub token_ids: TokenIds,
    /// One entry per token id, when log-probabilities were asked for.
    pub logprobs: Vec<TokenLogprob>,
}

impl Delta {
    /// Its text for the reader; empty if it is more of another part.
    #[must_use]
    pub fn text(&self) -> &str {
        self.part.text()
    }
}

/// Log-probabilities at one position.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprob {
    /// The token that stands at the position.
    pub token: LogprobEntry,
    /// 1 + how many tokens were likelier.
    pub rank: u32,
    /// The likeliest tokens, best first.
    pub top: Vec<LogprobEntry>,
}

/// One token with its natural-log probability.
#[derive(Debug, Clone, PartialEq)]
pub struct LogprobEntry {
    /// The id.
    pub token_id: u32,
    /// The token's own text; bytes that are not UTF-8 alone are shown as U+FFFD.
    pub text: String,
    /// ln p, from the model's raw logits.
    pub logprob: f32,
}

/// Log-probabilities of the prompt's tokens from the second on (nothing predicts the first).
#[derive(Debug, Clone, PartialEq)]
pub struct PromptLogprobs {
    /// Which of the request's `n` answers.
    pub index: u32,
    /// `prompt tokens − 1` entries.
    pub tokens: Vec<TokenLogprob>,
}

/// The end of one answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// Which of the request's `n` answers.
    pub index: u32,
    /// Why it ended.
    pub reason: FinishReason,
    /// What ended it, for `Stop` and `StopSequence`.
    pub matched: Option<Matched>,
    /// What it took.
    pub usage: Usage,
    /// How long it took.
    pub timings: Timings,
}

/// Why an answer ended. Cancellation and failure are errors, not finish reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// The model's end-of-sequence token or a stop token.
    Stop,
    /// A stop string.
    StopSequence,
    /// `max_tokens`, or the context is full.
    Length,
    /// The request's own `time_limit`.
    Deadline,
}

impl FinishReason {
    /// Lower-case name, as the CLI and metrics print it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::StopSequence => "stop_sequence",
            Self::Length => "length",
            Self::Deadline => "deadline",
        }
    }
}

/// What ended an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Matched {
    /// A token id.
    Token(u32),
    /// One of the request's stop strings.
    Text(String),
}

/// Token counts of one answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Of them, those that the prefix cache had.
    pub cached_prompt_tokens: u32,
    /// Tokens generated, the stopping one included.
    pub completion_tokens: u32,
    /// Tokens that were drafted and verified on the way.
    pub drafted_tokens: u32,
    /// Of the tokens generated, those that had been drafted.
    pub accepted_tokens: u32,
    /// Of the tokens generated, those of thoughts, as far as thoughts are told from the text.
    pub reasoning_tokens: u32,
}

/// Durations of one answer, all from the moment it was submitted unless said otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    /// Until its first step began.
    pub queue: Duration,
    /// From its first step until its first token.
    pub prefill: Duration,
    /// Time to first token.
    pub ttft: Duration,
    /// Mean time per output token after the first; zero for fewer than two tokens.
    pub tpot: Duration,
    /// Until the end.
    pub e2e: Duration,
}
