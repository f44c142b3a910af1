//! A suffix automaton, built as the text grows (Blumer et al. 1985, "The smallest automaton recognizing the
//! subwords of a text").
//!
//! A state stands for all substrings that end at the same places of the text; they are suffixes of one
//! another, the longest has the state's `len`, and what is shorter than all of them belongs to the state its
//! `link` leads to. So the text as a whole belongs to the state made last, and the link of that one is the
//! longest suffix that also occurs elsewhere: what is looked for is at hand, not searched for.
//!
//! **Memory.** Of the states, one is made per token: that of the prefix ending there. Such a state is its own
//! `len`, and its edge with the next token leads to the next prefix, so neither is stored. States split off
//! later are called branches. There are fewer of these than tokens, and fewer than twice as many stored
//! edges as tokens.
//!
//! **Time.** Amortised constant per token. One token alone may cost as much as a state has edges, or, where an
//! array grows, as there are tokens.

use super::Match;
use super::edges::{Edge, Edges, NONE};

/// The state of the empty prefix, from which everything starts.
const ROOT: u32 = 0;

/// Set in the number of a branch; a state without it is the prefix of that many tokens.
const BRANCH: u32 = 1 << 31;

/// States that are told of a new occurrence, the longest suffixes first. A text that repeats itself with a
/// short period has as many of them as tokens, the bundled held-out chats have 11 at most and 3 on average.
/// Those that are not told remember an earlier occurrence, which is as true.
const TOLD: usize = 16;

#[derive(Debug, Clone, Copy)]
struct State {
    /// The state of the longest shorter suffix that occurs in more places. [`NONE`] for the root.
    link: u32,
    /// The position behind an occurrence, the last one that the state was told of.
    latest: u32,
    /// The first edge that is stored.
    head: u32,
}

#[derive(Debug, Clone, Copy)]
struct Branch {
    len: u32,
    state: State,
}

/// All substrings of a text.
#[derive(Debug, Clone)]
pub(super) struct SuffixAutomaton {
    prefixes: Vec<State>,
    branches: Vec<Branch>,
    edges: Edges,
    found: Option<Match>,
}

impl SuffixAutomaton {
    /// That of the empty text.
    pub(super) fn new() -> Self {
        Self {
            prefixes: vec![State {
                link: NONE,
                latest: 0,
                head: NONE,
            }],
            branches: Vec::new(),
            edges: Edges::default(),
            found: None,
        }
    }

    /// Tokens that are indexed.
    pub(super) fn len(&self) -> usize {
        self.prefixes.len() - 1
    }

    /// The longest suffix of the text that occurred before.
    pub(super) fn found(&self) -> Option<Match> {
        self.found
    }

    /// Indexes the last token of `text`, all others of which are indexed.
    pub(super) fn push(&mut self, text: &[u32]) {
        let Some(&token) = text.last() else {
            return;
        };
        let whole = text.len() as u32;
        let mut suffix = self.state(whole - 1).link;
        self.prefixes.push(State {
            link: ROOT,
            latest: whole,
            head: NONE,
        });
        // Suffixes that this token never followed, the longest first.
        let link = loop {
            if suffix == NONE {
                break ROOT;
            }
            if let Some(target) = self.target(text, suffix, token) {
                break if self.len_of(target) == self.len_of(suffix) + 1 {
                    target
                } else {
                    self.split(text, suffix, token, target)
                };
            }
            self.insert(suffix, token, whole);
            suffix = self.state(suffix).link;
        };
        self.state_mut(whole).link = link;
        self.found = (link != ROOT).then(|| Match {
            end: self.state(link).latest,
            len: self.len_of(link),
        });
        self.tell(link, whole);
    }

    /// Splits off the substrings of `target` that are no longer than `suffix` and `token`: from now on they
    /// occur where the others don't. Returns their state.
    fn split(&mut self, text: &[u32], mut suffix: u32, token: u32, target: u32) -> u32 {
        let branch = BRANCH | self.branches.len() as u32;
        self.branches.push(Branch {
            len: self.len_of(suffix) + 1,
            state: State {
                head: NONE,
                ..self.state(target)
            },
        });
        if let Some((token, next)) = self.next_prefix(text, target) {
            self.insert(branch, token, next);
        }
        let mut edge = self.state(target).head;
        while edge != NONE {
            let Edge {
                token,
                target,
                next,
            } = self.edges.get(edge);
            self.insert(branch, token, target);
            edge = next;
        }
        self.state_mut(target).link = branch;
        // Only stored edges can lead to the wrong state now: one from a prefix to the next prefix leads to a
        // state that is just one longer, and these are all at least two shorter than `target`.
        while suffix != NONE {
            let state = self.state(suffix);
            match self.edges.find(suffix, state.head, token) {
                Some(edge) if self.edges.get(edge).target == target => {
                    self.edges.redirect(edge, branch);
                    suffix = state.link;
                }
                _ => break,
            }
        }
        branch
    }

    /// Lets the longest suffixes of the text know that they occurred again, ending at `end`.
    fn tell(&mut self, longest: u32, end: u32) {
        let mut id = longest;
        for _ in 0..TOLD {
            if id == ROOT {
                return;
            }
            let state = self.state_mut(id);
            state.latest = end;
            id = state.link;
        }
    }

    /// Where `token` leads from state `id`.
    fn target(&self, text: &[u32], id: u32, token: u32) -> Option<u32> {
        match self.next_prefix(text, id) {
            Some((next, target)) if next == token => Some(target),
            _ => {
                let edge = self.edges.find(id, self.state(id).head, token)?;
                Some(self.edges.get(edge).target)
            }
        }
    }

    /// The edge that is not stored: from a prefix to the next one.
    fn next_prefix(&self, text: &[u32], id: u32) -> Option<(u32, u32)> {
        let is_inner = (id as usize) < self.len();
        is_inner.then(|| (text[id as usize], id + 1))
    }

    fn insert(&mut self, id: u32, token: u32, target: u32) {
        let mut head = self.state(id).head;
        self.edges.insert(id, &mut head, token, target);
        self.state_mut(id).head = head;
    }

    fn len_of(&self, id: u32) -> u32 {
        if id & BRANCH == 0 {
            id
        } else {
            self.branches[(id & !BRANCH) as usize].len
        }
    }

    fn state(&self, id: u32) -> State {
        if id & BRANCH == 0 {
            self.prefixes[id as usize]
        } else {
            self.branches[(id & !BRANCH) as usize].state
        }
    }

    fn state_mut(&mut self, id: u32) -> &mut State {
        if id & BRANCH == 0 {
            &mut self.prefixes[id as usize]
        } else {
            &mut self.branches[(id & !BRANCH) as usize].state
        }
    }

    /// Bytes of memory beside the struct itself.
    pub(super) fn bytes(&self) -> usize {
        self.prefixes.capacity() * size_of::<State>()
            + self.branches.capacity() * size_of::<Branch>()
            + self.edges.bytes()
    }
}
