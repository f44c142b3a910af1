//! Finding: how long a prefix of a prompt others have computed.
//!
//! A prefix is as long as it is in every group: of a group under full attention all its blocks are kept, of one with windows or
//! chunks those that the next token reads, of a recurrent one the state behind it. That is a checkpoint, and one that does not
//! yet know the last token of the prompt: this is computed in any case, and a state cannot be computed over.

use smallvec::{SmallVec, smallvec};

use crate::name::Name;
use crate::{BlockHash, HashChain, KvManager, KvSpec};

/// What a sequence would find, were it admitted now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PrefixHit {
    /// Leading blocks of which each group keeps, in the pool or in the host tier, those that a step behind them reads.
    pub blocks: usize,
    /// A block whose first tokens are the next ones, and how many.
    pub partial: Option<(BlockHash, usize)>,
}

impl PrefixHit {
    /// Positions whose keys and values need not be computed.
    pub fn tokens(&self, block_size: usize) -> usize {
        self.blocks * block_size + self.partial.map_or(0, |(_, len)| len)
    }
}

impl KvManager {
    /// The longest prefix of `tokens` that is kept; `chain` has the hashes of its full blocks. With
    /// `host`, pages of the host tier count.
    ///
    /// Under full attention a kept block's parent is kept too, so the longest run is found by bisection,
    /// in O(log blocks). A windowed group looks at each block at most once, a recurrent one at each checkpoint.
    pub fn find_prefix(&self, chain: &HashChain, tokens: &[u32], host: bool) -> PrefixHit {
        let hit = self.find_blocks(chain, tokens, host);
        // In the middle of a block there is no checkpoint.
        if !self.config.prefix_cache || self.has_state {
            return hit;
        }
        // The last token is computed in any case, so nothing is gained by copying it.
        let last = tokens.len().saturating_sub(1);
        let next = tokens.get(hit.blocks * self.config.block_size as usize..last);
        let partial = next.filter(|next| !next.is_empty()).and_then(|next| {
            let parent = Name::new(chain.parent(hit.blocks), 0);
            let others = 1..self.num_groups();
            let is_in_all = |hash| {
                let mut names = others.clone().map(|group| Name::new(hash, group));
                names.all(|name| self.index.find(name).is_some())
            };
            self.index.closest_child(parent, next, is_in_all)
        });
        PrefixHit { partial, ..hit }
    }

    /// As [`KvManager::find_prefix`], but whole blocks only.
    pub fn find_blocks(&self, chain: &HashChain, tokens: &[u32], host: bool) -> PrefixHit {
        if !self.config.prefix_cache {
            return PrefixHit::default();
        }
        let usable = tokens.len().saturating_sub(usize::from(self.has_state));
        let full = usable / self.config.block_size as usize;
        let mut hashes = &chain.hashes()[..full.min(chain.hashes().len())];
        for (group, spec) in self.config.groups.iter().enumerate() {
            if *spec == KvSpec::Full {
                hashes = &hashes[..self.find_full(hashes, group, host)];
            }
        }
        let blocks = self.find_end(hashes, tokens.len(), host);
        PrefixHit {
            blocks,
            partial: None,
        }
    }

    /// How many of the leading blocks a group under full attention keeps.
    fn find_full(&self, hashes: &[BlockHash], group: usize, host: bool) -> usize {
        let in_pool = |&hash: &BlockHash| self.index.find(Name::new(hash, group)).is_some();
        let pool = hashes.partition_point(in_pool);
        if !host {
            return pool;
        }
        let rest = hashes[pool..].iter();
        let in_host = |&&hash: &&BlockHash| self.host.contains(Name::new(hash, group));
        pool + rest.take_while(in_host).count()
    }

    /// The longest prefix of whole blocks after which a token of any group that forgets finds everything that it reads.
    /// Blocks are looked at from the last to the first, in each group until it has enough of them in a row.
    fn find_end(&self, hashes: &[BlockHash], len: usize, host: bool) -> usize {
        let mut end = hashes.len();
        // Per group, the first of the blocks before `end` that are known to be kept.
        let mut first_kept: SmallVec<[usize; 8]> = smallvec![end; self.num_groups()];
        let is_kept = |name| self.index.find(name).is_some() || host && self.host.contains(name);
        'shorter: while end > 0 {
            for (group, &spec) in self.config.groups.iter().enumerate() {
                if spec == KvSpec::Full {
                    continue;
                }
                if let KvSpec::State {
                    checkpoint_every, ..
                } = spec
                {
                    let every = (checkpoint_every / self.config.block_size) as usize;
                    let last = end - end % every;
                    let name = |part| Name::of_part(hashes[end - 1], group, part);
                    if last == end && (0..spec.parts()).all(|part| is_kept(name(part))) {
                        continue;
                    }
                    end = if last == end { end - every } else { last };
                    continue 'shorter;
                }
                let found = end * self.config.block_size as usize;
                let needed = self.first_needed(spec, found, len);
                let first = &mut first_kept[group];
                *first = (*first).min(end);
                while *first > needed {
                    if !is_kept(Name::new(hashes[*first - 1], group)) {
                        end = *first - 1;
                        continue 'shorter;
                    }
                    *first -= 1;
                }
            }
            break;
        }
        end
    }

    /// The first block that is read when the first `found` of `len` tokens need no computing. At least the last of
    /// theirs is taken to be read.
    pub(crate) fn first_needed(&self, spec: KvSpec, found: usize, len: usize) -> usize {
        let next = found.min(len.saturating_sub(1));
        let first = self.config.first_block(spec, next);
        first.min(self.blocks_for(found).saturating_sub(1))
    }
}
