//! How far the draft model's cache agrees with the target's.
//!
//! Both caches have the same blocks: the draft's keys and values of a token lie under the slot of the
//! target's. But the draft is run only where it pays, so it may be behind, in any block. For each block one
//! number says how many of its leading positions the draft has computed, for the tokens that are there.
//! A write of other tokens to a block cuts the number. A sequence that shares a block, through a prefix hit or as
//! a fork, finds what the draft has computed there. No sequence need be told when others come and go.

/// Leading positions of each block that the draft has computed.
#[derive(Debug)]
pub(crate) struct Coverage {
    /// `[num_blocks]`.
    filled: Vec<u32>,
    block_size: usize,
}

impl Coverage {
    pub(crate) fn new(num_blocks: usize, block_size: usize) -> Self {
        Self {
            filled: vec![0; num_blocks],
            block_size,
        }
    }

    /// Leading positions, of the first `len` of `table`, that are there.
    pub(crate) fn reach(&self, table: &[u32], len: usize) -> usize {
        let mut reach = 0;
        for &block in table {
            let filled = self.filled(block);
            reach += filled;
            if filled < self.block_size || reach >= len {
                break;
            }
        }
        reach.min(len)
    }

    /// The draft has computed everything before `end`.
    pub(crate) fn gain(&mut self, table: &[u32], end: usize) {
        // Blocks before the one that `reach` stopped at are full already.
        let size = self.block_size;
        for index in (0..end.div_ceil(size)).rev() {
            let now = (end - index * size).min(size);
            let Some(filled) = self.entry(table, index) else {
                continue;
            };
            if *filled as usize >= now && now == size {
                break;
            }
            *filled = (*filled).max(narrow(now));
        }
    }

    /// The tokens of `table` from position `kept` to `end` have changed, or are no longer part of a sequence.
    pub(crate) fn cut(&mut self, table: &[u32], kept: usize, end: usize) {
        for index in kept / self.block_size..end.div_ceil(self.block_size) {
            let left = kept.saturating_sub(index * self.block_size);
            if let Some(filled) = self.entry(table, index) {
                *filled = (*filled).min(narrow(left));
            }
        }
    }

    /// Block `to` holds what `from` holds.
    pub(crate) fn copied(&mut self, from: u32, to: u32) {
        let filled = narrow(self.filled(from));
        if let Some(entry) = self.filled.get_mut(to as usize) {
            *entry = filled;
        }
    }

    /// Block `to` holds something that the draft has not seen.
    pub(crate) fn forget(&mut self, to: u32) {
        if let Some(entry) = self.filled.get_mut(to as usize) {
            *entry = 0;
        }
    }

    fn filled(&self, block: u32) -> usize {
        self.filled
            .get(block as usize)
            .map_or(0, |&filled| filled as usize)
    }

    fn entry(&mut self, table: &[u32], index: usize) -> Option<&mut u32> {
        self.filled.get_mut(*table.get(index)? as usize)
    }
}

/// At most a block's size.
fn narrow(positions: usize) -> u32 {
    u32::try_from(positions).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gained_is_reached_and_what_is_cut_is_not() {
        let mut coverage = Coverage::new(8, 4);
        let table = [5, 2, 7];
        assert_eq!(coverage.reach(&table, 12), 0);
        coverage.gain(&table, 9);
        assert_eq!(coverage.reach(&table, 12), 9);
        assert_eq!(coverage.reach(&table, 6), 6);
        coverage.cut(&table, 6, 9);
        assert_eq!(coverage.reach(&table, 12), 6);
        coverage.gain(&table, 7);
        coverage.cut(&table, 8, 12);
        assert_eq!(coverage.reach(&table, 12), 7);
    }

    #[test]
    fn who_shares_a_block_shares_what_the_draft_knows_of_it() {
        let mut coverage = Coverage::new(8, 4);
        coverage.gain(&[5, 2], 8);
        assert_eq!(coverage.reach(&[5, 3], 8), 4);
        assert_eq!(coverage.reach(&[3, 2], 8), 0);
        coverage.copied(2, 3);
        assert_eq!(coverage.reach(&[5, 3], 7), 7);
        coverage.forget(5);
        assert_eq!(coverage.reach(&[5, 3], 7), 0);
    }

    #[test]
    fn a_block_that_is_used_again_is_not_mistaken_for_what_it_was() {
        let mut coverage = Coverage::new(4, 4);
        coverage.gain(&[1, 0], 8);
        // Another sequence's prefill writes block 1 from its start, then its next one.
        coverage.cut(&[1, 3], 0, 6);
        assert_eq!(coverage.reach(&[1, 3], 8), 0);
        assert_eq!(
            coverage.reach(&[0], 4),
            4,
            "not written yet, so still there"
        );
    }

    #[test]
    fn unknown_blocks_hold_nothing() {
        let mut coverage = Coverage::new(2, 4);
        coverage.gain(&[9, u32::MAX], 8);
        coverage.copied(9, 1);
        coverage.copied(1, 9);
        assert_eq!(coverage.reach(&[9], 4), 0);
        assert_eq!(coverage.reach(&[], 4), 0);
    }
}
