//! What the contents of a page are called.

use crate::BlockHash;

/// The name of a page's contents: the hash of the block they belong to, and the group whose layers they are of.
///
/// Hashes are keyed and 128 bits wide, so that the group's number can be folded into one: two names meet as rarely as
/// two hashes do. Under a single group a name is the hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Name(u128);

impl Name {
    pub(crate) fn new(hash: BlockHash, group: usize) -> Self {
        // In the lowest bits, by which the maps find the place: the names of a block lie beside each other.
        Self(hash.0 ^ group as u128)
    }
}
