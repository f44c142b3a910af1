//! What can be wrong with the block tables and slots of a batch.

/// Why the block table or the slots of a span cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// A span's block table begins behind what its tokens see.
    #[error(
        "the block table of span {span} in KV group {group} begins with block {found}; its tokens see block {needed}"
    )]
    BeginsLate {
        /// The group, by its number.
        group: usize,
        /// The span.
        span: usize,
        /// The first block it has.
        found: usize,
        /// The first block that is seen.
        needed: usize,
    },

    /// A span's block table does not reach its context's end.
    #[error(
        "the block table of span {span} in KV group {group} has {found} blocks; its context needs {needed}"
    )]
    TooShort {
        /// The group, by its number.
        group: usize,
        /// The span.
        span: usize,
        /// How many blocks it has, those behind the window included.
        found: usize,
        /// How many it needs.
        needed: usize,
    },

    /// A block table names a block that does not exist.
    #[error(
        "the block table of span {span} in KV group {group} names block {block} of {num_blocks}"
    )]
    BlockOutOfRange {
        /// The group, by its number.
        group: usize,
        /// The span.
        span: usize,
        /// The block named.
        block: u32,
        /// How many blocks there are.
        num_blocks: usize,
    },

    /// A token would be written to a place that its block table does not give it.
    #[error(
        "row {row} writes slot {found} in KV group {group}; its block table implies {expected}"
    )]
    SlotMismatch {
        /// The group, by its number.
        group: usize,
        /// The row of the batch.
        row: usize,
        /// The slot found.
        found: u32,
        /// The slot implied.
        expected: usize,
    },
}
