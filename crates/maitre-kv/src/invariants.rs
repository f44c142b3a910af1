//! The oracle: what must hold between any two calls, checked from scratch in O(blocks + sequences).

use std::collections::HashMap;

use crate::{BlockId, InvariantViolation, KvManager, KvSpec};

impl KvManager {
    /// Checks the whole bookkeeping: every block is held as often as its reference count says or is in
    /// exactly one list; names and blocks lead to each other; nothing outlives what it depends on. Debug
    /// builds of the scheduler run it after every step.
    ///
    /// # Errors
    ///
    /// The first violation found, in the order of block numbers.
    pub fn check_invariants(&self) -> Result<(), InvariantViolation> {
        self.check_blocks()?;
        self.check_arriving()?;
        self.check_index()?;
        self.check_lineage()?;
        self.check_states()?;
        if !self.host.is_consistent(self.places_in_use) {
            return Err(InvariantViolation::WrongHostTier);
        }
        let empty = self.tables.iter().filter(|(_, tables)| tables.is_empty());
        match empty.map(|(&id, _)| id).min() {
            Some(sequence) => Err(InvariantViolation::EmptyTable { sequence }),
            None => Ok(()),
        }
    }

    fn check_blocks(&self) -> Result<(), InvariantViolation> {
        let tables = self.tables.values().flat_map(|tables| tables.held());
        let holders = self.count_occurrences(tables.chain(self.pinned.iter().copied()))?;
        let empty = self.count_occurrences(self.pool.empty.iter().copied())?;
        let idle = self.count_occurrences(self.pool.idle.iter().map(BlockId))?;
        for (index, &ref_count) in self.pool.ref_counts.iter().enumerate() {
            let block = BlockId(index as u32);
            if ref_count != holders[index] {
                return Err(InvariantViolation::WrongRefCount {
                    block,
                    ref_count,
                    holders: holders[index],
                });
            }
            let named = self.index.is_named(block);
            let expected = match (ref_count, named) {
                (0, false) => (1, 0),
                (0, true) => (0, 1),
                _ => (0, 0),
            };
            if (empty[index], idle[index]) != expected {
                return Err(InvariantViolation::WronglyFree {
                    block,
                    empty: empty[index],
                    idle: idle[index],
                    ref_count,
                    named,
                });
            }
        }
        Ok(())
    }

    /// A block that is to be written by a copy is held.
    fn check_arriving(&self) -> Result<(), InvariantViolation> {
        let planned = self.moves.swap_in.iter().chain(&self.moves.copies);
        let planned = planned.map(|moved| BlockId(moved.to));
        let written = planned.chain(self.arriving.keys().copied());
        let unheld = written.filter(|block| self.pool.ref_counts.get(block.0 as usize) == Some(&0));
        match unheld.min() {
            Some(block) => Err(InvariantViolation::ArrivesUnheld { block }),
            None => Ok(()),
        }
    }

    fn check_index(&self) -> Result<(), InvariantViolation> {
        let (mut named, mut found) = (0, 0);
        for (block, record) in self.index.iter() {
            named += 1;
            let by_name = self.index.find(record.contents().name()) == Some(block);
            let among_siblings = self
                .index
                .children(record.parent_name())
                .any(|child| child == block);
            found += usize::from(by_name && among_siblings);
        }
        let indexed = self.index.len();
        if named == found && named == indexed {
            return Ok(());
        }
        Err(InvariantViolation::WrongIndex {
            named,
            found,
            indexed,
        })
    }

    /// Under full attention a named block's parent is named, held if the block is held, and evicted later.
    fn check_lineage(&self) -> Result<(), InvariantViolation> {
        let turns: HashMap<BlockId, usize> = self.pool.idle.iter().map(BlockId).zip(0..).collect();
        for (block, record) in self.index.iter().filter(|(_, record)| !record.first) {
            let group = record.contents().group();
            if self.config.groups.get(group) != Some(&KvSpec::Full) {
                continue;
            }
            let parent = self.index.find(record.parent_name());
            let evicted_later =
                parent.is_some_and(|parent| match (turns.get(&block), turns.get(&parent)) {
                    (Some(block), Some(parent)) => block < parent,
                    (None, Some(_)) => false,
                    (_, None) => true,
                });
            if !evicted_later {
                return Err(InvariantViolation::WouldOutliveParent {
                    group,
                    block,
                    parent,
                });
            }
        }
        Ok(())
    }

    /// States stand in the order of their tokens, each on as many pages as one takes, and what is written next is of one
    /// sequence alone and has no name.
    fn check_states(&self) -> Result<(), InvariantViolation> {
        for (&sequence, tables) in &self.tables {
            for (group, states) in tables.states.iter().enumerate() {
                let parts = self.config.groups[group].parts();
                let whole = states.iter().all(|(_, state)| state.pages().len() == parts);
                if !(whole && states.is_in_order() && states.spare().all(|it| self.is_own(it))) {
                    return Err(InvariantViolation::WrongStates { sequence, group });
                }
            }
        }
        Ok(())
    }

    /// How often each block of the pool occurs in `blocks`.
    fn count_occurrences(
        &self,
        blocks: impl IntoIterator<Item = BlockId>,
    ) -> Result<Vec<u32>, InvariantViolation> {
        let num_pages = self.config.num_pages;
        let mut counts = vec![0; num_pages as usize];
        for block in blocks {
            match counts.get_mut(block.0 as usize) {
                Some(count) => *count += 1,
                None => return Err(InvariantViolation::NoSuchBlock { block, num_pages }),
            }
        }
        Ok(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moving::Arrival;
    use crate::{HashChain, KvConfig, SeqId};

    /// Sequence 1 holds blocks 0..3, the first two named; sequence 2 holds block 3.
    fn two_sequences() -> KvManager {
        let mut kv = KvManager::new(KvConfig::new(8, 4)).unwrap();
        let tokens: Vec<u32> = (0..9).collect();
        let mut chain = HashChain::new(kv.namespace(&[]));
        kv.extend_chain(&mut chain, &tokens);
        kv.grow(SeqId(1), 9).unwrap();
        kv.grow(SeqId(2), 4).unwrap();
        kv.commit(SeqId(1), &chain, &tokens, 9);
        assert_eq!(kv.named_pages(), 2);
        assert_eq!(kv.check_invariants(), Ok(()));
        kv
    }

    #[test]
    fn each_way_to_break_the_books_is_found() {
        let block = BlockId(0);
        let check = |damage: fn(&mut KvManager), expected: InvariantViolation| {
            let mut kv = two_sequences();
            damage(&mut kv);
            assert_eq!(kv.check_invariants(), Err(expected));
        };
        check(
            |kv| kv.pool.ref_counts[0] = 2,
            InvariantViolation::WrongRefCount {
                block,
                ref_count: 2,
                holders: 1,
            },
        );
        check(
            |kv| drop(kv.tables.remove(&SeqId(1))),
            InvariantViolation::WrongRefCount {
                block,
                ref_count: 1,
                holders: 0,
            },
        );
        check(
            |kv| kv.pool.empty.push(BlockId(0)),
            InvariantViolation::WronglyFree {
                block,
                empty: 1,
                idle: 0,
                ref_count: 1,
                named: true,
            },
        );
        check(
            |kv| kv.pool.idle.push(7),
            InvariantViolation::WronglyFree {
                block: BlockId(7),
                empty: 1,
                idle: 1,
                ref_count: 0,
                named: false,
            },
        );
        check(
            |kv| kv.pool.empty.truncate(3),
            InvariantViolation::WronglyFree {
                block: BlockId(4),
                empty: 0,
                idle: 0,
                ref_count: 0,
                named: false,
            },
        );
        check(
            |kv| kv.pool.empty.push(BlockId(8)),
            InvariantViolation::NoSuchBlock {
                block: BlockId(8),
                num_pages: 8,
            },
        );
        check(
            |kv| drop(kv.tables.insert(SeqId(3), crate::table::Tables::new(1))),
            InvariantViolation::EmptyTable { sequence: SeqId(3) },
        );
        check(
            |kv| {
                kv.index.remove(BlockId(0));
            },
            InvariantViolation::WouldOutliveParent {
                group: 0,
                block: BlockId(1),
                parent: None,
            },
        );
        check(
            |kv| {
                kv.release(SeqId(1));
                kv.pool.idle.remove(1);
                kv.pool.idle.push(1);
            },
            InvariantViolation::WouldOutliveParent {
                group: 0,
                block: BlockId(1),
                parent: Some(BlockId(0)),
            },
        );
        check(
            |kv| {
                kv.arriving.insert(BlockId(4), Arrival::Copied);
            },
            InvariantViolation::ArrivesUnheld { block: BlockId(4) },
        );
        check(|kv| kv.host.vacate(0), InvariantViolation::WrongHostTier);
    }
}
