//! What a router must know to send a request where its prefix is: blocks that became reusable and blocks
//! that no longer are.

use crate::BlockHash;

/// One change of what the prefix cache holds, in the order it happened.
///
/// A block that moves to the host tier or back is still held, so nothing is said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheEvent {
    /// A block can be reused from now on.
    Stored {
        /// Its name.
        hash: BlockHash,
        /// The name of the block before it; `None` for the first block of a sequence.
        parent: Option<BlockHash>,
        /// Its tokens, `[block_size]`.
        tokens: Vec<u32>,
    },
    /// A block is gone.
    Removed {
        /// Its name.
        hash: BlockHash,
    },
    /// Everything is gone.
    Cleared,
}
