//! An Aho–Corasick automaton (Aho and Corasick 1975) over bytes that tells, after every byte, how
//! much of the end of the text could still become one of the patterns.
//!
//! The one idea: a state *is* the longest suffix of the text so far that is a prefix of some
//! pattern, and its depth is that suffix's length. Stop strings hold back exactly that many bytes;
//! the control-token guard reads off imitations that a message leaves unfinished at its end.
//! A byte costs amortised O(1) steps whatever the number of patterns.
//!
//! Layout: states are numbered breadth-first, so the children of a state are neighbours, sorted by
//! byte, and the states of one depth are neighbours too. A state then needs four numbers and no
//! allocation of its own: at most 13 bytes for each byte of all patterns, and 4 for each depth.
//!
//! ```text
//! patterns "ab", "ac", "b"        state       0   1   2   3   4
//!                                 byte        -   a   b   b   c
//!      0 ─a─ 1 ─b─ 3              first_child 1   3   5   5   5   (5: where a sixth state would be)
//!        ─b─ 2  ─c─ 4             fallback    0   0   0   2   0
//!                                 longest     0   0   2   3   4   (0: no pattern ends here)
//! ```

use std::ops::Range;

/// A position in the automaton. [`Automaton::START`] before the first byte.
pub(crate) type State = u32;

/// Recognises a fixed set of patterns in a text that arrives piece by piece.
#[derive(Debug)]
pub(crate) struct Automaton {
    /// The byte that leads from the parent to this state.
    bytes: Vec<u8>,
    /// Where the state's children begin; they end where those of the next state begin.
    first_child: Vec<State>,
    /// Where to go on when no child fits: the next shorter suffix that is a prefix of a pattern.
    fallback: Vec<State>,
    /// The longest pattern that ends here, as the state where it ends by itself: this one or one on its
    /// fallback chain. [`Automaton::START`] if none does.
    longest: Vec<State>,
    /// The first state of each depth.
    depths: Vec<State>,
    /// Where each pattern ends, by state.
    ends: Vec<(State, u32)>,
}

/// A state whose children are still to be made, and the sorted patterns that pass through it.
struct Open {
    state: State,
    patterns: Range<usize>,
}

impl Automaton {
    /// The state before any text.
    pub(crate) const START: State = 0;

    /// Builds the automaton. Empty patterns never match; of equal patterns the first one counts.
    pub(crate) fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Self {
        let mut sorted: Vec<(&[u8], u32)> = patterns
            .into_iter()
            .zip(0..)
            .map(|(pattern, index)| (pattern.as_bytes(), index))
            .filter(|(pattern, _)| !pattern.is_empty())
            .collect();
        sorted.sort_unstable();
        sorted.dedup_by_key(|(pattern, _)| *pattern);
        let mut automaton = Self {
            bytes: vec![0],
            first_child: Vec::new(),
            fallback: vec![Self::START],
            longest: vec![Self::START],
            depths: vec![Self::START],
            ends: Vec::new(),
        };
        automaton.grow(&sorted);
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
            state = self.fallback[state as usize];
        }
    }

    /// Length in bytes of the longest suffix of the text that is a prefix of some pattern.
    pub(crate) fn depth(&self, state: State) -> usize {
        self.depths.partition_point(|&first| first <= state) - 1
    }

    /// The same for a suffix that may still grow: the beginning of a pattern, less than all of it.
    pub(crate) fn open_depth(&self, mut state: State) -> usize {
        while state != Self::START && self.children(state).is_empty() {
            state = self.fallback[state as usize];
        }
        self.depth(state)
    }

    /// The patterns that end at this state as (pattern, length in bytes), the longest first.
    pub(crate) fn matches(&self, state: State) -> impl Iterator<Item = (usize, usize)> {
        let some = |state: State| Some(state).filter(|&state| state != Self::START);
        let longest = move |state: State| some(self.longest[state as usize]);
        std::iter::successors(longest(state), move |&end| {
            longest(self.fallback[end as usize])
        })
        .filter_map(move |end| {
            let at = self.ends.binary_search_by_key(&end, |&(end, _)| end).ok()?;
            Some((self.ends[at].1 as usize, self.depth(end)))
        })
    }

    /// Lengths of all non-empty suffixes of the text that are prefixes of some pattern, longest first.
    pub(crate) fn open_suffixes(&self, state: State) -> impl Iterator<Item = usize> {
        std::iter::successors(Some(state), |&s| Some(self.fallback[s as usize]))
            .take_while(|&s| s != Self::START)
            .map(|s| self.depth(s))
    }

    /// Bytes of memory that it holds.
    pub(crate) fn size_in_bytes(&self) -> usize {
        let states = [
            &self.first_child,
            &self.fallback,
            &self.longest,
            &self.depths,
        ];
        self.bytes.capacity()
            + size_of::<State>() * states.map(Vec::capacity).iter().sum::<usize>()
            + size_of::<(State, u32)>() * self.ends.capacity()
    }

    fn children(&self, state: State) -> Range<usize> {
        let state = state as usize;
        self.first_child[state] as usize..self.first_child[state + 1] as usize
    }

    fn child(&self, state: State, byte: u8) -> Option<State> {
        let children = self.children(state);
        let at = self.bytes[children.clone()].binary_search(&byte).ok()?;
        Some((children.start + at) as State)
    }

    /// Makes the states, one depth after the other: the patterns that pass through a state are
    /// neighbours in sorted order, and so are those that pass through each of its children.
    fn grow(&mut self, sorted: &[(&[u8], u32)]) {
        let mut level = vec![Open {
            state: Self::START,
            patterns: 0..sorted.len(),
        }];
        for depth in 0.. {
            let mut next = Vec::new();
            for Open { state, patterns } in level {
                self.first_child.push(self.bytes.len() as State);
                let mut rest = patterns;
                // The shortest pattern is sorted first, and there are no equal ones.
                if let Some((pattern, index)) = sorted.get(rest.start)
                    && !rest.is_empty()
                    && pattern.len() == depth
                {
                    self.ends.push((state, *index));
                    rest.start += 1;
                }
                while let Some(byte) = sorted[rest.clone()].first().map(|(p, _)| p[depth]) {
                    let same = sorted[rest.clone()].partition_point(|(p, _)| p[depth] == byte);
                    next.push(Open {
                        state: self.bytes.len() as State,
                        patterns: rest.start..rest.start + same,
                    });
                    self.bytes.push(byte);
                    rest.start += same;
                }
            }
            if next.is_empty() {
                break;
            }
            self.depths.push(next[0].state);
            level = next;
        }
        self.first_child.push(self.bytes.len() as State);
    }

    /// Fills the fallbacks breadth-first: a state's fallback is shallower, so it is ready before.
    fn link(&mut self) {
        let states = self.bytes.len();
        self.fallback.resize(states, Self::START);
        self.longest.resize(states, Self::START);
        for &(end, _) in &self.ends {
            self.longest[end as usize] = end;
        }
        for state in 0..states as State {
            for child in self.children(state) {
                if state != Self::START {
                    let from = self.fallback[state as usize];
                    self.fallback[child] = self.step(from, self.bytes[child]);
                }
                if self.longest[child] == Self::START {
                    self.longest[child] = self.longest[self.fallback[child] as usize];
                }
            }
        }
        self.bytes.shrink_to_fit();
        self.ends.shrink_to_fit();
        for list in [
            &mut self.first_child,
            &mut self.fallback,
            &mut self.longest,
            &mut self.depths,
        ] {
            list.shrink_to_fit();
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

    #[test]
    fn a_suffix_that_is_all_of_a_pattern_is_no_longer_open() {
        let automaton = Automaton::new(["ab", "b", "bcd", "cx"]);
        for (text, open) in [
            ("a", 1),
            ("ab", 1),
            ("b", 1),
            ("bc", 2),
            ("bcd", 0),
            ("cx", 0),
        ] {
            assert_eq!(automaton.open_depth(run(&automaton, text)), open, "{text}");
        }
    }

    #[test]
    fn a_state_takes_thirteen_bytes() {
        let patterns: Vec<String> = (0..64_u8)
            .map(|i| char::from(b'0' + i).to_string().repeat(1024))
            .collect();
        let automaton = Automaton::new(patterns.iter().map(String::as_str));
        let states = 64 * 1024 + 1;
        assert_eq!(automaton.bytes.len(), states);
        // Beside the states: the first one of each depth, and where the patterns end.
        assert_eq!(
            automaton.size_in_bytes(),
            13 * states + 4 * 1025 + 8 * 64 + 4
        );
        assert_eq!(automaton.depth(states as State - 1), 1024);
    }
}
