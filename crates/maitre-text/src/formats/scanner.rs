//! Finds marks in a text that arrives piece by piece, and holds back what may still become one.

use std::sync::Arc;

use compact_str::CompactString;

use crate::automaton::{Automaton, State};

/// A search for marks.
#[derive(Debug, Clone)]
pub(super) struct Scanner {
    marks: Vec<String>,
    automaton: Arc<Automaton>,
    state: State,
    /// The end of the text that may still become a mark.
    held: String,
}

impl Scanner {
    /// A search for any of `marks`. An empty mark is never found.
    pub(super) fn new(marks: &[&str]) -> Self {
        Self {
            marks: marks.iter().map(|&mark| mark.to_owned()).collect(),
            automaton: Arc::new(Automaton::new(marks.iter().copied())),
            state: Automaton::START,
            held: String::new(),
        }
    }

    /// The mark of this index.
    pub(super) fn mark(&self, index: usize) -> &str {
        self.marks.get(index).map_or("", String::as_str)
    }

    /// Takes the next character. Appends to `free` what can no longer become a mark, and returns the mark that
    /// is complete; the search then starts anew behind it.
    pub(super) fn push(&mut self, c: char, free: &mut CompactString) -> Option<usize> {
        self.held.push(c);
        let mut bytes = [0; 4];
        for &byte in c.encode_utf8(&mut bytes).as_bytes() {
            self.state = self.automaton.step(self.state, byte);
        }
        let found = self.automaton.matches(self.state).next();
        let kept = match found {
            Some((_, length)) => length,
            None => self.automaton.open_depth(self.state),
        };
        let end = self.held.len().saturating_sub(kept);
        free.extend(self.held.drain(..end));
        let (mark, _) = found?;
        self.held.clear();
        self.state = Automaton::START;
        Some(mark)
    }

    /// Gives up what is held back, since no more text comes or the text belongs to something else.
    pub(super) fn take(&mut self) -> String {
        self.state = Automaton::START;
        std::mem::take(&mut self.held)
    }
}
