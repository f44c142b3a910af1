//! An Aho–Corasick automaton (Aho and Corasick 1975) over bytes that tells, after every byte, how
//! much of the end of the text could still become one of the patterns.
//!
//! The one idea: a state *is* the longest suffix of the text so far that is a prefix of some
//! pattern, and its depth is that suffix's length. Stop strings hold back exactly that many bytes;
//! the control-token guard reads off imitations that a message leaves unfinished at its end.
//! A byte costs amortised O(1) steps whatever the number of patterns; memory is one node per byte
//! of all patterns.

use std::collections::VecDeque;

/// A position in the automaton. [`Automaton::START`] before the first byte.
pub(crate) type State = u32;

#[derive(Debug, Default)]
struct Node {
    /// Children by byte, sorted for binary search.
    edges: Vec<(u8, State)>,
    /// Where to go on when no child fits: the next shorter suffix that is a prefix of a pattern.
    fallback: State,
    /// Length of the path from the root in bytes.
    depth: usize,
    /// The pattern that ends exactly here.
    pattern: Option<usize>,
    /// The nearest state on the fallback chain (not this one) where a pattern ends.
    shorter_match: Option<State>,
}

/// Recognises a fixed set of patterns in a text that arrives piece by piece.
#[derive(Debug)]
pub(crate) struct Automaton {
    nodes: Vec<Node>,
}

impl Automaton {
    /// The state before any text.
    pub(crate) const START: State = 0;

    /// Builds the automaton. Empty patterns never match; of equal patterns the first one counts.
    pub(crate) fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Self {
        let mut automaton = Self {
            nodes: vec![Node::default()],
        };
        for (index, pattern) in patterns.into_iter().enumerate() {
            automaton.insert(index, pattern.as_bytes());
        }
        automaton.link();
        automaton
    }

    /// The state after one more byte.
    pub(crate) fn step(&self, mut state: State, byte: u8) -> State {
        loop {
            if let Some(next) = self.child(state, byte) {
                return next;
            }
            if state == Self::START {
                return Self::START;
            }
            state = self.node(state).fallback;
        }
    }

    /// Length in bytes of the longest suffix of the text that is a prefix of some pattern.
    pub(crate) fn depth(&self, state: State) -> usize {
        self.node(state).depth
    }

    /// The patterns that end at this state as (pattern, length in bytes), the longest first.
    pub(crate) fn matches(&self, state: State) -> impl Iterator<Item = (usize, usize)> {
        let own = self.node(state).pattern.map(|_| state);
        let first = own.or(self.node(state).shorter_match);
        std::iter::successors(first, |&s| self.node(s).shorter_match)
            .filter_map(|s| self.node(s).pattern.map(|pattern| (pattern, self.depth(s))))
    }

    /// Lengths of all non-empty suffixes of the text that are prefixes of some pattern, longest first.
    pub(crate) fn open_suffixes(&self, state: State) -> impl Iterator<Item = usize> {
        std::iter::successors(Some(state), |&s| Some(self.node(s).fallback))
            .take_while(|&s| s != Self::START)
            .map(|s| self.depth(s))
    }

    fn node(&self, state: State) -> &Node {
        &self.nodes[state as usize]
    }

    fn child(&self, state: State, byte: u8) -> Option<State> {
        let edges = &self.node(state).edges;
        edges
            .binary_search_by_key(&byte, |&(b, _)| b)
            .ok()
            .map(|at| edges[at].1)
    }

    fn insert(&mut self, index: usize, pattern: &[u8]) {
        let mut state = Self::START;
        for &byte in pattern {
            state = self.child_or_new(state, byte);
        }
        let node = &mut self.nodes[state as usize];
        if state != Self::START && node.pattern.is_none() {
            node.pattern = Some(index);
        }
    }

    fn child_or_new(&mut self, state: State, byte: u8) -> State {
        let new = self.nodes.len() as State;
        let depth = self.depth(state) + 1;
        let edges = &mut self.nodes[state as usize].edges;
        match edges.binary_search_by_key(&byte, |&(b, _)| b) {
            Ok(at) => edges[at].1,
            Err(at) => {
                edges.insert(at, (byte, new));
                self.nodes.push(Node {
                    depth,
                    ..Node::default()
                });
                new
            }
        }
    }

    /// Fills the fallbacks breadth-first: a node's fallback is shallower, so it is ready before.
    fn link(&mut self) {
        let mut queue: VecDeque<State> = self.nodes[0]
            .edges
            .iter()
            .map(|&(_, child)| child)
            .collect();
        while let Some(state) = queue.pop_front() {
            for (byte, child) in self.node(state).edges.clone() {
                let fallback = self.step(self.node(state).fallback, byte);
                self.nodes[child as usize].fallback = fallback;
                queue.push_back(child);
            }
            let fallback = self.node(self.node(state).fallback);
            let shorter_match = match fallback.pattern {
                Some(_) => Some(self.node(state).fallback),
                None => fallback.shorter_match,
            };
            self.nodes[state as usize].shorter_match = shorter_match;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(automaton: &Automaton, text: &str) -> State {
        text.bytes()
            .fold(Automaton::START, |state, byte| automaton.step(state, byte))
    }

    #[test]
    fn the_textbook_example_finds_overlapping_patterns() {
        let automaton = Automaton::new(["he", "she", "his", "hers"]);
        let state = run(&automaton, "ushe");
        assert_eq!(
            automaton.matches(state).collect::<Vec<_>>(),
            [(1, 3), (0, 2)]
        );
        assert_eq!(automaton.open_suffixes(state).collect::<Vec<_>>(), [3, 2]);
        let state = run(&automaton, "ushers");
        assert_eq!(automaton.matches(state).collect::<Vec<_>>(), [(3, 4)]);
    }

    #[test]
    fn a_pattern_inside_a_longer_unfinished_one_is_still_found() {
        let automaton = Automaton::new(["abcd", "bc"]);
        let state = run(&automaton, "abc");
        assert_eq!(automaton.matches(state).collect::<Vec<_>>(), [(1, 2)]);
        assert_eq!(automaton.depth(state), 3);
    }

    #[test]
    fn empty_patterns_never_match_and_duplicates_report_the_first() {
        let automaton = Automaton::new(["", "x", "x"]);
        assert_eq!(automaton.matches(Automaton::START).count(), 0);
        assert_eq!(
            automaton.matches(run(&automaton, "ax")).collect::<Vec<_>>(),
            [(1, 1)]
        );
    }
}
