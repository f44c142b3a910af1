//! What the manager should do with recurrent states, beside [`Model`]'s blocks.

use std::collections::BTreeMap;

use maitre_kv::{Ahead, KvSpec};

use crate::model::{Found, Model, Sequence, part_of, parts};

/// The states of a sequence in a group: the pages of each.
#[derive(Debug, Clone, Default)]
pub(crate) struct States {
    /// By the tokens that they are behind.
    at: BTreeMap<usize, Vec<usize>>,
    spare: Vec<Vec<usize>>,
    ring: usize,
}

impl States {
    pub(crate) fn of_pages(
        spec: KvSpec,
        ahead: Ahead,
        pages: &mut BTreeMap<usize, usize>,
        found: usize,
    ) -> Self {
        if !spec.is_state() {
            return Self::default();
        }
        let pages: Vec<usize> = std::mem::take(pages).into_values().collect();
        let mut spare: Vec<Vec<usize>> = pages.chunks(parts(spec)).map(<[_]>::to_vec).collect();
        let shared = (found > 0).then(|| (found, spare.remove(0)));
        Self {
            at: shared.into_iter().collect(),
            spare,
            ring: ahead.steps + 1,
        }
    }

    pub(crate) fn held(&self) -> impl Iterator<Item = usize> {
        self.at.values().chain(&self.spare).flatten().copied()
    }

    /// The pages of the state that a fork of so many tokens goes on from.
    pub(crate) fn shared(&self, tokens: usize) -> Vec<usize> {
        self.at.get(&(tokens - 1)).cloned().unwrap_or_default()
    }
}

impl Model {
    /// The pages of the state behind so many blocks, if it may be found there: never behind the last token.
    pub(crate) fn find_state(
        &self,
        namespace: usize,
        group: usize,
        tokens: &[u32],
        blocks: usize,
        host: bool,
    ) -> Option<Found> {
        let KvSpec::State {
            checkpoint_every, ..
        } = self.config.groups[group]
        else {
            return None;
        };
        let behind = blocks * self.block_size();
        let is_checkpoint = behind.is_multiple_of(checkpoint_every as usize);
        if behind == 0 || behind >= tokens.len() || !is_checkpoint {
            return None;
        }
        let parts = (0..parts(self.config.groups[group])).map(|part| {
            let name = (namespace, part_of(group, part), tokens[..behind].to_vec());
            let page = self.find(&name);
            let is_kept = page.is_some() || host && self.names_in_host().contains(&name);
            is_kept.then_some((part, name, page))
        });
        parts.collect()
    }

    pub(crate) fn missing_states(&self, sequence: &Sequence, count: usize) -> usize {
        let groups = self.groups().zip(&sequence.states);
        let missing = groups.filter(|((_, spec), _)| spec.is_state());
        let pages = missing
            .map(|((_, spec), states)| count.saturating_sub(states.spare.len()) * parts(spec));
        pages.sum()
    }

    pub(crate) fn add_states(&mut self, sequence: &mut Sequence, count: usize) {
        for ((_, spec), states) in self.groups().zip(&mut sequence.states) {
            while spec.is_state() && states.spare.len() < count {
                let pages = (0..parts(spec)).map(|_| self.allocate());
                states.spare.push(pages.collect());
            }
        }
    }

    pub(crate) fn reserve_states(&mut self, sequence: u64, count: usize) -> bool {
        let mut it = self.sequences.remove(&sequence).unwrap();
        let fits = self.missing_states(&it, count) <= self.free();
        if fits {
            self.add_states(&mut it, count);
        }
        self.sequences.insert(sequence, it);
        fits
    }

    /// Plans the states of a group that positions `start` to `end` leave: at checkpoints, perhaps before the last token, and
    /// behind it.
    pub(crate) fn plan_states(
        &mut self,
        sequence: u64,
        group: usize,
        (start, end): (usize, usize),
        again: bool,
        checkpoints: bool,
    ) {
        let spec = self.config.groups[group];
        let KvSpec::State {
            checkpoint_every, ..
        } = spec
        else {
            return;
        };
        let mut it = self.sequences.remove(&sequence).unwrap();
        for behind in start + 1..=end {
            let is_needed = behind == end || again && behind + 1 == end;
            let is_checkpoint = checkpoints && behind.is_multiple_of(checkpoint_every as usize);
            let state = match is_needed {
                true => it.states[group].spare.pop(),
                false if is_checkpoint && self.free() >= parts(spec) => {
                    Some((0..parts(spec)).map(|_| self.allocate()).collect())
                }
                false => None,
            };
            if let Some(state) = state {
                it.states[group].at.insert(behind, state);
            }
        }
        self.sequences.insert(sequence, it);
    }

    pub(crate) fn name_states(
        &mut self,
        sequence: &Sequence,
        namespace: usize,
        tokens: &[u32],
        blocks: usize,
    ) {
        for ((group, spec), states) in self.groups().zip(&sequence.states) {
            let KvSpec::State {
                checkpoint_every, ..
            } = spec
            else {
                continue;
            };
            for (&behind, pages) in states.at.range(..=blocks * self.block_size()) {
                let is_checkpoint = behind.is_multiple_of(checkpoint_every as usize);
                for (part, &page) in pages.iter().enumerate().filter(|_| is_checkpoint) {
                    let name = (namespace, part_of(group, part), tokens[..behind].to_vec());
                    if self.find(&name).is_none() && !self.is_named(page) {
                        self.name(page, name);
                    }
                }
            }
        }
    }

    pub(crate) fn drop_states_before(&mut self, sequence: &mut Sequence, tokens: usize) {
        let mut gone = Vec::new();
        for states in &mut sequence.states {
            let kept = states.at.split_off(&tokens);
            for (behind, state) in std::mem::replace(&mut states.at, kept) {
                match state.iter().all(|&page| self.is_own(page)) {
                    true => states.spare.push(state),
                    false => gone.push((behind, state)),
                }
            }
            while states.at.len() + states.spare.len() > states.ring && !states.spare.is_empty() {
                gone.push((0, states.spare.remove(0)));
            }
        }
        gone.sort_by_key(|(behind, _)| *behind);
        gone.into_iter()
            .flat_map(|(_, state)| state)
            .for_each(|page| self.let_go(page));
    }
}
