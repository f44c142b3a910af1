//! The oracle: what must hold between any two calls, checked from scratch in O(blocks + sequences).

use crate::{BlockId, InvariantViolation, KvManager};

impl KvManager {
    /// Checks the whole bookkeeping: every block is either free exactly once or held by exactly as many
    /// tables as its reference count says. Debug builds of the scheduler run it after every step.
    ///
    /// # Errors
    ///
    /// The first violation found, in the order of block numbers.
    pub fn check_invariants(&self) -> Result<(), InvariantViolation> {
        let holders = self.count_occurrences(self.tables.values().flatten())?;
        let times_free = self.count_occurrences(&self.pool.free)?;
        for (index, &ref_count) in self.pool.ref_counts.iter().enumerate() {
            let block = BlockId(index as u32);
            if ref_count != holders[index] {
                return Err(InvariantViolation::WrongRefCount {
                    block,
                    ref_count,
                    holders: holders[index],
                });
            }
            if times_free[index] != u32::from(ref_count == 0) {
                return Err(InvariantViolation::WronglyFree {
                    block,
                    times: times_free[index],
                    ref_count,
                });
            }
        }
        match self
            .tables
            .iter()
            .filter(|(_, table)| table.is_empty())
            .map(|(&id, _)| id)
            .min()
        {
            Some(sequence) => Err(InvariantViolation::EmptyTable { sequence }),
            None => Ok(()),
        }
    }

    /// How often each block of the pool occurs in `blocks`.
    fn count_occurrences<'a>(
        &self,
        blocks: impl IntoIterator<Item = &'a BlockId>,
    ) -> Result<Vec<u32>, InvariantViolation> {
        let num_blocks = self.config().num_blocks;
        let mut counts = vec![0; num_blocks as usize];
        for &block in blocks {
            match counts.get_mut(block.0 as usize) {
                Some(count) => *count += 1,
                None => return Err(InvariantViolation::NoSuchBlock { block, num_blocks }),
            }
        }
        Ok(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KvConfig, SeqId};

    fn two_sequences() -> KvManager {
        let mut kv = KvManager::new(KvConfig {
            num_blocks: 8,
            block_size: 4,
        })
        .unwrap();
        kv.grow(SeqId(1), 9).unwrap();
        kv.grow(SeqId(2), 4).unwrap();
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
            |kv| kv.pool.free.push(BlockId(0)),
            InvariantViolation::WronglyFree {
                block,
                times: 1,
                ref_count: 1,
            },
        );
        check(
            |kv| kv.pool.free.push(BlockId(7)),
            InvariantViolation::WronglyFree {
                block: BlockId(7),
                times: 2,
                ref_count: 0,
            },
        );
        check(
            |kv| kv.pool.free.truncate(3),
            InvariantViolation::WronglyFree {
                block: BlockId(4),
                times: 0,
                ref_count: 0,
            },
        );
        check(
            |kv| kv.pool.free.push(BlockId(8)),
            InvariantViolation::NoSuchBlock {
                block: BlockId(8),
                num_blocks: 8,
            },
        );
        check(
            |kv| drop(kv.tables.insert(SeqId(3), Vec::new())),
            InvariantViolation::EmptyTable { sequence: SeqId(3) },
        );
    }
}
