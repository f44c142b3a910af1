//! What can go wrong, in words that say what to do about it.

use crate::{BlockId, SeqId};

/// Why the KV manager refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KvError {
    /// The pool was configured without pages.
    #[error("the KV pool has 0 pages; it needs at least 1")]
    ZeroPages,
    /// The pool was configured with blocks that hold nothing.
    #[error("the KV block size is 0 tokens; it needs at least 1, usually 16")]
    ZeroBlockSize,
    /// A pool without groups of layers, or with more than their numbers can tell apart.
    #[error(
        "the KV pool has {groups} groups of layers; it needs 1 to 65536, one for each kind of attention"
    )]
    WrongGroupCount {
        /// Configured groups.
        groups: usize,
    },
    /// A window through which a token would not even see itself.
    #[error(
        "the attention window or chunk of KV group {group} is 0 positions; it needs at least 1, or full attention"
    )]
    ZeroWindow {
        /// The group, by its number.
        group: usize,
    },
    /// A state that takes no page, or more than their numbers can tell apart.
    #[error("a state of KV group {group} takes {pages} pages; it needs 1 to 65536")]
    WrongStatePages {
        /// The group, by its number.
        group: usize,
        /// Configured pages per state.
        pages: u32,
    },
    /// A checkpoint is named by the block it ends with.
    #[error(
        "KV group {group} keeps a state every {checkpoint_every} tokens; it needs a multiple of the block size, \
         {block_size} tokens"
    )]
    WrongCheckpoints {
        /// The group, by its number.
        group: usize,
        /// Configured tokens between checkpoints.
        checkpoint_every: u32,
        /// Configured tokens per block.
        block_size: u32,
    },
    /// A host tier keeps named pages, and without a prefix cache there are none.
    #[error("a host tier needs the prefix cache; enable it or set the host tier to 0 pages")]
    HostTierAlone,
    /// The sequence has a table already.
    #[error("{sequence:?} already holds blocks; release it first")]
    AlreadyHolds {
        /// The sequence.
        sequence: SeqId,
    },
    /// The parent of a fork does not hold what the child would read.
    #[error(
        "{parent:?} does not hold in KV group {group} what is read behind its first {tokens} positions, so it \
         cannot be forked there"
    )]
    CannotFork {
        /// The sequence to be forked.
        parent: SeqId,
        /// The first group that does not hold it.
        group: usize,
        /// Positions to be shared.
        tokens: usize,
    },
    /// Slot numbers are 32 bits wide and the last one means "do not write".
    #[error(
        "{num_pages} KV pages of {block_size} tokens have more slots than 32 bits can number ({}); \
         use fewer pages",
        u32::MAX
    )]
    TooManySlots {
        /// Configured number of pages.
        num_pages: u32,
        /// Configured tokens per page.
        block_size: u32,
    },
    /// The pool has too few free pages; nothing was changed.
    #[error("{needed} more KV pages needed, {free} free; release a sequence first")]
    OutOfPages {
        /// Pages the call would have taken, over all groups.
        needed: usize,
        /// Pages that are free.
        free: usize,
    },
}

/// A broken promise of this crate's own bookkeeping: always a bug, never the caller's input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvariantViolation {
    /// A block's reference count is not the number of tables and moves that hold it.
    #[error(
        "KV page {block:?} has reference count {ref_count}, but {holders} tables and moves hold it"
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
    #[error("KV page {block:?} does not exist in a pool of {num_pages}")]
    NoSuchBlock {
        /// The page.
        block: BlockId,
        /// Pages in the pool.
        num_pages: u32,
    },
    /// A block is not in exactly the list it belongs to.
    #[error(
        "KV page {block:?} is in the empty list {empty} times and in the idle list {idle} times, with \
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
    #[error("{named} KV pages are named, but {found} of {indexed} names lead to them")]
    WrongIndex {
        /// Blocks with a record.
        named: usize,
        /// Of them, those that their name leads to.
        found: usize,
        /// Names in the index.
        indexed: usize,
    },
    /// A named block would outlive the block before it, and could never be found again.
    #[error("KV block {block:?} of group {group} would outlive its parent {parent:?}")]
    WouldOutliveParent {
        /// The group, by its number. Its layers have full attention.
        group: usize,
        /// The child.
        block: BlockId,
        /// The parent; `None` if it has gone already.
        parent: Option<BlockId>,
    },
    /// The states of a sequence are out of order, or one that is written next is not its own.
    #[error("the states of {sequence:?} in KV group {group} are not its own, whole and in order")]
    WrongStates {
        /// The sequence.
        sequence: SeqId,
        /// The group, by its number.
        group: usize,
    },
    /// A block is to be overwritten by a copy that no sequence waits for, and may be given to another.
    #[error("KV page {block:?} is not held, but something is to be copied there")]
    ArrivesUnheld {
        /// The block.
        block: BlockId,
    },
    /// The host tier lost a place or counts one twice.
    #[error("the host tier's places and names do not agree")]
    WrongHostTier,
}
