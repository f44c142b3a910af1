//! One sequence's way out: tokens in, text deltas to its receiver.
//!
//! Runs on the publisher's thread, never on the compute team. Stop strings are found here, because
//! only here is there text; the publisher then tells the step loop to stop the sequence.

use std::sync::Arc;

use maitre_sampling::TokenLogprobs;
use maitre_scheduler::Time;
use maitre_text::{Detokenizer, Part, StopStrings};
use smallvec::smallvec;

use crate::observe::metrics::InterToken;
use crate::output::parts::PartReader;
use crate::output::unread::{EventSender, NotSent};
use crate::request::stop_budget::StopPermit;
use crate::{
    Delta, EngineError, Event, FinishReason, Finished, LogprobEntry, Matched, PromptLogprobs,
    Timings, TokenIds, TokenLogprob, Usage,
};

/// A token that the step loop committed.
#[derive(Debug)]
pub(crate) struct CommittedToken {
    pub(crate) token: u32,
    pub(crate) logprobs: Option<TokenLogprobs>,
    /// Tokens drafted in the step whose first token this is; 0 for the others.
    pub(crate) drafted: usize,
    /// Whether this is one of them.
    pub(crate) accepted: bool,
    /// Set when this token ends the sequence.
    pub(crate) finish: Option<FinishReason>,
    pub(crate) at: Time,
}

/// What became of an output after an event was handed to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It goes on.
    Open,
    /// It is complete, and the step loop knows.
    Closed,
    /// A stop string completed it: the step loop must be told.
    Stopped,
    /// Its receiver is gone or too slow: the step loop must be told.
    Lost,
}

/// Where the text of each answer to a request begins: worked out once, and cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct TextStart {
    /// Has read the prompt.
    pub(crate) detokenizer: Detokenizer,
    pub(crate) stops: Option<StopStrings>,
    /// Takes the text apart that the stop strings let through.
    pub(crate) parts: Option<PartReader>,
    /// Memory for the stop strings; given back with the last answer.
    #[expect(dead_code, reason = "held, never read")]
    pub(crate) stop_permit: Option<Arc<StopPermit>>,
    /// The prompt, where it is sent in front of an answer.
    pub(crate) echo: Option<Arc<Echo>>,
}

/// The prompt as it is sent in front of an answer.
#[derive(Debug)]
pub(crate) struct Echo {
    /// Without the bytes of a character that the prompt leaves unfinished: it comes with the answer.
    pub(crate) text: String,
    pub(crate) token_ids: Vec<u32>,
}

/// Everything that turns one sequence's tokens into events.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) index: u32,
    pub(crate) text: TextStart,
    pub(crate) min_tokens: u32,
    /// Bytes of text still to come that belong to the first `min_tokens` tokens.
    pub(crate) exempt_bytes: usize,
    pub(crate) include_stop: bool,
    pub(crate) prompt_tokens: u32,
    pub(crate) cached_prompt_tokens: u32,
    pub(crate) events: EventSender,
    pub(crate) times: Times,
    pub(crate) generated: u32,
    pub(crate) drafted: u32,
    pub(crate) accepted: u32,
}

/// When things happened, on the engine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Times {
    pub(crate) submitted: Time,
    pub(crate) started: Option<Time>,
    pub(crate) first_token: Option<Time>,
    pub(crate) last_token: Option<Time>,
}

/// What outputs work in, one after the other; the publisher keeps it from token to token.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    /// Text that became certain.
    piece: String,
    /// What of it can be shown.
    shown: String,
    /// What it is made of.
    parts: Vec<Part>,
    /// Where the times between tokens go.
    pub(crate) inter_token: InterToken,
}

impl Output {
    pub(crate) fn started(&mut self, at: Time, cached_tokens: usize) {
        self.times.started.get_or_insert(at);
        self.cached_prompt_tokens = u32::try_from(cached_tokens).unwrap_or(u32::MAX);
    }

    pub(crate) fn prompt_logprobs(&mut self, rows: &[TokenLogprobs]) -> Fate {
        let tokens = rows.iter().map(|row| self.named(row)).collect();
        let scores = PromptLogprobs {
            index: self.index,
            tokens,
        };
        self.send(Ok(Event::PromptLogprobs(scores)), None)
    }

    /// Adds one token; the text it completes goes out, and perhaps the end of the sequence.
    pub(crate) fn token(&mut self, committed: CommittedToken, work: &mut Workspace) -> Fate {
        if self.send_echo() != Fate::Open {
            return Fate::Lost;
        }
        self.generated += 1;
        self.drafted += u32::try_from(committed.drafted).unwrap_or(u32::MAX);
        self.accepted += u32::from(committed.accepted);
        self.times.first_token.get_or_insert(committed.at);
        if let Some(last) = self.times.last_token.replace(committed.at) {
            work.inter_token.record(committed.at.saturating_sub(last));
        }

        let matched = self.text_of(&committed, work);
        let logprobs = committed
            .logprobs
            .iter()
            .map(|row| self.named(row))
            .collect();
        let ends = matched.is_some() || committed.finish.is_some();
        match &mut self.text.parts {
            Some(reader) => reader.token(&work.shown, ends, &mut work.parts),
            None => work.parts.push(Part::Text(work.shown.as_str().into())),
        }
        let ids = smallvec![committed.token];
        if self.send_parts(&mut work.parts, ids, logprobs, Some(committed.at)) != Fate::Open {
            return Fate::Lost;
        }
        match (matched, committed.finish) {
            (Some(text), finish) => {
                self.finish(
                    FinishReason::StopSequence,
                    Some(Matched::Text(text)),
                    committed.at,
                );
                if finish.is_some() {
                    Fate::Closed
                } else {
                    Fate::Stopped
                }
            }
            (None, Some(reason)) => {
                let matched =
                    (reason == FinishReason::Stop).then_some(Matched::Token(committed.token));
                self.finish(reason, matched, committed.at);
                Fate::Closed
            }
            (None, None) => Fate::Open,
        }
    }

    /// Sends parts, the first with the token that they came with, and leaves none.
    fn send_parts(
        &mut self,
        parts: &mut Vec<Part>,
        token_ids: TokenIds,
        logprobs: Vec<TokenLogprob>,
        committed: Option<Time>,
    ) -> Fate {
        let mut parts = parts.drain(..);
        let first = Delta {
            index: self.index,
            part: parts.next().unwrap_or_default(),
            token_ids,
            logprobs,
        };
        let mut fate = self.send(Ok(Event::Delta(first)), committed);
        for part in parts {
            if fate != Fate::Open {
                break;
            }
            let more = Delta {
                index: self.index,
                part,
                ..Delta::default()
            };
            fate = self.send(Ok(Event::Delta(more)), None);
        }
        fate
    }

    /// Sends the prompt, once.
    fn send_echo(&mut self) -> Fate {
        let Some(echo) = self.text.echo.take() else {
            return Fate::Open;
        };
        let prompt = Delta {
            index: self.index,
            part: Part::Text(echo.text.as_str().into()),
            token_ids: echo.token_ids.as_slice().into(),
            logprobs: Vec::new(),
        };
        self.send(Ok(Event::Delta(prompt)), None)
    }

    /// Finds the text that becomes final with this token, and returns the stop string that it completes.
    fn text_of(&mut self, committed: &CommittedToken, work: &mut Workspace) -> Option<String> {
        let ends = committed.finish.is_some();
        // The token that stops the sequence is not part of the answer's text unless asked for.
        let shown = committed.finish != Some(FinishReason::Stop) || self.include_stop;
        work.piece.clear();
        if shown {
            let token = committed.token;
            self.text.detokenizer.push_into(token, &mut work.piece);
        }
        if ends {
            work.piece.push_str(&self.text.detokenizer.finish());
        }
        self.search(ends, work)
    }

    /// Finds what of the newest piece of text can be shown, and returns the stop string that is complete in it. One
    /// that is complete within the first `min_tokens` tokens ends nothing; one that only begins there does.
    fn search(&mut self, ends: bool, work: &mut Workspace) -> Option<String> {
        let Workspace { piece, shown, .. } = work;
        shown.clear();
        let Some(stops) = &mut self.text.stops else {
            shown.push_str(piece);
            return None;
        };
        let exempt = if self.generated <= self.min_tokens {
            self.exempt_bytes = self.text.detokenizer.held_bytes();
            piece.len()
        } else {
            let exempt = piece.floor_char_boundary(self.exempt_bytes);
            self.exempt_bytes -= exempt;
            exempt
        };
        stops.push_exempt_into(&piece[..exempt], shown);
        let matched = stops.push_into(&piece[exempt..], shown);
        let matched = matched.and_then(|which| stops.get(which));
        let matched = matched.map(str::to_owned);
        if ends && matched.is_none() {
            shown.push_str(&stops.finish());
        }
        matched
    }

    /// The sequence ends well between two tokens, because of its own time limit or its constraint: what was held back for a
    /// stop string that never came, or half a character, is part of the answer after all.
    pub(crate) fn end(&mut self, reason: FinishReason, now: Time) {
        self.send_echo();
        let mut work = Workspace {
            piece: self.text.detokenizer.finish(),
            ..Workspace::default()
        };
        let matched = self.search(true, &mut work);
        let Workspace {
            shown, mut parts, ..
        } = work;
        match &mut self.text.parts {
            Some(reader) => reader.read(&shown, true, &mut parts),
            None if shown.is_empty() => {}
            None => parts.push(Part::Text(shown.into())),
        }
        if !parts.is_empty() {
            self.send_parts(&mut parts, TokenIds::new(), Vec::new(), None);
        }
        match matched {
            Some(text) => self.finish(FinishReason::StopSequence, Some(Matched::Text(text)), now),
            None => self.finish(reason, None, now),
        }
    }

    pub(crate) fn fail(&mut self, error: EngineError) {
        self.send_last(Err(error));
    }

    fn finish(&mut self, reason: FinishReason, matched: Option<Matched>, now: Time) {
        let timings = self.timings(now);
        crate::observe::metrics::finished(reason, &timings, self.prompt_tokens, self.generated);
        self.send_last(Ok(Event::Finished(Finished {
            index: self.index,
            reason,
            matched,
            usage: Usage {
                prompt_tokens: self.prompt_tokens,
                cached_prompt_tokens: self.cached_prompt_tokens,
                completion_tokens: self.generated,
                drafted_tokens: self.drafted,
                accepted_tokens: self.accepted,
                reasoning_tokens: self
                    .text
                    .parts
                    .as_ref()
                    .map_or(0, PartReader::reasoning_tokens),
            },
            timings,
        })));
    }

    fn timings(&self, now: Time) -> Timings {
        let since = |at: Time| at.saturating_sub(self.times.submitted);
        let started = self.times.started.unwrap_or(now);
        let first = self.times.first_token.unwrap_or(now);
        let last = self.times.last_token.unwrap_or(now);
        Timings {
            queue: since(started),
            prefill: first.saturating_sub(started),
            ttft: since(first),
            tpot: last
                .saturating_sub(first)
                .checked_div(self.generated.saturating_sub(1))
                .unwrap_or_default(),
            e2e: since(now),
        }
    }

    /// Sends an event, leaving one place free for [`send_last`](Self::send_last).
    fn send(&mut self, event: Result<Event, EngineError>, committed: Option<Time>) -> Fate {
        match self.events.send(event, committed) {
            Ok(()) => Fate::Open,
            Err(NotSent::Gone) => Fate::Lost,
            Err(NotSent::Slow { unread }) => {
                self.send_last(Err(EngineError::SlowReceiver { unread }));
                Fate::Lost
            }
        }
    }

    fn send_last(&mut self, event: Result<Event, EngineError>) {
        self.events.send_last(event);
    }

    fn named(&self, row: &TokenLogprobs) -> TokenLogprob {
        let entry = |token_id: u32, logprob: f32| LogprobEntry {
            token_id,
            text: self
                .text
                .detokenizer
                .tokenizer()
                .token_text(token_id)
                .unwrap_or_default(),
            logprob,
        };
        TokenLogprob {
            token: entry(row.token, row.logprob),
            rank: row.rank,
            top: row
                .top
                .iter()
                .map(|&(token, logprob)| entry(token, logprob))
                .collect(),
        }
    }
}
