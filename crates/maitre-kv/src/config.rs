//! How large the KV pool is, what it remembers, and what one block of it costs in bytes.

use crate::index::RECORD_BYTES;
use crate::lru::LINK_BYTES;
use crate::{BlockHash, BlockId, HashKey, KvError};

/// What the layers of one KV group keep per block. Nothing above ever computes "2 × heads × dim" itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvSpec {
    /// Full attention: every position of the context stays readable.
    Full {
        /// Bytes of one block over all layers of the group, keys and values together.
        bytes_per_block: u64,
    },
    /// Sliding-window attention: a token reads the last `window` positions, its own included.
    Window {
        /// Bytes of one block over all layers of the group, keys and values together.
        bytes_per_block: u64,
        /// Positions a token reads.
        window: u32,
    },
}

impl KvSpec {
    /// Bytes of one block over all layers of the group.
    pub fn bytes_per_block(&self) -> u64 {
        match *self {
            Self::Full { bytes_per_block }
            | Self::Window {
                bytes_per_block, ..
            } => bytes_per_block,
        }
    }

    /// Positions a token reads; `None` = all before it.
    pub fn window(&self) -> Option<u32> {
        match *self {
            Self::Full { .. } => None,
            Self::Window { window, .. } => Some(window),
        }
    }
}

/// Size of the pool, and what it remembers of sequences that are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvConfig {
    /// Number of blocks in the pool.
    pub num_blocks: u32,
    /// Token positions per block.
    pub block_size: u32,
    /// Positions that a token reads, itself included; `None` = all before it. Blocks behind the window
    /// are given back.
    pub window: Option<u32>,
    /// Whether full blocks outlive their sequences, to be shared by later ones with the same prefix.
    pub prefix_cache: bool,
    /// Blocks of the host tier, where idle blocks go when the pool needs their place; 0 = none.
    pub num_host_blocks: u32,
    /// Whether [`KvManager::take_events`](crate::KvManager::take_events) has anything to tell.
    pub events: bool,
    /// The secret of the block hashes.
    pub hash_key: HashKey,
}

impl KvConfig {
    /// A pool of this size under full attention, with a prefix cache and nothing else.
    pub const fn new(num_blocks: u32, block_size: u32) -> Self {
        Self {
            num_blocks,
            block_size,
            window: None,
            prefix_cache: true,
            num_host_blocks: 0,
            events: false,
            hash_key: HashKey([0; 32]),
        }
    }

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
            window: spec.window(),
            ..Self::new(num_blocks, block_size)
        })
    }

    /// Checks that the pool can exist.
    ///
    /// # Errors
    ///
    /// [`KvError::ZeroBlocks`], [`KvError::ZeroBlockSize`], [`KvError::ZeroWindow`],
    /// [`KvError::HostTierAlone`], [`KvError::HostTierWithWindow`], or [`KvError::TooManySlots`] if slots
    /// would not fit below `u32::MAX`, the number that kernels read as "do not write".
    pub fn validate(&self) -> Result<(), KvError> {
        if self.num_blocks == 0 {
            return Err(KvError::ZeroBlocks);
        }
        if self.block_size == 0 {
            return Err(KvError::ZeroBlockSize);
        }
        if self.window == Some(0) {
            return Err(KvError::ZeroWindow);
        }
        if self.num_host_blocks > 0 && !self.prefix_cache {
            return Err(KvError::HostTierAlone);
        }
        if let (Some(window), 1..) = (self.window, self.num_host_blocks) {
            return Err(KvError::HostTierWithWindow { window });
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

    /// Host memory that a manager of this pool takes at most for its own books, in bytes: lists and counts for
    /// each block, and with a prefix cache its name, its tokens, and the ways to find it.
    pub fn bookkeeping_bytes(&self) -> u64 {
        const LISTS: u64 = 2 * size_of::<BlockId>() as u64 + LINK_BYTES as u64;
        // Two maps from a name to a block, filled to between 7/16 and 7/8.
        const MAPS: u64 = 2 * 16 / 7 * (size_of::<(BlockHash, BlockId)>() as u64 + 1);
        let named =
            RECORD_BYTES as u64 + size_of::<u32>() as u64 * u64::from(self.block_size) + MAPS;
        let per_block = LISTS + if self.prefix_cache { named } else { 0 };
        let per_place = LINK_BYTES as u64 + MAPS;
        per_block * u64::from(self.num_blocks) + per_place * u64::from(self.num_host_blocks)
    }

    /// The first position that the token at `position` reads.
    pub fn first_read(&self, position: usize) -> usize {
        match self.window {
            Some(window) => (position + 1).saturating_sub(window as usize),
            None => 0,
        }
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
                KvConfig::new(num_blocks, block_size).validate(),
                Err(expected)
            );
        }
        assert_eq!(KvConfig::new(u32::MAX, 1).validate(), Ok(()));
        let pool = KvConfig::new(4, 16);
        let window = Some(0);
        assert_eq!(
            KvConfig { window, ..pool }.validate(),
            Err(KvError::ZeroWindow)
        );
        let host = KvConfig {
            num_host_blocks: 1,
            ..pool
        };
        let alone = KvConfig {
            prefix_cache: false,
            ..host
        };
        assert_eq!(alone.validate(), Err(KvError::HostTierAlone));
        let window = Some(8);
        assert_eq!(
            KvConfig { window, ..host }.validate(),
            Err(KvError::HostTierWithWindow { window: 8 })
        );
    }

    #[test]
    fn a_budget_buys_whole_blocks() {
        let spec = KvSpec::Full {
            bytes_per_block: 1000,
        };
        assert_eq!(KvConfig::within(3999, 16, spec), Ok(KvConfig::new(3, 16)));
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

    #[test]
    fn a_window_begins_so_many_positions_back() {
        let window = KvConfig {
            window: Some(32),
            ..KvConfig::new(64, 16)
        };
        assert_eq!((window.first_read(31), window.first_read(32)), (0, 1));
        assert_eq!(KvConfig::new(64, 16).first_read(1000), 0);
    }

    #[test]
    fn the_books_take_a_small_share_of_what_they_are_about() {
        let pool = KvConfig::new(1 << 20, 16);
        let plain = KvConfig {
            prefix_cache: false,
            ..pool
        };
        let per_block = pool.bookkeeping_bytes() >> 20;
        assert!((150..400).contains(&per_block), "{per_block} bytes");
        assert_eq!(plain.bookkeeping_bytes() >> 20, 16);
    }
}
