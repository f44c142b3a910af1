//! What the contents of a page are called.

use crate::BlockHash;

/// The name of a page's contents: the hash of the block they belong to, the group whose layers they are of, and, as a state
/// may take several pages, which of these it is.
///
/// Hashes are keyed and 128 bits wide, so that the numbers can be folded into one: two names meet as rarely as
/// two hashes do. Under a single group of attention a name is the hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Name(u128);

impl Name {
    pub(crate) fn new(hash: BlockHash, group: usize) -> Self {
        Self::of_part(hash, group, 0)
    }

    pub(crate) fn of_part(hash: BlockHash, group: usize, part: usize) -> Self {
        // In the lowest bits, by which the maps find the place: the names of a block lie beside each other.
        Self(hash.0 ^ (part << 16 | group) as u128)
    }
}
