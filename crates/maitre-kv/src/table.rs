//! One sequence's block table, and what is known about its blocks.

use crate::BlockId;

/// How a table changed since it was last told: keep the first `keep` entries, then append `blocks`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableDelta {
    /// Leading entries that are as they were.
    pub keep: usize,
    /// The entries after them.
    pub blocks: Vec<BlockId>,
}

/// The blocks of one sequence.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    /// In the order of their positions; [`BlockId::NONE`] for those that were never held.
    pub(crate) blocks: Vec<BlockId>,
    /// Leading blocks that lie behind the window and are not held.
    pub(crate) behind: usize,
    /// Leading blocks whose contents are those that the index knows by their name.
    pub(crate) named: usize,
    /// The cache was reset since the sequence began: its contents are not to be named any more.
    pub(crate) outdated: bool,
    /// The sequence replaced a block by another of the same name while a second sequence held the replaced one.
    /// From then on the two may share later blocks although they hold different blocks before those.
    pub(crate) has_left_others: bool,
    /// Entries that were told and have not changed since.
    pub(crate) told: usize,
}

impl Table {
    /// The blocks it holds.
    pub(crate) fn held(&self) -> &[BlockId] {
        self.blocks.get(self.behind..).unwrap_or(&[])
    }

    pub(crate) fn replace(&mut self, index: usize, block: BlockId) {
        if let Some(entry) = self.blocks.get_mut(index) {
            *entry = block;
            self.told = self.told.min(index);
        }
    }

    /// Takes the blocks beyond the first `kept`, but none that has a name or lies behind the window.
    pub(crate) fn cut(&mut self, kept: usize) -> Vec<BlockId> {
        let kept = kept.max(self.named).max(self.behind);
        self.told = self.told.min(kept);
        self.blocks.split_off(kept.min(self.blocks.len()))
    }

    pub(crate) fn take_delta(&mut self, reach: usize) -> TableDelta {
        let keep = self.told.min(reach);
        let blocks = self.blocks.get(keep..reach).unwrap_or(&[]).to_vec();
        self.told = keep + blocks.len();
        TableDelta { keep, blocks }
    }
}
