//! The manager, the model beside it, and the memory behind it. Every call is made to both, and then everything
//! that can be seen is compared.

use std::collections::{BTreeMap, HashSet};

use maitre_kv::{
    BlockHash, BlockMoves, CacheEvent, HashChain, KvConfig, KvError, KvManager, SeqId,
    SequenceStart,
};

use crate::memory::{Memory, cells};
use crate::model::{Model, Name};

pub(crate) struct Live {
    pub(crate) namespace: usize,
    pub(crate) tokens: Vec<u32>,
    pub(crate) computed: usize,
    chain: HashChain,
}

pub(crate) struct World {
    pub(crate) kv: KvManager,
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
            kv: KvManager::new(config).unwrap(),
            model: Model::new(
                config.num_blocks as usize,
                config.block_size as usize,
                config.num_host_blocks as usize,
            ),
            live: BTreeMap::new(),
            mirror: HashSet::new(),
            memory: Memory::new(config.num_blocks, config.num_host_blocks, config.block_size),
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
        if self.is_modelled() {
            let found = (
                hit.pool_blocks,
                hit.host_blocks,
                hit.partial.map_or(0, |(_, len)| len),
            );
            assert_eq!(
                found,
                self.model.hit(namespace, tokens, host),
                "the longest"
            );
        }
        let start = SequenceStart {
            tokens,
            chain: &chain,
            hit,
            reserve: tokens.len() + 1,
            headroom,
        };
        let free = self.kv.free_blocks();
        let admitted = self.kv.admit(SeqId(sequence), &start);
        if self.is_modelled() {
            let expected = self
                .model
                .admit(sequence, namespace, tokens, host, headroom);
            assert_eq!(admitted.clone().ok(), expected);
        }
        let Ok(computed) = admitted else {
            assert!(matches!(admitted, Err(KvError::OutOfBlocks { .. })));
            assert_eq!(self.kv.free_blocks(), free, "all or nothing");
            return None;
        };
        let (tokens, computed_before) = (tokens.to_vec(), computed.min(tokens.len() - 1));
        self.live.insert(
            sequence,
            Live {
                namespace,
                tokens,
                computed: computed_before,
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
        let forked = self
            .kv
            .fork(SeqId(parent), SeqId(child), computed, computed + 1, 0);
        if self.is_modelled() {
            let expected = self.model.fork(parent, child, computed, computed + 1);
            assert_eq!(forked.is_ok(), expected);
        }
        if forked.is_err() {
            return false;
        }
        let chain = self.chain(namespace, &tokens);
        self.live.insert(
            child,
            Live {
                namespace,
                tokens,
                computed,
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
        let grown = self.kv.grow(SeqId(sequence), len).is_ok();
        if self.is_modelled() {
            assert_eq!(grown, self.model.grow(sequence, len));
        }
        // The evicted are copied before their blocks are written.
        self.make_moves();
        if !grown {
            return false;
        }
        let live = self.live.get_mut(&sequence).unwrap();
        live.tokens.extend(new);
        let expected = cells(live.namespace, &live.tokens);
        // The last token may be there already: then it would be computed without being written.
        let table = self.kv.block_table(SeqId(sequence)).to_vec();
        for (position, &cell) in expected.iter().enumerate().skip(live.computed) {
            if self.memory.read(&table, position) != cell {
                let slot = self.kv.slot(SeqId(sequence), position).unwrap();
                self.memory.write(slot, cell);
            }
        }
        live.computed = live.tokens.len();
        // The step that computes it has made its moves. They are settled before blocks are given back.
        let gives_back = commit || self.kv.config().window.is_some();
        if gives_back && self.kv.awaits_moves(SeqId(sequence)) {
            self.settle();
        }
        let live = self.live.get_mut(&sequence).unwrap();
        if commit {
            self.kv.extend_chain(&mut live.chain, &live.tokens);
            self.kv
                .commit(SeqId(sequence), &live.chain, &live.tokens, live.computed);
            if self.kv.config().window.is_none() {
                self.model
                    .commit(sequence, live.namespace, &live.tokens, live.computed);
            }
        }
        self.kv.release_behind(SeqId(sequence), live.computed);
        self.check();
        true
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

    /// What the window forgets is not modelled.
    pub(crate) fn is_modelled(&self) -> bool {
        self.kv.config().window.is_none()
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
            let table = self.kv.block_table(SeqId(sequence));
            let cells = cells(live.namespace, &live.tokens);
            let first = self.kv.config().first_read(live.computed);
            for (position, &cell) in cells.iter().enumerate().take(live.computed).skip(first) {
                let seen = self.memory.read(table, position);
                assert_eq!(seen, cell, "{sequence} at {position}");
            }
        }
        if !self.is_modelled() {
            return;
        }
        assert_eq!(self.kv.free_blocks(), self.model.free());
        assert_eq!(self.kv.idle_blocks(), self.model.idle());
        let in_pool = self.model.names_in_pool();
        assert_eq!(self.kv.named_blocks(), in_pool.len());
        let in_host = self.model.names_in_host();
        assert_eq!(self.kv.host_blocks(), in_host.len());
        let names = in_pool.into_iter().chain(in_host);
        let expected: HashSet<BlockHash> = names.map(|name| self.hash(name)).collect();
        assert_eq!(
            self.mirror, expected,
            "what the events say is what is there"
        );
    }

    fn hash(&self, (namespace, tokens): &Name) -> BlockHash {
        *self.chain(*namespace, tokens).hashes().last().unwrap()
    }
}
