//! Recurrent states: where a sequence reads its own, and where it writes the next ones.
//!
//! A recurrent layer keeps no keys and values, but one state, which each token changes. Were it changed where it lies, no step
//! could be run again, and no draft could be rejected. So a span reads one state and writes others:
//!
//! ```text
//! a checkpoint every 8 tokens      6       8       10  11  12
//! span of tokens 6..10             read    write   write                in flight
//! span of token 10, 2 drafts                       read    write each   planned
//! ```
//!
//! A state is named here by the number of tokens that it is behind. What is written is the state behind the span, behind each
//! draft, and at each checkpoint. When the span is committed, the states before it are not read again. The pages of these are
//! written next: they go round in a ring, which has one state more than there are steps in flight.
//!
//! A state behind a multiple of [`checkpoint_every`](crate::KvSpec::State) gets the name of the block that it is behind when its
//! step is committed. A named state is never written again; it is idle when no sequence reads it, and then leaves for the
//! host tier, comes back or is evicted, page by page, as blocks do.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::config::ring;
use crate::index::Contents;
use crate::table::Tables;
use crate::{BlockId, HashChain, KvError, KvManager, KvSpec, SeqId};

/// Where a recurrent state is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateRef(Arc<[BlockId]>);

impl StateRef {
    /// Its pages in order, as many as [`KvSpec::State`] says.
    pub fn pages(&self) -> &[BlockId] {
        &self.0
    }
}

/// Which states of a group a span reads and writes. It never writes what it reads, and no step in flight before it reads what
/// it writes: so it may be computed as often as its step is run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateSpan {
    /// The state behind the tokens before the span; `None` if it begins with the first token of its sequence, before
    /// which there is none.
    pub read: Option<StateRef>,
    /// The states to be kept, by ascending rows; the one behind the last row is always among them.
    pub writes: Vec<StateWrite>,
}

/// A state that a span leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateWrite {
    /// Behind which row of the span: 0 = behind its first token.
    pub row: usize,
    /// Where it is kept.
    pub to: StateRef,
}

/// Of which states a span needs.
#[derive(Debug, Clone)]
pub struct StateRequest {
    /// The positions that it computes.
    pub positions: Range<usize>,
    /// Whether its last token may be computed again, so that the state before that one is needed once more.
    pub again: bool,
    /// Whether later sequences may start from its checkpoints.
    pub checkpoints: bool,
    /// Pages that checkpoints leave free. Those for which there are too few are left out.
    pub headroom: usize,
}

/// The states of one sequence in one group.
#[derive(Debug, Clone)]
pub(crate) struct States {
    /// Those that are there, or that spans in flight write, each with the number of tokens it is behind, ascending.
    at: VecDeque<(usize, StateRef)>,
    /// Those that are written next: of this sequence alone, and without a name.
    spare: Vec<StateRef>,
    /// How many of both are kept.
    ring: usize,
}

impl States {
    /// None of a group, for a sequence that has at most so many steps in flight.
    pub(crate) fn new(steps: usize) -> Self {
        Self {
            at: VecDeque::new(),
            spare: Vec::new(),
            ring: ring(steps),
        }
    }

    /// States of `parts` pages each: the first one is behind `found` tokens, if there are any, and the others are spare.
    pub(crate) fn of_pages(steps: usize, pages: &[BlockId], parts: usize, found: usize) -> Self {
        let mut states = pages
            .chunks_exact(parts)
            .map(|pages| StateRef(pages.into()));
        let found = (found > 0)
            .then(|| states.next())
            .flatten()
            .map(|it| (found, it));
        Self {
            at: found.into_iter().collect(),
            spare: states.collect(),
            ring: ring(steps),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.at.is_empty() && self.spare.is_empty()
    }

    /// The pages of all of them.
    pub(crate) fn held(&self) -> impl Iterator<Item = BlockId> {
        let states = self.at.iter().map(|(_, state)| state).chain(&self.spare);
        states.flat_map(|state| state.pages().iter().copied())
    }

    /// Those that are there or will be, each with the number of tokens it is behind.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &StateRef)> {
        self.at.iter().map(|(tokens, state)| (*tokens, state))
    }

    /// Those that are written next.
    pub(crate) fn spare(&self) -> impl Iterator<Item = &StateRef> {
        self.spare.iter()
    }

    /// Whether each is behind more tokens than the one before it.
    pub(crate) fn is_in_order(&self) -> bool {
        let pairs = self.at.iter().zip(self.at.iter().skip(1));
        pairs
            .into_iter()
            .all(|((before, _), (after, _))| before < after)
    }

    pub(crate) fn find(&self, tokens: usize) -> Option<&StateRef> {
        self.iter()
            .find(|(at, _)| *at == tokens)
            .map(|(_, state)| state)
    }

    /// Takes those behind fewer than `tokens` tokens.
    fn take_before(&mut self, tokens: usize) -> impl Iterator<Item = (usize, StateRef)> {
        let gone = self.at.iter().take_while(|(at, _)| *at < tokens).count();
        self.at.drain(..gone)
    }

    /// Takes those behind more than `tokens` tokens.
    fn take_behind(&mut self, tokens: usize) -> impl Iterator<Item = (usize, StateRef)> {
        let kept = self.at.iter().take_while(|(at, _)| *at <= tokens).count();
        self.at.drain(kept..)
    }

    /// How many more there are than are kept, as far as they are spare.
    fn surplus(&self) -> usize {
        let all = self.at.len() + self.spare.len();
        all.saturating_sub(self.ring).min(self.spare.len())
    }
}

impl KvManager {
    /// Whether some group keeps states.
    pub fn has_state(&self) -> bool {
        self.has_state
    }

    /// Whether `sequence` has, or will have when the steps in flight are done, the state behind its first `tokens` tokens in
    /// every group that keeps states.
    pub fn has_state_behind(&self, sequence: SeqId, tokens: usize) -> bool {
        let has = |(group, spec): (usize, &KvSpec)| {
            let states = || self.tables.get(&sequence)?.states.get(group);
            !spec.is_state() || states().is_some_and(|states| states.find(tokens).is_some())
        };
        tokens == 0 || self.config.groups.iter().enumerate().all(has)
    }

    /// Sees to it that `sequence`, which has tables, has `count` states to write in each group that keeps them.
    ///
    /// # Errors
    ///
    /// [`KvError::OutOfPages`] if the free pages do not suffice; nothing has changed then.
    pub fn reserve_states(&mut self, sequence: SeqId, count: usize) -> Result<(), KvError> {
        if !self.has_state {
            return Ok(());
        }
        let Some(mut tables) = self.tables.remove(&sequence) else {
            return Ok(());
        };
        let (needed, free) = (self.missing_states(&tables, count), self.pool.num_free());
        if needed <= free {
            self.add_states(&mut tables, count);
        }
        self.tables.insert(sequence, tables);
        match needed <= free {
            true => Ok(()),
            false => Err(KvError::OutOfPages { needed, free }),
        }
    }

    /// Pages that tables take to have `count` states to write in each group.
    pub(crate) fn missing_states(&self, tables: &Tables, count: usize) -> usize {
        let groups = self.config.groups.iter().zip(&tables.states);
        let missing = groups
            .filter(|(spec, _)| spec.is_state())
            .map(|(spec, states)| {
                let more = count.saturating_sub(states.spare.len());
                more * spec.parts()
            });
        missing.sum()
    }

    /// Takes the pages that [`missing_states`](Self::missing_states) counts.
    pub(crate) fn add_states(&mut self, tables: &mut Tables, count: usize) {
        for (group, states) in tables.states.iter_mut().enumerate() {
            let spec = self.config.groups[group];
            while spec.is_state() && states.spare.len() < count {
                match self.new_state(spec) {
                    Some(state) => states.spare.push(state),
                    None => return,
                }
            }
        }
    }

    /// A state that holds nothing yet. `None` if there are too few pages.
    fn new_state(&mut self, spec: KvSpec) -> Option<StateRef> {
        let parts = spec.parts();
        if self.pool.num_free() < parts {
            return None;
        }
        let pages = (0..parts).map_while(|_| self.allocate());
        Some(StateRef(pages.collect()))
    }

    /// Plans which states of a group a span of `sequence` reads and writes. `None` for a group that keeps none.
    ///
    /// The states that it needs are [reserved](Self::reserve_states): one, and one more if its last token may be computed again
    /// and is not its only one.
    pub fn plan_states(
        &mut self,
        sequence: SeqId,
        group: usize,
        request: &StateRequest,
    ) -> Option<StateSpan> {
        let spec = *self.config.groups.get(group)?;
        let KvSpec::State {
            checkpoint_every, ..
        } = spec
        else {
            return None;
        };
        let mut tables = self.tables.remove(&sequence)?;
        let states = &mut tables.states[group];
        let Range { start, end } = request.positions;
        let read = states.find(start).cloned();
        debug_assert!(
            start == 0 || read.is_some(),
            "{sequence:?} has no state behind {start}"
        );
        let every = checkpoint_every as usize;
        let checkpoints = (start / every + 1..).map(|number| number * every);
        let keeps = request.checkpoints && self.config.prefix_cache;
        let checkpoints = checkpoints.take_while(|&tokens| keeps && tokens < end);
        let mut behind: SmallVec<[usize; 4]> = checkpoints.collect();
        behind.extend((request.again && start + 1 < end).then_some(end - 1));
        behind.push(end);
        behind.dedup();
        let mut writes = Vec::with_capacity(behind.len());
        for tokens in behind {
            let is_needed = tokens == end || request.again && tokens + 1 == end;
            let free = self.pool.num_free().saturating_sub(request.headroom);
            let to = match is_needed {
                true => states.spare.pop().or_else(|| self.new_state(spec)),
                false if free < spec.parts() => None,
                false => self.new_state(spec),
            };
            if let Some(to) = to {
                states.at.push_back((tokens, to.clone()));
                writes.push(StateWrite {
                    row: tokens - start - 1,
                    to,
                });
            }
        }
        self.tables.insert(sequence, tables);
        Some(StateSpan { read, writes })
    }

    /// Where a group keeps the states behind drafted tokens at `positions`, whose span begins at `start`: one behind each.
    /// They are [reserved](Self::reserve_states).
    pub fn plan_draft_states(
        &mut self,
        sequence: SeqId,
        group: usize,
        start: usize,
        positions: Range<usize>,
    ) -> Vec<StateWrite> {
        let tables = self.tables.get_mut(&sequence);
        let Some(states) = tables.and_then(|tables| tables.states.get_mut(group)) else {
            return Vec::new();
        };
        let write = |position: usize| {
            let to = states.spare.pop()?;
            states.at.push_back((position + 1, to.clone()));
            Some(StateWrite {
                row: position - start,
                to,
            })
        };
        positions.map_while(write).collect()
    }

    /// Takes back what was planned of `sequence` behind its first `tokens` tokens: drafts that were rejected, and steps that
    /// are not to be.
    pub fn rewind_states(&mut self, sequence: SeqId, tokens: usize) {
        self.drop_states(sequence, |states| states.take_behind(tokens).collect());
    }

    /// Gives up the states of `sequence` behind fewer than `tokens` tokens.
    pub(crate) fn drop_states_before(&mut self, sequence: SeqId, tokens: usize) {
        self.drop_states(sequence, |states| states.take_before(tokens).collect());
    }

    /// What is given up is written next if no other sequence holds it and it has no name. Otherwise, and where there is more
    /// than the ring takes, its pages are given back: those of one checkpoint together.
    fn drop_states(
        &mut self,
        sequence: SeqId,
        take: impl Fn(&mut States) -> SmallVec<[(usize, StateRef); 2]>,
    ) {
        if !self.has_state {
            return;
        }
        let Some(mut tables) = self.tables.remove(&sequence) else {
            return;
        };
        let mut gone: Vec<(usize, StateRef)> = Vec::new();
        for states in &mut tables.states {
            for (tokens, state) in take(states) {
                match self.is_own(&state) {
                    true => states.spare.push(state),
                    false => gone.push((tokens, state)),
                }
            }
            let surplus = states.surplus();
            gone.extend(states.spare.drain(..surplus).map(|state| (0, state)));
        }
        self.tables.insert(sequence, tables);
        gone.sort_by_key(|(tokens, _)| *tokens);
        for page in gone.iter().flat_map(|(_, state)| state.pages()) {
            self.let_go(*page);
        }
    }

    /// Whether one sequence alone holds a state, and no later one can find it.
    pub(crate) fn is_own(&self, state: &StateRef) -> bool {
        let mut pages = state.pages().iter();
        pages.all(|&page| self.pool.ref_counts[page.0 as usize] == 1 && !self.index.is_named(page))
    }

    /// Names the checkpoints of a sequence in a group among the states behind its first `blocks` blocks. A page whose name is
    /// taken stays without one: another holds the same, and this one is given up soon.
    pub(crate) fn name_states(
        &mut self,
        group: usize,
        states: &States,
        blocks: usize,
        chain: &HashChain,
        tokens: &[u32],
    ) {
        let KvSpec::State {
            checkpoint_every, ..
        } = self.config.groups[group]
        else {
            return;
        };
        let block_size = self.config.block_size as usize;
        for (behind, state) in states.iter() {
            let index = behind / block_size;
            if !behind.is_multiple_of(checkpoint_every as usize) || index == 0 || index > blocks {
                continue;
            }
            for (part, &page) in state.pages().iter().enumerate() {
                let contents = Contents::of_part(chain.hashes()[index - 1], group, part);
                if self.index.find(contents.name()).is_none() && !self.index.is_named(page) {
                    self.name(page, contents, chain, index - 1, tokens);
                    self.announce(contents, chain, index - 1, tokens);
                }
            }
        }
    }
}
