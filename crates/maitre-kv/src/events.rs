//! What a router must know to send a request where its prefix is: blocks that became reusable and blocks
//! that no longer are.

use crate::BlockHash;

/// One change of what the prefix cache holds, in the order it happened.
///
/// A prefix can be reused up to its last block that was told of. Those before it need not have been: what lies behind a window
/// is gone early, and a recurrent group has no more of a prefix than its checkpoints. (Under windows a further block before the
/// last one may be gone already; then less is found.)
///
/// A block is told of once, whatever the number of groups: it can be reused as long as everything is kept that the groups have of it and of
/// the states behind it. Contents that move to the host tier or back are still kept, so nothing is said of that.
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
