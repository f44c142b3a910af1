//! Names for the contents of blocks: a keyed hash over everything a block's keys and values depend on.
//!
//! The one idea: a block's hash covers its own tokens *and its parent's hash*, so two blocks with one hash
//! hold the same tokens after the same prefix, under the same [`Namespace`]. The hash is keyed (BLAKE3's
//! keyed mode, cut to 128 bits). A client that does not know the key cannot search for two prefixes that
//! collide, so it cannot plant blocks that another tenant would be served from. Where there are no clients, as in a simulation, a
//! faster hash without a key does.

use std::fmt;

/// The secret of the hashes, or that there is none.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum HashKey {
    /// The engine draws it once at start; tests use the default, which is zeros.
    Secret([u8; 32]),
    /// The hashes are fast, and a client that chooses tokens could make two blocks collide: only for tokens that come from no
    /// client.
    Open,
}

impl Default for HashKey {
    fn default() -> Self {
        Self::Secret([0; 32])
    }
}

impl fmt::Debug for HashKey {
    /// Does not tell the key: plans and configurations are logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Secret(_) => "Secret(..)",
            Self::Open => "Open",
        })
    }
}

impl HashKey {
    /// A hasher with this key; of an open one, with zeros.
    fn hasher(&self) -> blake3::Hasher {
        match self {
            Self::Secret(key) => blake3::Hasher::new_keyed(key),
            Self::Open => blake3::Hasher::new_keyed(&[0; 32]),
        }
    }
}

/// The name of a full block's contents and of all that precedes them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockHash(pub u128);

impl fmt::Debug for BlockHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockHash({self})")
    }
}

impl fmt::Display for BlockHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Whose blocks a request may share: the parent of every first block. Requests of different tenants,
/// adapters, model revisions or salts are in different namespaces and never meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace(BlockHash);

impl Namespace {
    /// The namespace of these parts, in this order. The parts are told apart by their lengths, so
    /// `["ab", "c"]` and `["a", "bc"]` are two namespaces.
    pub fn new(key: &HashKey, parts: &[&[u8]]) -> Self {
        let mut hasher = key.hasher();
        hasher.update(b"namespace");
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        Self(truncate(&hasher.finalize()))
    }

    /// The namespace whose [root](Namespace::root) this is.
    pub fn from_root(root: BlockHash) -> Self {
        Self(root)
    }

    /// What stands for the parent of a first block.
    pub fn root(self) -> BlockHash {
        self.0
    }
}

/// The hashes of a sequence's full blocks, in order. It grows with the sequence and is computed once,
/// however often the sequence waits, is preempted, or is looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashChain {
    namespace: Namespace,
    hashes: Vec<BlockHash>,
}

impl HashChain {
    /// The chain of a sequence whose blocks are not hashed yet.
    pub fn new(namespace: Namespace) -> Self {
        Self {
            namespace,
            hashes: Vec::new(),
        }
    }

    /// Hashes the full blocks of `tokens`, the sequence from its start, that are not hashed yet. Costs
    /// one hash of `4 * block_size` bytes per new block.
    pub fn extend(&mut self, key: &HashKey, block_size: usize, tokens: &[u32]) {
        let new = tokens.chunks_exact(block_size).skip(self.hashes.len());
        for block in new {
            self.hashes.push(block_hash(key, self.last(), block));
        }
    }

    /// The hashes of the full blocks, in order.
    pub fn hashes(&self) -> &[BlockHash] {
        &self.hashes
    }

    /// Whose blocks the sequence shares.
    pub fn namespace(&self) -> Namespace {
        self.namespace
    }

    /// The parent of block `index`.
    pub(crate) fn parent(&self, index: usize) -> BlockHash {
        match index
            .checked_sub(1)
            .and_then(|index| self.hashes.get(index))
        {
            Some(&hash) => hash,
            None => self.namespace.root(),
        }
    }

    fn last(&self) -> BlockHash {
        self.parent(self.hashes.len())
    }
}

/// The hash of a block of `tokens` after `parent`.
fn block_hash(key: &HashKey, parent: BlockHash, tokens: &[u32]) -> BlockHash {
    if *key == HashKey::Open {
        return mixed(parent, tokens);
    }
    let mut hasher = key.hasher();
    hasher.update(&parent.0.to_le_bytes());
    for run in tokens.chunks(16) {
        let mut bytes = [0; 64];
        for (bytes, token) in bytes.chunks_exact_mut(4).zip(run) {
            bytes.copy_from_slice(&token.to_le_bytes());
        }
        hasher.update(&bytes[..4 * run.len()]);
    }
    truncate(&hasher.finalize())
}

/// Two folded products for each pair of tokens (as in wyhash, by Wang Yi), which depend on all before them.
fn mixed(parent: BlockHash, tokens: &[u32]) -> BlockHash {
    let fold = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        product as u64 ^ (product >> 64) as u64
    };
    let (mut low, mut high) = (parent.0 as u64, (parent.0 >> 64) as u64);
    for pair in tokens.chunks(2) {
        let word = pair
            .iter()
            .fold(0, |word, &token| word << 32 | u64::from(token));
        low = fold(low ^ word ^ 0x9e37_79b9_7f4a_7c15, 0xe703_7ed1_a0b4_28db);
        high = fold(high ^ word ^ 0xbf58_476d_1ce4_e5b9, 0x8ebc_6af0_9c88_c6e3);
    }
    BlockHash(u128::from(high) << 64 | u128::from(low))
}

fn truncate(hash: &blake3::Hash) -> BlockHash {
    let mut first = [0; 16];
    first.copy_from_slice(&hash.as_bytes()[..16]);
    BlockHash(u128::from_le_bytes(first))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const KEY: HashKey = HashKey::Secret([1; 32]);

    fn chain(key: &HashKey, parts: &[&[u8]], tokens: &[u32]) -> Vec<BlockHash> {
        let mut chain = HashChain::new(Namespace::new(key, parts));
        chain.extend(key, 4, tokens);
        chain.hashes().to_vec()
    }

    #[test]
    fn a_hash_covers_the_key_the_namespace_the_tokens_and_all_before_them() {
        let tokens: Vec<u32> = (0..12).collect();
        let mut changed = tokens.clone();
        changed[0] = 99;
        for key in [KEY, HashKey::Open] {
            let base = chain(&key, &[b"a"], &tokens);
            assert_eq!(base.len(), 3);
            for other in [
                chain(&HashKey::Secret([2; 32]), &[b"a"], &tokens),
                chain(&key, &[b"b"], &tokens),
                chain(&key, &[b"a", b""], &tokens),
                chain(&key, &[b"a"], &changed),
            ] {
                assert!(base.iter().all(|hash| !other.contains(hash)));
            }
        }
        assert_ne!(
            Namespace::new(&KEY, &[b"ab", b"c"]),
            Namespace::new(&KEY, &[b"a", b"bc"])
        );
    }

    #[test]
    fn a_chain_grown_by_pieces_is_the_chain_of_the_whole() {
        let tokens: Vec<u32> = (0..21).collect();
        let mut chain = HashChain::new(Namespace::new(&KEY, &[]));
        for len in [0, 3, 4, 5, 13, 21] {
            chain.extend(&KEY, 4, &tokens[..len]);
            assert_eq!(chain.hashes().len(), len / 4);
        }
        assert_eq!(chain.hashes(), self::chain(&KEY, &[], &tokens));
        assert_eq!(chain.parent(0), chain.namespace().root());
        assert_eq!(chain.parent(2), chain.hashes()[1]);
    }

    #[test]
    fn a_key_is_not_printed() {
        assert_eq!(format!("{:?}", HashKey::Secret([7; 32])), "Secret(..)");
    }

    /// Blocks that differ in one token, as those of simulated prompts do, have different hashes in each half.
    #[test]
    fn open_hashes_of_similar_blocks_do_not_meet() {
        let root = Namespace::new(&HashKey::Open, &[]).root();
        let mut blocks = vec![vec![0; 16]];
        for token in 1..2000 {
            for place in [0, 1, 15] {
                let mut block = vec![0; 16];
                block[place] = token;
                blocks.push(block);
            }
        }
        let hashes = blocks
            .iter()
            .map(|block| block_hash(&HashKey::Open, root, block).0);
        let halves: Vec<(u64, u64)> = hashes
            .map(|hash| (hash as u64, (hash >> 64) as u64))
            .collect();
        let low: HashSet<u64> = halves.iter().map(|half| half.0).collect();
        let high: HashSet<u64> = halves.iter().map(|half| half.1).collect();
        assert_eq!((low.len(), high.len()), (blocks.len(), blocks.len()));
        // Where maps look first.
        let places: HashSet<u64> = low.iter().map(|hash| hash & 0xffff).collect();
        assert!(places.len() > 5400, "{}", places.len());
    }
}
