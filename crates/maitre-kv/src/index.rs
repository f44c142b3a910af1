//! The prefix index: which block holds the contents of a given name.
//!
//! Names form trees: the parent of a block is the block before it. Beside the way from a name to its block,
//! the index knows the children of every name, so that a prompt which leaves a cached prefix in the middle of
//! a block still finds the block that it shares the beginning of.

use crate::numbers::NumberMap;
use crate::{BlockHash, BlockId};

const NONE: BlockId = BlockId::NONE;

/// How many children of one prefix are compared with a prompt, newest first: a system prompt with ten
/// thousand different continuations must not cost ten thousand comparisons.
const COMPARED_CHILDREN: usize = 16;

/// What the index knows of a named block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) hash: BlockHash,
    /// The name of the block before it, or the root of its namespace.
    pub(crate) parent: BlockHash,
    /// Whether it is the first block of its sequences: its parent is a root.
    pub(crate) first: bool,
    /// Neighbours among the children of `parent`, newer and older.
    newer: BlockId,
    older: BlockId,
}

/// Bytes of a record.
pub(crate) const RECORD_BYTES: usize = size_of::<Option<Record>>();

/// Named blocks. As large at the start as it can ever be.
#[derive(Debug, Clone)]
pub(crate) struct PrefixIndex {
    block_size: usize,
    by_hash: NumberMap<BlockHash, BlockId>,
    /// Per block, its record if it is named.
    records: Vec<Option<Record>>,
    /// Per block, its tokens if it is named.
    tokens: Vec<u32>,
    /// Per name, its newest child.
    newest_child: NumberMap<BlockHash, BlockId>,
}

impl PrefixIndex {
    pub(crate) fn new(num_blocks: u32, block_size: u32) -> Self {
        let num_blocks = num_blocks as usize;
        Self {
            block_size: block_size as usize,
            by_hash: NumberMap::with_capacity_and_hasher(num_blocks, Default::default()),
            records: vec![None; num_blocks],
            // Zeroed pages are not touched before they are written.
            tokens: vec![0; num_blocks * block_size as usize],
            newest_child: NumberMap::with_capacity_and_hasher(num_blocks, Default::default()),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_hash.len()
    }

    pub(crate) fn find(&self, hash: BlockHash) -> Option<BlockId> {
        self.by_hash.get(&hash).copied()
    }

    pub(crate) fn record(&self, block: BlockId) -> Option<&Record> {
        self.records.get(block.0 as usize)?.as_ref()
    }

    pub(crate) fn is_named(&self, block: BlockId) -> bool {
        self.record(block).is_some()
    }

    /// The tokens of a named block.
    pub(crate) fn tokens(&self, block: BlockId) -> &[u32] {
        &self.tokens[self.span(block)]
    }

    fn span(&self, block: BlockId) -> std::ops::Range<usize> {
        let start = block.0 as usize * self.block_size;
        start..start + self.block_size
    }

    /// Names the contents of `block`. Neither the block nor the name is in the index.
    pub(crate) fn insert(
        &mut self,
        block: BlockId,
        hash: BlockHash,
        parent: BlockHash,
        first: bool,
        tokens: &[u32],
    ) {
        debug_assert!(!self.is_named(block) && self.find(hash).is_none());
        let older = self.newest_child.insert(parent, block).unwrap_or(NONE);
        if let Some(Some(record)) = self.records.get_mut(older.0 as usize) {
            record.newer = block;
        }
        self.records[block.0 as usize] = Some(Record {
            hash,
            parent,
            first,
            newer: NONE,
            older,
        });
        self.by_hash.insert(hash, block);
        let span = self.span(block);
        self.tokens[span].copy_from_slice(tokens);
    }

    /// Forgets the name of `block`.
    pub(crate) fn remove(&mut self, block: BlockId) -> Option<Record> {
        let record = self.records.get_mut(block.0 as usize)?.take()?;
        self.by_hash.remove(&record.hash);
        if let Some(Some(newer)) = self.records.get_mut(record.newer.0 as usize) {
            newer.older = record.older;
        } else if record.older == NONE {
            self.newest_child.remove(&record.parent);
        } else {
            self.newest_child.insert(record.parent, record.older);
        }
        if let Some(Some(older)) = self.records.get_mut(record.older.0 as usize) {
            older.newer = record.newer;
        }
        Some(record)
    }

    /// Forgets all names and returns the blocks that had one, in the order of their numbers.
    pub(crate) fn clear(&mut self) -> Vec<BlockId> {
        self.by_hash.clear();
        self.newest_child.clear();
        let named = self.records.iter_mut().enumerate();
        named
            .filter_map(|(block, record)| record.take().map(|_| BlockId(block as u32)))
            .collect()
    }

    /// Among the newest children of `parent`, the block that agrees with `tokens` longest from its
    /// start, and how long that is. Nothing if no child agrees in its first token.
    pub(crate) fn closest_child(
        &self,
        parent: BlockHash,
        tokens: &[u32],
    ) -> Option<(BlockId, usize)> {
        let mut best = None;
        for block in self.children(parent).take(COMPARED_CHILDREN) {
            let agree = self
                .tokens(block)
                .iter()
                .zip(tokens)
                .take_while(|(a, b)| a == b)
                .count();
            if agree > best.map_or(0, |(_, longest)| longest) {
                best = Some((block, agree));
            }
        }
        best
    }

    /// The children of `parent`, newest first.
    pub(crate) fn children(&self, parent: BlockHash) -> impl Iterator<Item = BlockId> {
        let newest = self.newest_child.get(&parent).copied();
        std::iter::successors(newest, |&block| {
            let older = self.record(block)?.older;
            (older != NONE).then_some(older)
        })
    }

    /// Every named block with its record, in the order of the blocks' numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (BlockId, &Record)> {
        let records = self.records.iter().enumerate();
        records.filter_map(|(block, record)| Some((BlockId(block as u32), record.as_ref()?)))
    }
}
