//! The manager, the model beside it, and the memory behind it. Every call is made to both, and then everything
//! that can be seen is compared.

use std::collections::{BTreeMap, HashMap, HashSet};

use maitre_kv::{
    Ahead, BlockHash, BlockId, BlockMoves, CacheEvent, ForkStart, HashChain, KvConfig, KvError,
    KvManager, KvSpec, SeqId, SequenceStart, StateRequest, StateSpan,
};

use crate::memory::{Memory, cells};
use crate::model::{Model, Name, Reach, part_of, parts};

pub(crate) struct Live {
    pub(crate) namespace: usize,
    pub(crate) tokens: Vec<u32>,
    pub(crate) computed: usize,
    /// Positions that were there at the start, which are not written.
    there: usize,
    chain: HashChain,
}

pub(crate) struct World {
    pub(crate) kv: KvManager,
    /// What new tables of groups that forget cover behind what is computed.
    pub(crate) ahead: Ahead,
    pub(crate) model: Model,
    pub(crate) live: BTreeMap<u64, Live>,
    /// Names in the cache, by its events.
    mirror: HashSet<BlockHash>,
    memory: Memory,
    unsettled: Vec<BlockMoves>,
}

impl World {
    pub(crate) fn new(config: KvConfig) -> Self {
        let config = KvConfig {
            events: true,
            ..config
        };
        Self {
            model: Model::new(&config),
            live: BTreeMap::new(),
            mirror: HashSet::new(),
            memory: Memory::new(config.num_pages, config.num_host_pages, config.block_size),
            kv: KvManager::new(config).unwrap(),
            ahead: Ahead {
                positions: 1 << 20,
                steps: 1,
            },
            unsettled: Vec::new(),
        }
    }

    pub(crate) fn chain(&self, namespace: usize, tokens: &[u32]) -> HashChain {
        let parts: [&[u8]; 1] = [&[namespace as u8]];
        let mut chain = HashChain::new(self.kv.namespace(&parts));
        self.kv.extend_chain(&mut chain, tokens);
        chain
    }

    /// Returns the tokens that a sequence of `tokens` starts with, or nothing if there are too few blocks.
    pub(crate) fn admit(
        &mut self,
        sequence: u64,
        namespace: usize,
        tokens: &[u32],
        host: bool,
        headroom: usize,
    ) -> Option<usize> {
        let chain = self.chain(namespace, tokens);
        let hit = self.kv.find_prefix(&chain, tokens, host);
        let found = (hit.blocks, hit.partial.map_or(0, |(_, len)| len));
        let expected = self.model.hit(namespace, tokens, host);
        assert_eq!(found, expected, "the longest");
        let reach = Reach {
            reserve: tokens.len() + 1,
            ahead: self.ahead,
            headroom,
        };
        let start = SequenceStart {
            tokens,
            chain: &chain,
            hit,
            reserve: reach.reserve,
            ahead: reach.ahead,
            headroom,
        };
        let free = self.kv.free_pages();
        let admitted = self.kv.admit(SeqId(sequence), &start);
        let expected = self.model.admit(sequence, namespace, tokens, host, reach);
        assert_eq!(admitted.clone().ok(), expected);
        let Ok(computed) = admitted else {
            assert!(matches!(admitted, Err(KvError::OutOfPages { .. })));
            assert_eq!(self.kv.free_pages(), free, "all or nothing");
            return None;
        };
        let (tokens, computed_before) = (tokens.to_vec(), computed.min(tokens.len() - 1));
        self.live.insert(
            sequence,
            Live {
                namespace,
                tokens,
                computed: computed_before,
                there: computed,
                chain,
            },
        );
        self.make_moves();
        self.check();
        Some(computed)
    }

    pub(crate) fn fork(&mut self, parent: u64, child: u64) -> bool {
        let of = &self.live[&parent];
        let (namespace, tokens, computed) = (of.namespace, of.tokens.clone(), of.computed);
        let tokens = tokens[..computed].to_vec();
        if computed == 0 || !self.kv.can_fork(SeqId(parent), computed) {
            return false;
        }
        let reach = Reach {
            reserve: computed + 1,
            ahead: self.ahead,
            headroom: 0,
        };
        let start = ForkStart {
            tokens: computed,
            reserve: reach.reserve,
            ahead: reach.ahead,
            headroom: 0,
        };
        // A recurrence computes the last token again.
        let again = usize::from(self.kv.has_state());
        let forked = self.kv.fork(SeqId(parent), SeqId(child), start);
        let expected = self.model.fork(parent, child, computed, reach);
        assert_eq!(forked.is_ok(), expected);
        if forked.is_err() {
            return false;
        }
        let chain = self.chain(namespace, &tokens);
        self.live.insert(
            child,
            Live {
                namespace,
                tokens,
                computed: computed - again,
                there: computed,
                chain,
            },
        );
        self.make_moves();
        self.check();
        true
    }

    /// Appends `new` tokens and computes all that are not computed, if there are enough blocks. A block that
    /// other sequences hold or that has a name is never written.
    pub(crate) fn compute(&mut self, sequence: u64, new: &[u32], commit: bool) -> bool {
        let Some(live) = self.live.get(&sequence) else {
            return false;
        };
        let len = live.tokens.len() + new.len();
        let start = live.computed;
        let grown = self.kv.grow(SeqId(sequence), len).is_ok();
        assert_eq!(grown, self.model.grow(sequence, len));
        let states = if grown && start < len {
            self.plan_states(sequence, start, len, commit)
        } else {
            Vec::new()
        };
        // The evicted are copied before their blocks are written.
        self.make_moves();
        if !grown {
            return false;
        }
        let again = states.iter().any(|(_, span)| {
            let rows = span.writes.iter().map(|write| write.row);
            rows.max().unwrap() > 0 && span.writes.iter().any(|it| start + it.row + 2 == len)
        });
        self.compute_states(sequence, new, start, &states);
        let live = self.live.get_mut(&sequence).unwrap();
        live.tokens.extend(new);
        for group in (0..self.kv.num_groups()).filter(|it| states.iter().all(|of| of.0 != *it)) {
            // The last token may be there already: then it would be computed without being written.
            let cells = cells(live.namespace, group, &live.tokens);
            for (position, &cell) in cells.iter().enumerate().skip(live.computed) {
                let slot = self.kv.slot(SeqId(sequence), group, position).unwrap();
                if self.memory.read(slot) != cell {
                    self.memory.write(slot, cell);
                }
            }
        }
        live.computed = live.tokens.len();
        // The step that computes it has made its moves. They are settled before blocks are given back.
        let gives_back = commit || self.kv.config().forgets();
        if gives_back && self.kv.awaits_moves(SeqId(sequence)) {
            self.settle();
        }
        let live = self.live.get_mut(&sequence).unwrap();
        if commit {
            self.kv.extend_chain(&mut live.chain, &live.tokens);
            self.kv
                .commit(SeqId(sequence), &live.chain, &live.tokens, live.computed);
            self.model
                .commit(sequence, live.namespace, &live.tokens, live.computed);
        }
        // For a fork, the state is kept that the last token reads.
        let behind = live.computed - usize::from(again);
        self.kv.release_behind(SeqId(sequence), behind);
        self.model.release_behind(sequence, behind);
        self.check();
        true
    }

    /// Plans what each recurrent group reads and writes.
    fn plan_states(
        &mut self,
        sequence: u64,
        start: usize,
        end: usize,
        checkpoints: bool,
    ) -> Vec<(usize, StateSpan)> {
        let reserved = self.kv.reserve_states(SeqId(sequence), 2).is_ok();
        assert_eq!(reserved, self.model.reserve_states(sequence, 2));
        let request = StateRequest {
            positions: start..end,
            again: reserved,
            checkpoints,
            headroom: 0,
        };
        let groups = 0..self.kv.num_groups();
        let spans = groups.filter_map(|group| {
            let positions = (start, end);
            let span = self.kv.plan_states(SeqId(sequence), group, &request)?;
            self.model
                .plan_states(sequence, group, positions, reserved, checkpoints);
            Some((group, span))
        });
        spans.collect()
    }

    /// What is read has to be the state behind the tokens before; what is written is read later.
    fn compute_states(
        &mut self,
        sequence: u64,
        new: &[u32],
        start: usize,
        states: &[(usize, StateSpan)],
    ) {
        let live = &self.live[&sequence];
        let tokens = [&live.tokens, new].concat();
        for (group, span) in states {
            let cells = cells(live.namespace, *group, &tokens);
            assert_eq!(span.read.is_some(), start > 0);
            if let Some(read) = &span.read {
                let is_right = self.memory.has_state(read, cells[start - 1]);
                assert!(is_right, "{sequence} behind {start} in {group}");
            }
            for write in &span.writes {
                self.memory.write_state(&write.to, cells[start + write.row]);
            }
        }
    }

    pub(crate) fn release(&mut self, sequence: u64) {
        self.settle();
        self.live.remove(&sequence);
        self.kv.release(SeqId(sequence));
        self.model.release(sequence);
        self.check();
    }

    pub(crate) fn settle(&mut self) {
        for moves in std::mem::take(&mut self.unsettled) {
            self.kv.settle(&moves);
        }
        self.model.settle();
        self.check();
    }

    pub(crate) fn reset(&mut self) {
        self.kv.reset_prefix_cache();
        self.model.reset();
        self.check();
    }

    pub(crate) fn set_offload(&mut self, offload: bool) {
        self.kv.set_offload(offload);
        self.model.offload = offload;
    }

    pub(crate) fn finds(&self, hash: BlockHash) -> bool {
        self.mirror.contains(&hash)
    }

    fn make_moves(&mut self) {
        let moves = self.kv.take_moves();
        self.memory.make(&moves);
        self.unsettled.push(moves);
    }

    fn check(&mut self) {
        assert_eq!(self.kv.check_invariants(), Ok(()));
        for event in self.kv.take_events() {
            match event {
                CacheEvent::Stored { hash, .. } => assert!(self.mirror.insert(hash)),
                CacheEvent::Removed { hash } => assert!(self.mirror.remove(&hash)),
                CacheEvent::Cleared => self.mirror.clear(),
            }
        }
        for (&sequence, live) in &self.live {
            let groups = self.kv.config().groups.iter().enumerate();
            for (group, spec) in groups.filter(|(_, spec)| !spec.is_state()) {
                let held = self.kv.block_table(SeqId(sequence), group).len();
                assert_eq!(held, self.model.held_by(sequence, group));
                let cells = cells(live.namespace, group, &live.tokens);
                let read = spec.first_read(live.computed)..live.computed;
                for (position, slot) in
                    read.clone()
                        .zip(self.kv.slots(SeqId(sequence), group, read))
                {
                    let seen = self.memory.read(slot);
                    assert_eq!(seen, cells[position], "{sequence} at {position} in {group}");
                }
            }
        }
        self.check_writers();
        assert_eq!(self.kv.free_pages(), self.model.free());
        assert_eq!(self.kv.idle_pages(), self.model.idle());
        let in_pool = self.model.names_in_pool();
        assert_eq!(self.kv.named_pages(), in_pool.len());
        let in_host = self.model.names_in_host();
        assert_eq!(self.kv.host_pages(), in_host.len());
        let kept: HashSet<&Name> = in_pool.into_iter().chain(in_host).collect();
        let groups = self.kv.config().groups.iter().enumerate();
        let of_group = |(group, spec): (usize, &KvSpec)| {
            (0..parts(*spec)).map(move |part| part_of(group, part))
        };
        let all: Vec<usize> = groups.flat_map(of_group).collect();
        let in_all = kept.iter().filter(|(namespace, _, tokens)| {
            let name = |part: &usize| (*namespace, *part, tokens.clone());
            all.iter().all(|part| kept.contains(&name(part)))
        });
        let expected: HashSet<BlockHash> = in_all.map(|name| self.hash(name)).collect();
        assert_eq!(
            self.mirror, expected,
            "what the events say is what every group has"
        );
    }

    /// No page is in the tables of two groups, and one that may still be written, being behind what is computed of a
    /// sequence, is in one table only.
    fn check_writers(&self) {
        let mut groups: HashMap<BlockId, usize> = HashMap::new();
        let mut holders: HashMap<BlockId, usize> = HashMap::new();
        let tables = || {
            let sequences = self.live.keys();
            sequences.flat_map(|&id| (0..self.kv.num_groups()).map(move |group| (id, group)))
        };
        for (id, group) in tables() {
            for &page in self.kv.block_table(SeqId(id), group) {
                assert_eq!(*groups.entry(page).or_insert(group), group, "{page:?}");
                *holders.entry(page).or_default() += 1;
            }
        }
        for (id, group) in tables() {
            let live = &self.live[&id];
            let written = self.kv.blocks_for(live.computed.max(live.there));
            let first = self.kv.first_block(SeqId(id), group);
            let table = self.kv.block_table(SeqId(id), group);
            for page in table.iter().skip(written.saturating_sub(first)) {
                assert_eq!(holders[page], 1, "{page:?} has two writers");
            }
        }
    }

    fn hash(&self, (namespace, _, tokens): &Name) -> BlockHash {
        *self.chain(*namespace, tokens).hashes().last().unwrap()
    }
}
