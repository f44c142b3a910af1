//! Stop strings in a text that arrives piece by piece.
//!
//! Which match wins must not depend on how the text was cut into pieces, so the rule looks only at
//! the text: the match that is *complete first* wins, and among those complete at the same byte the
//! one that starts first (the longest). Everything before it is released, nothing after it. What is
//! held back meanwhile is the longest suffix that may still become a stop string, not a byte more.
//!
//! Part of a text may be exempt: no stop string that is complete in it ends the text. One that begins
//! in it and is complete after it does, so the exempt part is searched and held back like any other.

use std::sync::Arc;

use crate::automaton::{Automaton, State};

/// What [`StopStrings::push`] releases.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StopStep {
    /// Text that can be shown: it can no longer be part of a stop string.
    pub text: String,
    /// The stop string that was found, as an index into the list given to [`StopStrings::new`].
    pub matched: Option<usize>,
}

/// Streaming search for stop strings. Cloning shares the strings and the search automaton, so the
/// answers to one request build them once: at most 18 bytes for each byte of all stop strings.
///
/// ```
/// use maitre_text::StopStrings;
///
/// let mut stop = StopStrings::new(vec!["\n\nUser:".into()]);
/// assert_eq!(stop.push("Hello\n").text, "Hello");
/// let step = stop.push("\nUser: and more");
/// assert_eq!((step.text.as_str(), step.matched), ("", Some(0)));
/// assert_eq!(stop.finish(), "");
/// ```
#[derive(Debug, Clone)]
pub struct StopStrings {
    search: Arc<Search>,
    include_stop: bool,
    state: State,
    /// The suffix of the text that may still become a stop string.
    held: String,
    matched: Option<usize>,
}

/// What the answers to one request share.
#[derive(Debug)]
struct Search {
    stops: Vec<String>,
    automaton: Automaton,
}

impl StopStrings {
    /// Searches for any of `stops`. An empty string never matches.
    pub fn new(stops: Vec<String>) -> Self {
        let automaton = Automaton::new(stops.iter().map(String::as_str));
        Self {
            search: Arc::new(Search { stops, automaton }),
            include_stop: false,
            state: Automaton::START,
            held: String::new(),
            matched: None,
        }
    }

    /// Whether the stop string that ends the text is part of the released text (default: no).
    #[must_use]
    pub fn include_stop(mut self, include: bool) -> Self {
        self.include_stop = include;
        self
    }

    /// The stop string that ended the text, if one did.
    pub fn matched(&self) -> Option<usize> {
        self.matched
    }

    /// The stop string of this index.
    pub fn get(&self, index: usize) -> Option<&str> {
        self.search.stops.get(index).map(String::as_str)
    }

    /// Bytes of memory that all clones share.
    pub fn shared_bytes(&self) -> usize {
        let strings = self.search.stops.iter().map(String::capacity);
        self.search.automaton.size_in_bytes() + strings.sum::<usize>()
    }

    /// Takes the next piece. Once a stop string was found, later pieces are swallowed and every
    /// step repeats `matched`.
    pub fn push(&mut self, piece: &str) -> StopStep {
        let mut text = String::new();
        let matched = self.push_into(piece, &mut text);
        StopStep { text, matched }
    }

    /// [`push`](Self::push), appending the text to `out`; returns the stop string that was found.
    pub fn push_into(&mut self, piece: &str, out: &mut String) -> Option<usize> {
        if self.matched.is_some() {
            return self.matched;
        }
        let held_before = self.held.len();
        self.held.push_str(piece);
        for at in held_before..self.held.len() {
            let automaton = &self.search.automaton;
            self.state = automaton.step(self.state, self.held.as_bytes()[at]);
            let found = automaton.matches(self.state).next();
            if let Some((pattern, length)) = found {
                return self.stop_at(pattern, at + 1 - length..at + 1, out);
            }
        }
        self.release(out);
        None
    }

    /// Takes the next piece of a text's exempt part, whatever stop strings are complete in it; returns
    /// what can be shown.
    ///
    /// ```
    /// use maitre_text::StopStrings;
    ///
    /// let mut stop = StopStrings::new(vec!["END".into()]);
    /// assert_eq!(stop.push_exempt("END. E"), "END. ");
    /// assert_eq!(stop.push("ND").matched, Some(0));
    /// ```
    pub fn push_exempt(&mut self, piece: &str) -> String {
        let mut text = String::new();
        self.push_exempt_into(piece, &mut text);
        text
    }

    /// [`push_exempt`](Self::push_exempt), appending to `out`.
    pub fn push_exempt_into(&mut self, piece: &str, out: &mut String) {
        if self.matched.is_some() {
            return;
        }
        let automaton = &self.search.automaton;
        self.state = piece
            .bytes()
            .fold(self.state, |state, byte| automaton.step(state, byte));
        self.held.push_str(piece);
        self.release(out);
    }

    /// The text is complete: releases what was held back.
    pub fn finish(&mut self) -> String {
        self.state = Automaton::START;
        std::mem::take(&mut self.held)
    }

    /// What can no longer become part of a stop string.
    fn release(&mut self, out: &mut String) {
        let open = self.search.automaton.open_depth(self.state);
        let release = self.held.len() - open;
        out.extend(self.held.drain(..release));
    }

    fn stop_at(
        &mut self,
        pattern: usize,
        span: std::ops::Range<usize>,
        out: &mut String,
    ) -> Option<usize> {
        let mut text = std::mem::take(&mut self.held);
        text.truncate(if self.include_stop {
            span.end
        } else {
            span.start
        });
        out.push_str(&text);
        self.matched = Some(pattern);
        self.matched
    }
}
