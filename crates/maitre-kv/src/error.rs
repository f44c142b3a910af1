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
    /// A window through which a token would not even see itself.
    #[error("the attention window is 0 positions; it needs at least 1, or leave it out")]
    ZeroWindow,
    /// A host tier keeps named blocks, and without a prefix cache there are none.
    #[error("a host tier needs the prefix cache; enable it or set the host tier to 0 blocks")]
    HostTierAlone,
    /// The host tier does not know which blocks lie behind a window.
    #[error(
        "a host tier does not go with sliding-window attention (window {window}); set the host tier to \
         0 blocks"
    )]
    HostTierWithWindow {
        /// Positions a token reads.
        window: u32,
    },
    /// The sequence has a table already.
    #[error("{sequence:?} already holds blocks; release it first")]
    AlreadyHolds {
        /// The sequence.
        sequence: SeqId,
    },
    /// The parent of a fork does not hold what the child would read.
    #[error("{parent:?} does not hold its first {tokens} positions, so it cannot be forked there")]
    CannotFork {
        /// The sequence to be forked.
        parent: SeqId,
        /// Positions to be shared.
        tokens: usize,
    },
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
    /// A block's reference count is not the number of tables and moves that hold it.
    #[error(
        "KV block {block:?} has reference count {ref_count}, but {holders} tables and moves hold it"
    )]
    WrongRefCount {
        /// The block.
        block: BlockId,
        /// Its reference count.
        ref_count: u32,
        /// Tables and planned copies that hold it, counted with repetition.
        holders: u32,
    },
    /// A table or a free list names a block outside the pool.
    #[error("KV block {block:?} does not exist in a pool of {num_blocks}")]
    NoSuchBlock {
        /// The block.
        block: BlockId,
        /// Blocks in the pool.
        num_blocks: u32,
    },
    /// A block is not in exactly the list it belongs to.
    #[error(
        "KV block {block:?} is in the empty list {empty} times and in the idle list {idle} times, with \
         reference count {ref_count}, named: {named}"
    )]
    WronglyFree {
        /// The block.
        block: BlockId,
        /// Occurrences in the list of empty blocks.
        empty: u32,
        /// Occurrences in the list of idle blocks.
        idle: u32,
        /// Its reference count.
        ref_count: u32,
        /// Whether its contents have a name.
        named: bool,
    },
    /// A sequence keeps an entry without blocks. No call would ever remove it.
    #[error("{sequence:?} has an empty block table")]
    EmptyTable {
        /// The sequence.
        sequence: SeqId,
    },
    /// Names and blocks do not lead to each other.
    #[error("{named} KV blocks are named, but {found} of {indexed} names lead to them")]
    WrongIndex {
        /// Blocks with a record.
        named: usize,
        /// Of them, those that their name leads to.
        found: usize,
        /// Names in the index.
        indexed: usize,
    },
    /// A named block would outlive the block before it, and could never be found again.
    #[error("KV block {block:?} would outlive its parent {parent:?}")]
    WouldOutliveParent {
        /// The child.
        block: BlockId,
        /// The parent; `None` if it has gone already.
        parent: Option<BlockId>,
    },
    /// A block is to be overwritten by a copy that no sequence waits for, and may be given to another.
    #[error("KV block {block:?} is not held, but something is to be copied there")]
    ArrivesUnheld {
        /// The block.
        block: BlockId,
    },
    /// The host tier lost a place or counts one twice.
    #[error("the host tier's places and names do not agree")]
    WrongHostTier,
}
