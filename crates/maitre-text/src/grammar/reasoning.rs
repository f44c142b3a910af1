//! Reasoning first, then the grammar: everything may come until the mark that ends the reasoning, then what the grammar
//! allows.
//!
//! ```text
//! reasoning ──── mark ────► gap ── a token that the grammar allows ──► the grammar's own answer
//!  all but eos               whitespace, a few characters, or the grammar's first token
//! ```
//!
//! The mark is found in the bytes of the tokens, so it may be spread over several. No token may hold the mark and more
//! behind it: that would be the beginning of an answer that the grammar never saw.

use std::sync::Arc;

use maitre_sampling::{Constraint, ConstraintSource, TokenMask};

use super::lark::control_token;
use crate::Tokenizer;

/// Characters of whitespace between the reasoning and the answer.
const MAX_GAP: usize = 4;

/// What ends the reasoning of a model.
#[derive(Debug, Clone)]
pub struct ReasoningEnd {
    shared: Arc<Mark>,
}

#[derive(Debug)]
struct Mark {
    tokenizer: Tokenizer,
    vocab_size: u32,
    eos: Vec<u32>,
    text: Vec<u8>,
    /// The mark as one token.
    token: Option<u32>,
    /// Of each prefix of the text, the longest shorter one that it ends with (Knuth, Morris, Pratt 1977).
    borders: Vec<usize>,
    /// Tokens that may end the mark before their own end.
    crossing: Vec<u32>,
    /// Tokens of nothing but whitespace, with their characters.
    blanks: Vec<(u32, usize)>,
}

impl ReasoningEnd {
    /// The mark `text`, such as `</think>`, of a model that generates the tokens below `vocab_size`, of which `eos` end
    /// an answer. `None` for an empty text.
    #[must_use]
    pub fn new(tokenizer: &Tokenizer, vocab_size: usize, eos: &[u32], text: &str) -> Option<Self> {
        let last = *text.as_bytes().last()?;
        let vocab_size = u32::try_from(vocab_size).unwrap_or(u32::MAX);
        let bytes = |id: u32| tokenizer.token_bytes(id).unwrap_or_default();
        let crosses = |id: &u32| {
            let bytes = bytes(*id);
            bytes.len() > 1 && bytes[..bytes.len() - 1].contains(&last)
        };
        let blank = |id: u32| {
            let is_blank = bytes(id).iter().all(u8::is_ascii_whitespace);
            let count = bytes(id).len();
            let fits = is_blank && (1..=MAX_GAP).contains(&count) && !tokenizer.is_special(id);
            fits.then_some((id, count))
        };
        let mark = Mark {
            vocab_size,
            eos: eos.to_vec(),
            text: text.as_bytes().to_vec(),
            token: control_token(text, tokenizer),
            borders: borders(text.as_bytes()),
            crossing: (0..vocab_size).filter(crosses).collect(),
            blanks: (0..vocab_size).filter_map(blank).collect(),
            tokenizer: tokenizer.clone(),
        };
        Some(Self {
            shared: Arc::new(mark),
        })
    }

    /// Whether `prompt` ends behind the mark, with nothing but whitespace since: as templates write it that are told to
    /// do without reasoning.
    #[must_use]
    pub fn has_passed(&self, prompt: &[u32]) -> bool {
        let mark = &self.shared;
        let is_blank = |id: &&u32| {
            let bytes = mark.tokenizer.token_bytes(**id).unwrap_or_default();
            bytes.iter().all(u8::is_ascii_whitespace)
        };
        let blank = prompt.iter().rev().take_while(is_blank).count();
        let before = &prompt[..prompt.len() - blank];
        if mark.token.is_some() && mark.token == before.last().copied() {
            return true;
        }
        let tail = &before[before.len().saturating_sub(mark.text.len())..];
        let bytes = |id: &u32| mark.tokenizer.token_bytes(*id).unwrap_or_default().to_vec();
        let text: Vec<u8> = tail.iter().flat_map(bytes).collect();
        text.trim_ascii_end().ends_with(&mark.text)
    }
}

impl ReasoningEnd {
    /// See [`Mark::next`].
    pub(super) fn next(&self, matched: usize, token: u32) -> (usize, Option<usize>) {
        self.shared.next(matched, token)
    }

    /// Whether the token is nothing but whitespace.
    pub(super) fn is_blank(&self, token: u32) -> bool {
        self.shared.blanks.iter().any(|&(id, _)| id == token)
    }

    /// Every token that the tokenizer has.
    pub(super) fn allow_all(&self, mask: &mut TokenMask) {
        mask.allow_all();
        let size = u32::try_from(mask.vocab_size()).unwrap_or(u32::MAX);
        (self.shared.vocab_size..size).for_each(|id| mask.forbid(id));
    }
}

/// The borders of all prefixes, as the search of Knuth, Morris and Pratt has them.
fn borders(text: &[u8]) -> Vec<usize> {
    let mut borders = vec![0; text.len()];
    let mut matched = 0;
    for index in 1..text.len() {
        while matched > 0 && text[index] != text[matched] {
            matched = borders[matched - 1];
        }
        if text[index] == text[matched] {
            matched += 1;
        }
        borders[index] = matched;
    }
    borders
}

impl Mark {
    /// Goes on with the bytes of `token` where `matched` bytes of the mark stand: how many do then, and how many bytes
    /// come behind the mark if it is complete.
    fn next(&self, mut matched: usize, token: u32) -> (usize, Option<usize>) {
        if self.token == Some(token) {
            return (0, Some(0));
        }
        let bytes = self.tokenizer.token_bytes(token).unwrap_or_default();
        for (index, byte) in bytes.iter().enumerate() {
            while matched > 0 && self.text[matched] != *byte {
                matched = self.borders[matched - 1];
            }
            matched += usize::from(self.text[matched] == *byte);
            if matched == self.text.len() {
                return (0, Some(bytes.len() - index - 1));
            }
        }
        (matched, None)
    }
}

/// A grammar that holds only behind a model's reasoning.
#[derive(Debug)]
pub struct AfterReasoning {
    inner: Arc<dyn ConstraintSource>,
    end: ReasoningEnd,
}

impl AfterReasoning {
    /// `inner` behind `end`.
    #[must_use]
    pub fn new(inner: Arc<dyn ConstraintSource>, end: ReasoningEnd) -> Self {
        Self { inner, end }
    }
}

impl ConstraintSource for AfterReasoning {
    fn start(&self) -> Box<dyn Constraint> {
        Box::new(Answer {
            inner: self.inner.start(),
            mark: Arc::clone(&self.end.shared),
            place: Place::Reasoning { matched: 0 },
        })
    }
}

/// How far an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Reasoning { matched: usize },
    Gap { left: usize },
    Inside,
}

struct Answer {
    inner: Box<dyn Constraint>,
    mark: Arc<Mark>,
    place: Place,
}

impl Answer {
    /// Where an answer is behind `token`; what the inner grammar allows at its start decides in the gap.
    fn behind(&self, place: Place, token: u32, start: &TokenMask) -> Place {
        match place {
            Place::Reasoning { matched } => match self.mark.next(matched, token) {
                (_, Some(_)) => Place::Gap { left: MAX_GAP },
                (matched, None) => Place::Reasoning { matched },
            },
            Place::Gap { left } if !start.allows(token) => Place::Gap {
                left: left.saturating_sub(self.blank(token)),
            },
            Place::Gap { .. } | Place::Inside => Place::Inside,
        }
    }

    fn blank(&self, token: u32) -> usize {
        let bytes = self.mark.tokenizer.token_bytes(token);
        bytes.map_or(0, <[u8]>::len)
    }

    fn reasoning_mask(&self, matched: usize, mask: &mut TokenMask) {
        mask.allow_all();
        self.mark.eos.iter().for_each(|&id| mask.forbid(id));
        for &token in &self.mark.crossing {
            if matches!(self.mark.next(matched, token), (_, Some(1..))) {
                mask.forbid(token);
            }
        }
        // The model knows the ids that have no token as well: they are no text.
        let size = u32::try_from(mask.vocab_size()).unwrap_or(u32::MAX);
        (self.mark.vocab_size..size).for_each(|id| mask.forbid(id));
    }

    fn gap_mask(&self, left: usize, start: &TokenMask, mask: &mut TokenMask) {
        mask.clone_from(start);
        let blanks = self.mark.blanks.iter();
        let fitting = blanks.filter(|(_, count)| *count <= left);
        fitting.for_each(|&(id, _)| mask.allow(id));
    }
}

impl Constraint for Answer {
    fn masks(&mut self, drafts: &[u32], masks: &mut [TokenMask]) {
        if self.place == Place::Inside {
            return self.inner.masks(drafts, masks);
        }
        let vocab_size = masks.first().map_or(0, TokenMask::vocab_size);
        let mut start = [TokenMask::new(vocab_size)];
        self.inner.masks(&[], &mut start);
        let [start] = start;
        let mut place = self.place;
        for index in 0..masks.len() {
            match place {
                Place::Reasoning { matched } => self.reasoning_mask(matched, &mut masks[index]),
                Place::Gap { left } => self.gap_mask(left, &start, &mut masks[index]),
                // The draft before this place is the first that the inner grammar sees.
                Place::Inside => {
                    let rest = masks.len() - index;
                    let mut inner = vec![TokenMask::new(vocab_size); rest + 1];
                    self.inner.masks(&drafts[index - 1..], &mut inner);
                    masks[index..].swap_with_slice(&mut inner[1..]);
                    return;
                }
            }
            let Some(&draft) = drafts.get(index) else {
                return;
            };
            if !masks[index].allows(draft) {
                return;
            }
            place = self.behind(place, draft, &start);
        }
    }

    fn advance(&mut self, tokens: &[u32]) {
        for (index, &token) in tokens.iter().enumerate() {
            if self.place == Place::Inside {
                return self.inner.advance(&tokens[index..]);
            }
            let mut start = [TokenMask::new(self.mark.vocab_size as usize)];
            if matches!(self.place, Place::Gap { .. }) {
                self.inner.masks(&[], &mut start);
            }
            self.place = self.behind(self.place, token, &start[0]);
            if self.place == Place::Inside {
                return self.inner.advance(&tokens[index..]);
            }
        }
    }

    fn forced(&self) -> Vec<u32> {
        match self.place {
            Place::Inside => self.inner.forced(),
            _ => Vec::new(),
        }
    }

    fn is_complete(&self) -> bool {
        self.place == Place::Inside && self.inner.is_complete()
    }

    fn failure(&self) -> Option<String> {
        self.inner.failure()
    }
}
