//! The prefix index: which page holds the contents of a given name.
//!
//! Names form trees, in each group its own: the parent of a block is the block before it. Beside the way from a name
//! to its page, the index knows the children of every name, so that a prompt which leaves a cached prefix in the middle of
//! a block still finds the block that it shares the beginning of.

use crate::name::Name;
use crate::numbers::NumberMap;
use crate::{BlockHash, BlockId};

const NONE: BlockId = BlockId::NONE;

/// How many children of one prefix are compared with a prompt, newest first: a system prompt with ten
/// thousand different continuations must not cost ten thousand comparisons.
const COMPARED_CHILDREN: usize = 16;

/// What a page may hold: the keys and values of a block for the layers of one group, or a part of their state behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) hash: BlockHash,
    /// The group, by its number.
    pub(crate) group: u16,
    /// Which page of a state it is.
    pub(crate) part: u16,
}

impl Contents {
    pub(crate) fn new(hash: BlockHash, group: usize) -> Self {
        Self::of_part(hash, group, 0)
    }

    pub(crate) fn of_part(hash: BlockHash, group: usize, part: usize) -> Self {
        // `KvConfig::validate` bounds both numbers.
        let (group, part) = (group as u16, part as u16);
        Self { hash, group, part }
    }

    pub(crate) fn group(self) -> usize {
        usize::from(self.group)
    }

    pub(crate) fn name(self) -> Name {
        Name::of_part(self.hash, self.group(), usize::from(self.part))
    }
}

/// What the index knows of a named page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) hash: BlockHash,
    /// The hash of the block before it, or the root of its namespace.
    pub(crate) parent: BlockHash,
    group: u16,
    part: u16,
    /// Whether it is the first block of its sequences: its parent is a root.
    pub(crate) first: bool,
    /// Neighbours among the children of `parent`, newer and older.
    newer: BlockId,
    older: BlockId,
}

impl Record {
    pub(crate) fn contents(&self) -> Contents {
        Contents {
            hash: self.hash,
            group: self.group,
            part: self.part,
        }
    }

    /// The name of the block before it in the same group.
    pub(crate) fn parent_name(&self) -> Name {
        Name::of_part(self.parent, usize::from(self.group), usize::from(self.part))
    }
}

/// Bytes of a record.
pub(crate) const RECORD_BYTES: usize = size_of::<Option<Record>>();

/// Named blocks. As large at the start as it can ever be.
#[derive(Debug, Clone)]
pub(crate) struct PrefixIndex {
    block_size: usize,
    by_name: NumberMap<Name, BlockId>,
    /// Per block, its record if it is named.
    records: Vec<Option<Record>>,
    /// Per block, its tokens if it is named.
    tokens: Vec<u32>,
    /// Per name, its newest child.
    newest_child: NumberMap<Name, BlockId>,
}

impl PrefixIndex {
    pub(crate) fn new(num_pages: u32, block_size: u32) -> Self {
        let num_pages = num_pages as usize;
        Self {
            block_size: block_size as usize,
            by_name: NumberMap::with_capacity_and_hasher(num_pages, Default::default()),
            records: vec![None; num_pages],
            // Zeroed pages are not touched before they are written.
            tokens: vec![0; num_pages * block_size as usize],
            newest_child: NumberMap::with_capacity_and_hasher(num_pages, Default::default()),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }

    pub(crate) fn find(&self, name: Name) -> Option<BlockId> {
        self.by_name.get(&name).copied()
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

    /// Names the contents of `block`, which follow the block `parent`. Neither the block nor the name is in the index.
    pub(crate) fn insert(
        &mut self,
        block: BlockId,
        contents: Contents,
        parent: BlockHash,
        first: bool,
        tokens: &[u32],
    ) {
        let name = contents.name();
        debug_assert!(!self.is_named(block) && self.find(name).is_none());
        let record = Record {
            hash: contents.hash,
            parent,
            group: contents.group,
            part: contents.part,
            first,
            newer: NONE,
            older: NONE,
        };
        let older = self.newest_child.insert(record.parent_name(), block);
        let older = older.unwrap_or(NONE);
        if let Some(Some(sibling)) = self.records.get_mut(older.0 as usize) {
            sibling.newer = block;
        }
        self.records[block.0 as usize] = Some(Record { older, ..record });
        self.by_name.insert(name, block);
        let span = self.span(block);
        self.tokens[span].copy_from_slice(tokens);
    }

    /// Forgets the name of `block`.
    pub(crate) fn remove(&mut self, block: BlockId) -> Option<Record> {
        let record = self.records.get_mut(block.0 as usize)?.take()?;
        self.by_name.remove(&record.contents().name());
        if let Some(Some(newer)) = self.records.get_mut(record.newer.0 as usize) {
            newer.older = record.older;
        } else if record.older == NONE {
            self.newest_child.remove(&record.parent_name());
        } else {
            self.newest_child.insert(record.parent_name(), record.older);
        }
        if let Some(Some(older)) = self.records.get_mut(record.older.0 as usize) {
            older.newer = record.newer;
        }
        Some(record)
    }

    /// Forgets all names and returns the blocks that had one, in the order of their numbers.
    pub(crate) fn clear(&mut self) -> Vec<BlockId> {
        self.by_name.clear();
        self.newest_child.clear();
        let named = self.records.iter_mut().enumerate();
        named
            .filter_map(|(block, record)| record.take().map(|_| BlockId(block as u32)))
            .collect()
    }

    /// Among the newest children of `parent` that `suit`, the one that agrees with `tokens` longest from its
    /// start, and how long that is. Nothing if no child agrees in its first token.
    pub(crate) fn closest_child(
        &self,
        parent: Name,
        tokens: &[u32],
        suits: impl Fn(BlockHash) -> bool,
    ) -> Option<(BlockHash, usize)> {
        let mut best = None;
        for block in self.children(parent).take(COMPARED_CHILDREN) {
            let agree = self
                .tokens(block)
                .iter()
                .zip(tokens)
                .take_while(|(a, b)| a == b)
                .count();
            if agree > best.map_or(0, |(_, longest)| longest)
                && let Some(record) = self.record(block)
                && suits(record.hash)
            {
                best = Some((record.hash, agree));
            }
        }
        best
    }

    /// The children of `parent`, newest first.
    pub(crate) fn children(&self, parent: Name) -> impl Iterator<Item = BlockId> {
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
