//! A sequence's block tables, one per group, and what is known about their blocks.
//!
//! ```text
//! block of the sequence   0   1   2   3   4   5   6
//! full group            [ 7   3   9  11   4   5  20 ]   first_block 0
//! windowed group                    [ 2   8   6   1 ]   first_block 3: those before it were given back
//! ```
//!
//! Indexes of blocks count from the start of the sequence, in every group.

use smallvec::{SmallVec, smallvec};

use crate::BlockId;
use crate::states::States;

/// How a table changed since it was last told: drop the blocks before [`first_block`](Self::first_block), keep those
/// before `keep`, and append `blocks`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableDelta {
    /// The first block of the table afterwards: those before it lie behind the window of the group.
    pub first_block: usize,
    /// The blocks before this one, and not before `first_block`, are as they were. Never less than `first_block`.
    pub keep: usize,
    /// The blocks from `keep` on.
    pub blocks: Vec<BlockId>,
}

impl TableDelta {
    /// Applies the change to a copy of the table, of which `first_block` says where it began.
    pub fn apply<T: From<BlockId>>(&self, first_block: &mut usize, table: &mut Vec<T>) {
        table.truncate(self.keep.saturating_sub(*first_block));
        let gone = self.first_block.saturating_sub(*first_block);
        table.drain(..gone.min(table.len()));
        *first_block = self.first_block;
        table.extend(self.blocks.iter().map(|&block| T::from(block)));
    }
}

/// The blocks of one sequence in one group.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    /// The block that the first entry is for: those before it lie behind the window and are not held.
    pub(crate) first_block: usize,
    /// The entries, in the order of their positions.
    pub(crate) blocks: Vec<BlockId>,
    /// Leading blocks whose contents are those that the index knows by their name.
    pub(crate) named: usize,
    /// The sequence replaced a block by another of the same name while a second sequence held the replaced one.
    /// From then on the two may share later blocks although they hold different blocks before those.
    pub(crate) has_left_others: bool,
    /// Blocks that were told and have not changed since.
    pub(crate) told: usize,
}

impl Table {
    /// The block behind the last one.
    pub(crate) fn end(&self) -> usize {
        self.first_block + self.blocks.len()
    }

    /// Block `index`, if it is held.
    pub(crate) fn get(&self, index: usize) -> Option<BlockId> {
        let entry = index.checked_sub(self.first_block)?;
        self.blocks.get(entry).copied()
    }

    pub(crate) fn replace(&mut self, index: usize, block: BlockId) {
        let entry = index.checked_sub(self.first_block);
        if let Some(entry) = entry.and_then(|entry| self.blocks.get_mut(entry)) {
            *entry = block;
            self.told = self.told.min(index);
        }
    }

    /// Takes the blocks beyond the first `kept` of the sequence, but none that has a name.
    pub(crate) fn cut(&mut self, kept: usize) -> Vec<BlockId> {
        let kept = kept.max(self.named).max(self.first_block);
        self.told = self.told.min(kept);
        let entries = kept - self.first_block;
        self.blocks.split_off(entries.min(self.blocks.len()))
    }

    /// Takes the blocks before block `first`, first come first.
    pub(crate) fn drop_before(&mut self, first: usize) -> impl Iterator<Item = BlockId> {
        let gone = first
            .saturating_sub(self.first_block)
            .min(self.blocks.len());
        self.first_block += gone;
        self.blocks.drain(..gone)
    }

    /// What changed among the first `reach` blocks since it was last told.
    pub(crate) fn take_delta(&mut self, reach: usize) -> TableDelta {
        let keep = self.told.min(reach).max(self.first_block);
        let entries = keep - self.first_block..reach.max(keep) - self.first_block;
        let blocks = self.blocks.get(entries).unwrap_or(&[]).to_vec();
        self.told = keep + blocks.len();
        TableDelta {
            first_block: self.first_block,
            keep,
            blocks,
        }
    }
}

/// The tables of one sequence.
#[derive(Debug, Clone)]
pub(crate) struct Tables {
    /// One per group. Those of groups that keep states are empty.
    pub(crate) groups: SmallVec<[Table; 2]>,
    /// The states of each group; nothing where no group keeps any.
    pub(crate) states: Vec<States>,
    /// The cache was reset since the sequence began: its contents are not to be named any more.
    pub(crate) outdated: bool,
}

impl Tables {
    pub(crate) fn new(num_groups: usize) -> Self {
        Self {
            groups: smallvec![Table::default(); num_groups],
            states: Vec::new(),
            outdated: false,
        }
    }

    /// Whether each of them reaches to block `reach`.
    pub(crate) fn reach_to(&self, reach: usize) -> bool {
        self.groups.iter().all(|table| table.end() >= reach)
    }

    /// Whether something behind one of the first `end` blocks may have no name yet.
    pub(crate) fn may_name_before(&self, end: usize) -> bool {
        let has_unnamed = |it: &Table| it.named.max(it.first_block) < end.min(it.end());
        !self.outdated && (!self.states.is_empty() || self.groups.iter().any(has_unnamed))
    }

    /// Whether they hold nothing.
    pub(crate) fn is_empty(&self) -> bool {
        let no_states = self.states.iter().all(States::is_empty);
        no_states && self.groups.iter().all(|table| table.end() == 0)
    }

    /// The pages that they hold, group by group.
    pub(crate) fn held(&self) -> impl Iterator<Item = BlockId> {
        let blocks = self.groups.iter().flat_map(|table| &table.blocks);
        blocks
            .copied()
            .chain(self.states.iter().flat_map(States::held))
    }

    /// The same, states first, then blocks from the last to the first, those of one block together.
    pub(crate) fn held_backwards(&self) -> impl Iterator<Item = BlockId> {
        let end = self.groups.iter().map(Table::end).max().unwrap_or(0);
        let first = self.groups.iter().map(|table| table.first_block).min();
        let indexes = first.unwrap_or(0)..end;
        let of_block = |index| self.groups.iter().filter_map(move |table| table.get(index));
        let states = self.states.iter().flat_map(States::held);
        states.chain(indexes.rev().flat_map(of_block))
    }
}
