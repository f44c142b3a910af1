//! Stop strings in a text that arrives piece by piece.
//!
//! Which match wins must not depend on how the text was cut into pieces, so the rule looks only at
//! the text: the match that is *complete first* wins, and among those complete at the same byte the
//! one that starts first (the longest). Everything before it is released, nothing after it. What is
//! held back meanwhile is the longest suffix that may still become a stop string, not a byte more.

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

/// Streaming search for stop strings. Cloning shares the search automaton, so the choices of one
/// request build it once.
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
    automaton: Arc<Automaton>,
    include_stop: bool,
    state: State,
    /// The suffix of the text that may still become a stop string.
    held: String,
    matched: Option<usize>,
}

impl StopStrings {
    /// Searches for any of `stops`. An empty string never matches.
    pub fn new(stops: Vec<String>) -> Self {
        Self {
            automaton: Arc::new(Automaton::new(stops.iter().map(String::as_str))),
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

    /// Takes the next piece. Once a stop string was found, later pieces are swallowed and every
    /// step repeats `matched`.
    pub fn push(&mut self, piece: &str) -> StopStep {
        if self.matched.is_some() {
            return StopStep {
                text: String::new(),
                matched: self.matched,
            };
        }
        let held_before = self.held.len();
        self.held.push_str(piece);
        for at in held_before..self.held.len() {
            self.state = self.automaton.step(self.state, self.held.as_bytes()[at]);
            let found = self.automaton.matches(self.state).next();
            if let Some((pattern, length)) = found {
                return self.stop_at(pattern, at + 1 - length..at + 1);
            }
        }
        let release = self.held.len() - self.automaton.depth(self.state);
        let text = self.held.drain(..release).collect();
        StopStep {
            text,
            matched: None,
        }
    }

    /// The text is complete: releases what was held back.
    pub fn finish(&mut self) -> String {
        self.state = Automaton::START;
        std::mem::take(&mut self.held)
    }

    fn stop_at(&mut self, pattern: usize, span: std::ops::Range<usize>) -> StopStep {
        let mut text = std::mem::take(&mut self.held);
        text.truncate(if self.include_stop {
            span.end
        } else {
            span.start
        });
        self.matched = Some(pattern);
        StopStep {
            text,
            matched: self.matched,
        }
    }
}
