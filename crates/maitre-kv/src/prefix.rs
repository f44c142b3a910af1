//! Sharing: how a new sequence starts from what others have computed.
//!
//! Three sources, in this order: blocks of the pool (which other sequences may hold too), blocks of the host
//! tier (copied back), and the beginning of one more block, which is copied so that the sequence can go on
//! writing behind it. A shared block is never written again: if even the last token's keys and values are
//! there, the token is computed again for its logits, but not stored.

use crate::table::Table;
use crate::{BlockHash, BlockId, HashChain, KvError, KvManager, SeqId};

/// What a sequence would find, were it admitted now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PrefixHit {
    /// Leading blocks that are in the pool. Under a window the first of them may be gone; no step
    /// would read them.
    pub pool_blocks: usize,
    /// Leading blocks not needed, being behind the window.
    pub(crate) skipped: usize,
    /// The blocks after them that are in the host tier.
    pub host_blocks: usize,
    /// A block whose first tokens are the next ones, and how many.
    pub partial: Option<(BlockId, usize)>,
}

impl PrefixHit {
    /// Positions whose keys and values need not be computed.
    pub fn tokens(&self, block_size: usize) -> usize {
        (self.pool_blocks + self.host_blocks) * block_size + self.partial.map_or(0, |(_, len)| len)
    }
}

/// What a new sequence starts from and how far it may go at once.
#[derive(Debug, Clone, Copy)]
pub struct SequenceStart<'a> {
    /// Its tokens, from the first.
    pub tokens: &'a [u32],
    /// The hashes of their full blocks.
    pub chain: &'a HashChain,
    /// What [`KvManager::find_prefix`] found for them, with nothing changed since.
    pub hit: PrefixHit,
    /// Positions that its blocks have to cover.
    pub reserve: usize,
    /// Blocks that have to stay free.
    pub headroom: usize,
}

impl KvManager {
    /// The longest prefix of `tokens` that is kept; `chain` has the hashes of its full blocks. With
    /// `host`, blocks of the host tier count.
    ///
    /// Under full attention a kept block's parent is kept too, so the longest run is found by bisection,
    /// in O(log blocks).
    pub fn find_prefix(&self, chain: &HashChain, tokens: &[u32], host: bool) -> PrefixHit {
        let hit = self.find_blocks(chain, tokens, host);
        if !self.config.prefix_cache || self.config.window.is_some() {
            return hit;
        }
        let found = hit.pool_blocks + hit.host_blocks;
        // The last token is computed in any case, so nothing is gained by copying it.
        let last = tokens.len().saturating_sub(1);
        let next = tokens.get(found * self.config.block_size as usize..last);
        let partial = next
            .filter(|next| !next.is_empty())
            .and_then(|next| self.index.closest_child(chain.parent(found), next));
        PrefixHit { partial, ..hit }
    }

    /// As [`KvManager::find_prefix`], but whole blocks only.
    pub fn find_blocks(&self, chain: &HashChain, tokens: &[u32], host: bool) -> PrefixHit {
        if !self.config.prefix_cache {
            return PrefixHit::default();
        }
        let full = tokens.len() / self.config.block_size as usize;
        let hashes = &chain.hashes()[..full.min(chain.hashes().len())];
        if self.config.window.is_some() {
            return self.find_window(hashes, tokens.len());
        }
        let pool_blocks = hashes.partition_point(|&hash| self.index.find(hash).is_some());
        let host_blocks = if host {
            let rest = hashes[pool_blocks..].iter();
            rest.take_while(|&&hash| self.host.contains(hash)).count()
        } else {
            0
        };
        PrefixHit {
            pool_blocks,
            host_blocks,
            ..PrefixHit::default()
        }
    }

    /// The longest prefix after which a token finds everything within its window. Blocks are looked at
    /// from the last to the first, and what counts is how many are kept in a row.
    fn find_window(&self, hashes: &[BlockHash], len: usize) -> PrefixHit {
        let block_size = self.config.block_size as usize;
        let (mut pool_blocks, mut row) = (hashes.len(), 0);
        for index in (0..hashes.len()).rev() {
            if self.index.find(hashes[index]).is_none() {
                (pool_blocks, row) = (index, 0);
                continue;
            }
            row += 1;
            let next = (pool_blocks * block_size).min(len - 1);
            let skipped = self.config.first_read(next) / block_size;
            if pool_blocks - row <= skipped {
                return PrefixHit {
                    pool_blocks,
                    skipped,
                    ..PrefixHit::default()
                };
            }
        }
        PrefixHit::default()
    }

    /// Gives `sequence`, which has no table yet, what was found for it and new blocks behind it. Returns
    /// the positions whose keys and values it has now.
    ///
    /// The start of a further block is not used if its copy would take the last free one.
    ///
    /// # Errors
    ///
    /// [`KvError::OutOfBlocks`] or [`KvError::AlreadyHolds`]; nothing has changed then.
    pub fn admit(&mut self, sequence: SeqId, start: &SequenceStart) -> Result<usize, KvError> {
        let SequenceStart { chain, hit, .. } = *start;
        let found = hit.pool_blocks + hit.host_blocks;
        let shared: Vec<BlockId> = (hit.skipped..hit.pool_blocks)
            .filter_map(|index| self.index.find(chain.hashes()[index]))
            .collect();
        let needed = self.blocks_for(start.reserve).max(found) - hit.pool_blocks;
        let mut partial = hit.partial;
        self.check_space(sequence, needed + start.headroom, &shared, &mut partial)?;

        // Everything found is taken before new blocks are, or these might evict it.
        shared.iter().for_each(|&block| self.pool.hold(block));
        if let Some((block, _)) = partial {
            self.pin(block);
        }
        let places: Vec<u32> = (hit.pool_blocks..found)
            .filter_map(|index| self.host.take(chain.hashes()[index]))
            .collect();
        let mut table = Table {
            blocks: vec![BlockId::NONE; hit.skipped],
            behind: hit.skipped,
            named: found,
            ..Table::default()
        };
        table.blocks.extend(shared);
        table
            .blocks
            .extend((0..needed).map_while(|_| self.allocate()));
        for (index, place) in (hit.pool_blocks..).zip(places) {
            self.plan_swap_in(place, table.blocks[index]);
            self.name(table.blocks[index], chain, index, start.tokens);
        }
        if let (Some((from, _)), Some(&to)) = (partial, table.blocks.get(found)) {
            self.plan_copy(from, to);
        }
        if !table.blocks.is_empty() {
            self.tables.insert(sequence, table);
        }
        Ok(PrefixHit { partial, ..hit }.tokens(self.config.block_size as usize))
    }

    /// As [`KvManager::admit`], for a sequence whose new blocks are filled from elsewhere, perhaps before the moves of the
    /// next step are made: nothing that is evicted for it goes to the host tier.
    ///
    /// # Errors
    ///
    /// As [`KvManager::admit`].
    pub fn admit_to_be_filled(
        &mut self,
        sequence: SeqId,
        start: &SequenceStart,
    ) -> Result<usize, KvError> {
        let offload = std::mem::replace(&mut self.offload, false);
        let admitted = self.admit(sequence, start);
        self.offload = offload;
        admitted
    }

    /// Whether `parent` still holds what a sequence of its first `tokens` positions reads next. Not as long
    /// as the block that both would write to is itself still to be copied: a copy is not copied on.
    pub fn can_fork(&self, parent: SeqId, tokens: usize) -> bool {
        let Some(table) = self.tables.get(&parent) else {
            return false;
        };
        let read = self.config.first_read(tokens.saturating_sub(1));
        let first = read / self.config.block_size as usize;
        let last = table
            .blocks
            .get(tokens.saturating_sub(1) / self.config.block_size as usize);
        table.behind <= first && last.is_some_and(|&last| !self.is_being_copied(last))
    }

    /// Gives `child`, which has no table yet, the first `tokens` positions of `parent`: whole blocks are
    /// shared, the one that both will write to is copied. New blocks follow, enough for `reserve`
    /// positions. At least `headroom` blocks stay free.
    ///
    /// # Errors
    ///
    /// [`KvError::CannotFork`], [`KvError::OutOfBlocks`] or [`KvError::AlreadyHolds`]; nothing has changed
    /// then.
    pub fn fork(
        &mut self,
        parent: SeqId,
        child: SeqId,
        tokens: usize,
        reserve: usize,
        headroom: usize,
    ) -> Result<(), KvError> {
        let block_size = self.config.block_size as usize;
        let whole = tokens / block_size;
        let Some(from) = self
            .tables
            .get(&parent)
            .filter(|_| self.can_fork(parent, tokens))
        else {
            return Err(KvError::CannotFork { parent, tokens });
        };
        let behind = from.behind.min(whole);
        let mut table = Table {
            blocks: from.blocks[..whole].to_vec(),
            behind,
            named: from.named.min(whole),
            outdated: from.outdated,
            has_left_others: from.has_left_others,
            told: 0,
        };
        let mut partial = (!tokens.is_multiple_of(block_size))
            .then(|| {
                from.blocks
                    .get(whole)
                    .map(|&block| (block, tokens % block_size))
            })
            .flatten();
        let needed = self.blocks_for(reserve.max(tokens)) - whole;
        self.check_space(child, needed + headroom, &[], &mut partial)?;
        for &block in table.held() {
            self.pool.hold(block);
        }
        table
            .blocks
            .extend((0..needed).map_while(|_| self.allocate()));
        if let (Some((from, _)), Some(&to)) = (partial, table.blocks.get(whole)) {
            self.pin(from);
            self.plan_copy(from, to);
        }
        self.tables.insert(child, table);
        Ok(())
    }

    /// Whether `needed` blocks can be taken while `shared` become held. A partial block that would have
    /// to stay for its copy and is one too many is given up.
    fn check_space(
        &self,
        sequence: SeqId,
        needed: usize,
        shared: &[BlockId],
        partial: &mut Option<(BlockId, usize)>,
    ) -> Result<(), KvError> {
        if self.tables.contains_key(&sequence) {
            return Err(KvError::AlreadyHolds { sequence });
        }
        let idle = |block: &BlockId| self.pool.is_idle(*block);
        let taken = shared.iter().filter(|block| idle(block)).count();
        let free = self.pool.num_free() - taken;
        if needed > free {
            return Err(KvError::OutOfBlocks { needed, free });
        }
        *partial = partial.filter(|(block, _)| needed < free || !idle(block));
        Ok(())
    }
}
