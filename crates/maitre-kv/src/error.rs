//! What can go wrong, in words that say what to do about it.

use crate::{BlockId, SeqId};

/// Why the KV manager refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KvError {
    /// The pool was configured without blocks.
    #[error("the KV pool has 0 blocks; it needs at least 1")]
    ZeroBlocks,
    /// The pool was configured with blocks that hold nothing.
    #[error("the KV block size is 0 tokens; it needs at least 1, usually 16")]
    ZeroBlockSize,
    /// A group of layers claims to keep nothing per block.
    #[error("a KV block of 0 bytes: the model must keep at least one byte per block")]
    ZeroBytesPerBlock,
    /// Slot numbers are 32 bits wide and the last one means "do not write".
    #[error(
        "{num_blocks} KV blocks of {block_size} tokens have more slots than 32 bits can number ({}); \
         use fewer blocks",
        u32::MAX
    )]
    TooManySlots {
        /// Configured number of blocks.
        num_blocks: u32,
        /// Configured tokens per block.
        block_size: u32,
    },
    /// The memory budget does not pay for a single block.
    #[error(
        "a KV budget of {budget_bytes} bytes does not hold one block of {bytes_per_block} bytes; \
         raise it to at least {bytes_per_block} bytes"
    )]
    BudgetTooSmall {
        /// The budget.
        budget_bytes: u64,
        /// What one block costs.
        bytes_per_block: u64,
    },
    /// The pool has too few free blocks; nothing was changed.
    #[error("{needed} more KV blocks needed, {free} free; release a sequence first")]
    OutOfBlocks {
        /// Blocks the call would have taken.
        needed: usize,
        /// Blocks that are free.
        free: usize,
    },
}

/// A broken promise of this crate's own bookkeeping: always a bug, never the caller's input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvariantViolation {
    /// A block's reference count is not the number of tables that hold it.
    #[error(
        "KV block {block:?} has reference count {ref_count}, but {holders} block tables hold it"
    )]
    WrongRefCount {
        /// The block.
        block: BlockId,
        /// Its reference count.
        ref_count: u32,
        /// Tables that hold it, counted with repetition.
        holders: u32,
    },
    /// A table or the free list names a block outside the pool.
    #[error("KV block {block:?} does not exist in a pool of {num_blocks}")]
    NoSuchBlock {
        /// The block.
        block: BlockId,
        /// Blocks in the pool.
        num_blocks: u32,
    },
    /// A block is in the free list although it is referenced, or is there twice.
    #[error(
        "KV block {block:?} is in the free list {times} times with reference count {ref_count}"
    )]
    WronglyFree {
        /// The block.
        block: BlockId,
        /// Occurrences in the free list.
        times: u32,
        /// Its reference count.
        ref_count: u32,
    },
    /// A sequence keeps an entry without blocks, which nobody would ever remove.
    #[error("sequence {sequence:?} has an empty block table")]
    EmptyTable {
        /// The sequence.
        sequence: SeqId,
    },
}
