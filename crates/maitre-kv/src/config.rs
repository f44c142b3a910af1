//! How large the KV pool is, and what one block of it costs in bytes.

use std::ops::Range;

use crate::{BlockId, KvError};

/// What the layers of one KV group keep per block.
///
/// Every layer of today's models attends over its full context; groups that keep less get their own
/// variant, so nothing above ever computes "2 × heads × dim" itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvSpec {
    /// Full attention: every position of the context stays readable.
    Full {
        /// Bytes of one block over all layers of the group, keys and values together.
        bytes_per_block: u64,
    },
}

impl KvSpec {
    /// Bytes of one block over all layers of the group.
    pub fn bytes_per_block(&self) -> u64 {
        match *self {
            Self::Full { bytes_per_block } => bytes_per_block,
        }
    }
}

/// Size of the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvConfig {
    /// Number of blocks in the pool.
    pub num_blocks: u32,
    /// Token positions per block.
    pub block_size: u32,
}

impl KvConfig {
    /// The largest pool that a budget of `budget_bytes` pays for.
    ///
    /// A pool never has more blocks than slots can be numbered, however large the budget.
    ///
    /// # Errors
    ///
    /// [`KvError::BudgetTooSmall`] if the budget does not pay for one block, and what
    /// [`KvConfig::validate`] refuses.
    pub fn within(budget_bytes: u64, block_size: u32, spec: KvSpec) -> Result<Self, KvError> {
        let bytes_per_block = spec.bytes_per_block();
        if block_size == 0 {
            return Err(KvError::ZeroBlockSize);
        }
        let affordable = budget_bytes
            .checked_div(bytes_per_block)
            .ok_or(KvError::ZeroBytesPerBlock)?;
        if affordable == 0 {
            return Err(KvError::BudgetTooSmall {
                budget_bytes,
                bytes_per_block,
            });
        }
        let addressable = u32::MAX / block_size;
        let num_blocks = u32::try_from(affordable)
            .unwrap_or(u32::MAX)
            .min(addressable);
        Ok(Self {
            num_blocks,
            block_size,
        })
    }

    /// Checks that the pool can exist.
    ///
    /// # Errors
    ///
    /// [`KvError::ZeroBlocks`], [`KvError::ZeroBlockSize`], or [`KvError::TooManySlots`] if slots
    /// would not fit below `u32::MAX`, the number that kernels read as "do not write".
    pub fn validate(&self) -> Result<(), KvError> {
        if self.num_blocks == 0 {
            return Err(KvError::ZeroBlocks);
        }
        if self.block_size == 0 {
            return Err(KvError::ZeroBlockSize);
        }
        if self.num_blocks.checked_mul(self.block_size).is_none() {
            return Err(KvError::TooManySlots {
                num_blocks: self.num_blocks,
                block_size: self.block_size,
            });
        }
        Ok(())
    }

    /// Token positions the whole pool holds.
    pub fn capacity_tokens(&self) -> usize {
        self.num_blocks as usize * self.block_size as usize
    }

    /// Blocks that hold `tokens` positions.
    pub fn blocks_for(&self, tokens: usize) -> usize {
        tokens.div_ceil(self.block_size as usize)
    }

    /// The slots of `positions` under a block table, in order, as far as the table reaches.
    pub fn slots(&self, table: &[BlockId], positions: Range<usize>) -> impl Iterator<Item = u32> {
        let block_size = self.block_size;
        positions.map_while(move |position| {
            let block = table.get(position / block_size as usize)?;
            // The offset is below block_size, a u32; `validate` keeps the sum below u32::MAX.
            Some(block.0 * block_size + (position % block_size as usize) as u32)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_that_cannot_exist_is_refused() {
        let cases = [
            (0, 16, KvError::ZeroBlocks),
            (4, 0, KvError::ZeroBlockSize),
            (
                1 << 28,
                16,
                KvError::TooManySlots {
                    num_blocks: 1 << 28,
                    block_size: 16,
                },
            ),
        ];
        for (num_blocks, block_size, expected) in cases {
            assert_eq!(
                KvConfig {
                    num_blocks,
                    block_size
                }
                .validate(),
                Err(expected)
            );
        }
        assert_eq!(
            KvConfig {
                num_blocks: u32::MAX,
                block_size: 1
            }
            .validate(),
            Ok(())
        );
    }

    #[test]
    fn a_budget_buys_whole_blocks() {
        let spec = KvSpec::Full {
            bytes_per_block: 1000,
        };
        assert_eq!(
            KvConfig::within(3999, 16, spec),
            Ok(KvConfig {
                num_blocks: 3,
                block_size: 16
            })
        );
        assert_eq!(
            KvConfig::within(999, 16, spec),
            Err(KvError::BudgetTooSmall {
                budget_bytes: 999,
                bytes_per_block: 1000
            })
        );
        assert_eq!(KvConfig::within(999, 0, spec), Err(KvError::ZeroBlockSize));
        let free = KvSpec::Full { bytes_per_block: 0 };
        assert_eq!(
            KvConfig::within(999, 16, free),
            Err(KvError::ZeroBytesPerBlock)
        );
    }

    #[test]
    fn the_largest_budget_still_numbers_its_slots() {
        let pool = KvConfig::within(u64::MAX, 16, KvSpec::Full { bytes_per_block: 1 }).unwrap();
        assert_eq!(pool.validate(), Ok(()));
        assert_eq!(pool.num_blocks, u32::MAX / 16);
    }
}
