//! What a router must know to send a request where its prefix is: blocks that became reusable and blocks
//! that no longer are.

use crate::BlockHash;

/// One change of what the prefix cache holds, in the order it happened.
///
/// That a block can be reused does not say that those before it can: the longest prefix that is kept is found from its
/// first block on. A block is told of once, whatever the number of groups: it can be reused as long as its contents are kept for every
/// group. Contents that move to the host tier or back are still kept, so nothing is said of that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheEvent {
    /// A block can be reused from now on: its contents are kept for every group.
    Stored {
        /// Its name.
        hash: BlockHash,
        /// The name of the block before it; `None` for the first block of a sequence.
        parent: Option<BlockHash>,
        /// Its tokens, `[block_size]`.
        tokens: Vec<u32>,
    },
    /// A block is gone, for one of the groups at least.
    Removed {
        /// Its name.
        hash: BlockHash,
    },
    /// Everything is gone.
    Cleared,
}
