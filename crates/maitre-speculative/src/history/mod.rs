//! Guesses from what a sequence said before: where its last tokens occurred earlier, what followed them
//! there is likely to follow again.
//!
//! Summaries, edits, quotations and code repeat their prompt, and finding the place costs a fraction of a
//! microsecond where a draft model costs a forward pass. Two ways of finding it, of one face:
//!
//! - [`HistoryKind::Ngram`] looks up the last 4, 3 or 2 tokens in hash tables (Saxena 2023, "Prompt lookup
//!   decoding");
//! - [`HistoryKind::Suffix`] keeps a suffix automaton and so knows the longest repetition of any length,
//!   which is the better guide to what follows, and the better measure of how far to trust it (Hu et al.
//!   2024, "SAM decoding"; Oliaro et al. 2024, "SuffixDecoding").
//!
//! Both are deterministic: the same tokens give the same guesses, in whatever pieces they came.

mod edges;
mod ngram;
mod replay;
mod suffix;

use ngram::Ngrams;
pub use replay::{Replay, ReplayStep};
use suffix::SuffixAutomaton;

/// Tokens that are indexed at most unless [`History::with_most_indexed`] says otherwise.
const MOST_INDEXED: usize = 128 * 1024;

/// How a [`History`] finds what occurred before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HistoryKind {
    /// The longest of the last 4, 3 and 2 tokens that occurred before, where it did so last.
    Ngram,
    /// The longest suffix of any length that occurred before, a single token included: what followed one
    /// comes true about half as often as what followed two. Where it occurred last, or, where the text has
    /// repeated itself with a short period, a little earlier.
    Suffix,
}

/// What may come next, by the example of what came before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guess {
    /// The tokens that would come next, as many as were asked for.
    pub tokens: Vec<u32>,
    /// How many of the last tokens occurred before, at least 1: the more, the likelier the guess. But what a chat
    /// template puts in front of every answer is a long match, too, and says nothing of how the answer begins.
    pub match_len: usize,
}

/// An earlier occurrence of the last tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Match {
    /// Tokens before the end of the earlier occurrence.
    end: u32,
    /// Tokens that are the same.
    len: u32,
}

/// The tokens of one sequence, prompt and generated, and an index of what occurs in them where.
///
/// Adding tokens and indexing them are apart, since a long prompt should not hold up a step: [`new`](Self::new)
/// and [`extend`](Self::extend) only take tokens in, [`absorb`](Self::absorb) indexes as many as the caller
/// has time for, and until none is pending there are no guesses.
///
/// **Memory** is bounded: of each sequence at most the latest 128 Ki tokens are indexed, or as many as
/// [`with_most_indexed`](Self::with_most_indexed) says. When one more comes the index starts anew, with the
/// latest half of these tokens pending. An indexed token takes 14 bytes (n-grams) or 40 to 70 (suffixes) in
/// chats, and in no text more than 35 or 165. The tokens themselves, four bytes each, are all kept.
///
/// ```
/// use maitre_speculative::{History, HistoryKind};
///
/// let mut history = History::new(HistoryKind::Suffix, &[5, 6, 7, 8, 9, 6, 7]);
/// assert!(history.propose(3).is_none(), "nothing is indexed yet");
/// assert!(history.absorb(usize::MAX));
/// let guess = history.propose(3).unwrap();
/// assert_eq!((guess.tokens, guess.match_len), (vec![8, 9, 6], 2));
/// ```
#[derive(Debug, Clone)]
pub struct History {
    tokens: Vec<u32>,
    /// The first token of those that are indexed.
    first: usize,
    /// Half of the tokens that are indexed at most.
    half: usize,
    index: Index,
}

#[derive(Debug, Clone)]
enum Index {
    Ngram(Ngrams),
    Suffix(SuffixAutomaton),
}

impl History {
    /// The history of a sequence that begins with `prompt`, all of it pending.
    #[must_use]
    pub fn new(kind: HistoryKind, prompt: &[u32]) -> Self {
        Self {
            tokens: prompt.to_vec(),
            first: 0,
            half: MOST_INDEXED / 2,
            index: Index::new(kind),
        }
    }

    /// Lets the latest `most_indexed` tokens be indexed, rounded to an even number from 2 to 2³⁰.
    #[must_use]
    pub fn with_most_indexed(mut self, most_indexed: usize) -> Self {
        self.half = (most_indexed / 2).clamp(1, 1 << 29);
        self
    }

    /// Appends `tokens`, to be indexed by the next [`absorb`](Self::absorb).
    pub fn extend(&mut self, tokens: &[u32]) {
        self.tokens.extend_from_slice(tokens);
    }

    /// All tokens of the sequence, indexed or not.
    #[must_use]
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Tokens that [`absorb`](Self::absorb) has to index before there can be a guess.
    #[must_use]
    pub fn pending(&self) -> usize {
        let first = self.window_start();
        let indexed = if first == self.first {
            self.index.len()
        } else {
            0
        };
        self.tokens.len() - first - indexed
    }

    /// Indexes at most `most_tokens` of the pending tokens, each in amortised constant time. Returns whether
    /// none is left.
    pub fn absorb(&mut self, most_tokens: usize) -> bool {
        let first = self.window_start();
        if first != self.first {
            self.first = first;
            self.index = Index::new(self.index.kind());
        }
        let window = &self.tokens[first..];
        let known = self.index.len();
        let end = window.len().min(known.saturating_add(most_tokens));
        for len in known + 1..=end {
            self.index.push(&window[..len]);
        }
        end == window.len()
    }

    /// Guesses the next `most` tokens. A guess may run into itself: where the last tokens occurred so
    /// late that fewer than `most` came since, they are repeated with that period.
    ///
    /// `None` if the last tokens never occurred before, while tokens are [pending](Self::pending), and if no
    /// token is wanted.
    #[must_use]
    pub fn propose(&self, most: usize) -> Option<Guess> {
        if most == 0 || self.pending() > 0 {
            return None;
        }
        let found = self.index.found()?;
        let followed = &self.tokens[self.first + found.end as usize..];
        Some(Guess {
            tokens: followed.iter().copied().cycle().take(most).collect(),
            match_len: found.len as usize,
        })
    }

    /// Bytes of memory that the tokens and their index take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let index = match &self.index {
            Index::Ngram(index) => index.bytes(),
            Index::Suffix(index) => index.bytes(),
        };
        size_of_val(self) + self.tokens.capacity() * size_of::<u32>() + index
    }

    /// Where the tokens begin that should be indexed: at a multiple of half their greatest number, so that
    /// it depends on how many tokens there are and not on the pieces they came in.
    fn window_start(&self) -> usize {
        let halves = self.tokens.len().div_ceil(self.half);
        halves.saturating_sub(2) * self.half
    }
}

impl Index {
    fn new(kind: HistoryKind) -> Self {
        match kind {
            HistoryKind::Ngram => Self::Ngram(Ngrams::default()),
            HistoryKind::Suffix => Self::Suffix(SuffixAutomaton::new()),
        }
    }

    fn kind(&self) -> HistoryKind {
        match self {
            Self::Ngram(_) => HistoryKind::Ngram,
            Self::Suffix(_) => HistoryKind::Suffix,
        }
    }

    /// Tokens that are indexed.
    fn len(&self) -> usize {
        match self {
            Self::Ngram(index) => index.len(),
            Self::Suffix(index) => index.len(),
        }
    }

    /// Indexes the last token of `text`, all others of which are indexed.
    fn push(&mut self, text: &[u32]) {
        match self {
            Self::Ngram(index) => index.push(text),
            Self::Suffix(index) => index.push(text),
        }
    }

    fn found(&self) -> Option<Match> {
        match self {
            Self::Ngram(index) => index.found(),
            Self::Suffix(index) => index.found(),
        }
    }
}
