//! Sharing: how a new sequence starts from what others have computed.
//!
//! Three sources, in this order: pages of the pool (which other sequences may hold too), pages of the host
//! tier (copied back), and the beginning of one more block, which is copied so that the sequence can go on
//! writing behind it. A shared page is never written again: if even the last token's keys and values are
//! there, the token is computed again for its logits, but not stored.
//!
//! A prefix is as long as it is in every group: of a group under full attention all its blocks are kept, of a windowed
//! one those that the next token reads.

use smallvec::{SmallVec, smallvec};

use crate::name::Name;
use crate::table::{Table, Tables};
use crate::{BlockHash, BlockId, HashChain, KvError, KvManager, KvSpec, SeqId};

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
    /// Of these, positions behind the computed ones that have to be covered at once in a windowed group: its table
    /// moves on with the sequence, so that it never takes more pages than the window and these.
    pub ahead: usize,
    /// Pages that have to stay free.
    pub headroom: usize,
}

/// What a fork shares with its parent and how far it may go at once.
#[derive(Debug, Clone, Copy)]
pub struct ForkStart {
    /// Positions of the parent that it begins with.
    pub tokens: usize,
    /// As [`SequenceStart::reserve`].
    pub reserve: usize,
    /// As [`SequenceStart::ahead`].
    pub ahead: usize,
    /// Pages that have to stay free.
    pub headroom: usize,
}

/// The table of a new sequence in one group, before anything is taken for it.
struct Wanted {
    /// The pages of the pool that it shares, from `first_block` on; nothing for those of the host tier among them.
    shared: Vec<Option<BlockId>>,
    first_block: usize,
    /// The block behind its last one.
    end: usize,
    /// The page whose beginning is copied.
    partial: Option<BlockId>,
}

impl Wanted {
    /// Pages that have to be allocated.
    fn needed(&self) -> usize {
        self.end - self.first_block - self.held().count()
    }

    /// Pages of the pool that it shares.
    fn held(&self) -> impl Iterator<Item = BlockId> {
        self.shared.iter().copied().flatten()
    }
}

/// Those of all groups.
type AllWanted = SmallVec<[Wanted; 1]>;

impl KvManager {
    /// The longest prefix of `tokens` that is kept; `chain` has the hashes of its full blocks. With
    /// `host`, pages of the host tier count.
    ///
    /// Under full attention a kept block's parent is kept too, so the longest run is found by bisection,
    /// in O(log blocks). A windowed group looks at each block at most once.
    pub fn find_prefix(&self, chain: &HashChain, tokens: &[u32], host: bool) -> PrefixHit {
        let hit = self.find_blocks(chain, tokens, host);
        if !self.config.prefix_cache {
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
        let full = tokens.len() / self.config.block_size as usize;
        let mut hashes = &chain.hashes()[..full.min(chain.hashes().len())];
        for (group, spec) in self.config.groups.iter().enumerate() {
            if *spec == KvSpec::Full {
                hashes = &hashes[..self.find_full(hashes, group, host)];
            }
        }
        let blocks = self.find_windows(hashes, tokens.len(), host);
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

    /// The longest prefix of whole blocks after which a token of any windowed group finds everything within its window.
    /// Blocks are looked at from the last to the first, in each group until it has enough of them in a row.
    fn find_windows(&self, hashes: &[BlockHash], len: usize, host: bool) -> usize {
        let mut end = hashes.len();
        // Per group, the first of the blocks before `end` that are known to be kept.
        let mut first_kept: SmallVec<[usize; 8]> = smallvec![end; self.num_groups()];
        'shorter: while end > 0 {
            for (group, &spec) in self.config.groups.iter().enumerate() {
                if spec == KvSpec::Full {
                    continue;
                }
                let found = end * self.config.block_size as usize;
                let needed = self.first_needed(spec, found, len);
                let first = &mut first_kept[group];
                *first = (*first).min(end);
                while *first > needed {
                    let name = Name::new(hashes[*first - 1], group);
                    let kept = self.index.find(name).is_some() || host && self.host.contains(name);
                    if !kept {
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
    fn first_needed(&self, spec: KvSpec, found: usize, len: usize) -> usize {
        let next = found.min(len.saturating_sub(1));
        let first = self.config.first_block(spec, next);
        first.min(self.blocks_for(found).saturating_sub(1))
    }

    /// Gives `sequence`, which has no tables yet, what was found for it and new blocks behind it. Returns
    /// the positions whose keys and values it has now.
    ///
    /// The start of a further block is not used if its copies would take the last free pages.
    ///
    /// # Errors
    ///
    /// [`KvError::OutOfPages`] or [`KvError::AlreadyHolds`]; nothing has changed then.
    pub fn admit(&mut self, sequence: SeqId, start: &SequenceStart) -> Result<usize, KvError> {
        let SequenceStart { chain, mut hit, .. } = *start;
        if self.tables.contains_key(&sequence) {
            return Err(KvError::AlreadyHolds { sequence });
        }
        let mut wanted = self.all_wanted(start, hit);
        if hit.partial.is_some() && self.check_space(&wanted, start.headroom).is_err() {
            hit.partial = None;
            wanted = self.all_wanted(start, hit);
        }
        self.check_space(&wanted, start.headroom)?;
        let places = self.keep_found(&wanted, chain);
        let mut tables = Tables::new(wanted.len());
        for (group, (wanted, table)) in wanted.iter().zip(&mut tables.groups).enumerate() {
            *table = self.take_blocks(wanted, hit.blocks);
            for &(of_group, index, place) in places.iter().filter(|it| it.0 == group) {
                self.host.take(Name::new(chain.hashes()[index], of_group));
                if let Some(to) = table.get(index) {
                    self.plan_swap_in(place, to);
                    self.name(to, chain, group, index, start.tokens);
                }
            }
        }
        self.insert_tables(sequence, tables);
        Ok(hit.tokens(self.config.block_size as usize))
    }

    /// Positions that the tables of a sequence will reach to in every group, if it is admitted so.
    pub fn will_cover(&self, start: &SequenceStart) -> usize {
        let wanted = self.all_wanted(start, start.hit);
        let ends = wanted.iter().map(|wanted| wanted.end);
        ends.min().unwrap_or(0) * self.config.block_size as usize
    }

    /// What the tables of a new sequence should be that starts from `hit`.
    fn all_wanted(&self, start: &SequenceStart, hit: PrefixHit) -> AllWanted {
        let groups = self.config.groups.iter().enumerate();
        let wanted = groups.map(|(group, &spec)| self.wanted(group, spec, start, hit));
        wanted.collect()
    }

    fn wanted(&self, group: usize, spec: KvSpec, start: &SequenceStart, hit: PrefixHit) -> Wanted {
        let chain = start.chain;
        let found = hit.tokens(self.config.block_size as usize);
        let first_block = self.first_needed(spec, found, start.tokens.len());
        let find = |hash: BlockHash| self.index.find(Name::new(hash, group));
        let found = chain.hashes().get(first_block..hit.blocks);
        let found = found.unwrap_or_default().iter();
        Wanted {
            shared: found.map(|&hash| find(hash)).collect(),
            first_block,
            end: self.end_of_table(spec, first_block, hit.blocks, start.reserve, start.ahead),
            partial: hit.partial.and_then(|(hash, _)| find(hash)),
        }
    }

    /// Where a new table ends that begins with block `first` and holds at least `held` blocks of the sequence: it covers
    /// `reserve` positions, or as much of them as a windowed group needs at a time.
    fn end_of_table(
        &self,
        spec: KvSpec,
        first: usize,
        held: usize,
        reserve: usize,
        ahead: usize,
    ) -> usize {
        let most = first.saturating_add(self.config.most_blocks(spec, ahead));
        self.blocks_for(reserve).min(most).max(held)
    }

    /// Takes everything that was found before anything new is, or that might evict it. Returns the places of the host
    /// tier, each with the group and the block.
    fn keep_found(&mut self, wanted: &AllWanted, chain: &HashChain) -> Vec<(usize, usize, u32)> {
        let mut places = Vec::new();
        for (group, wanted) in wanted.iter().enumerate() {
            wanted.held().for_each(|block| self.pool.hold(block));
            if let Some(block) = wanted.partial {
                self.pin(block);
            }
            for (index, shared) in (wanted.first_block..).zip(&wanted.shared) {
                if shared.is_none() {
                    let name = Name::new(chain.hashes()[index], group);
                    places.extend(self.host.keep(name).map(|place| (group, index, place)));
                }
            }
        }
        places
    }

    /// A table of what is wanted, whose shared blocks are held already. The rest is allocated; if the beginning of
    /// a block is to be copied, it goes to the first block behind the `found` ones.
    fn take_blocks(&mut self, wanted: &Wanted, found: usize) -> Table {
        let mut blocks = Vec::with_capacity(wanted.end - wanted.first_block);
        let new = wanted.end - wanted.first_block - wanted.shared.len();
        let shared = wanted.shared.iter().copied();
        for shared in shared.chain(std::iter::repeat_n(None, new)) {
            blocks.extend(shared.or_else(|| self.allocate()));
        }
        let table = Table {
            first_block: wanted.first_block,
            blocks,
            named: found,
            ..Table::default()
        };
        if let (Some(from), Some(to)) = (wanted.partial, table.get(found)) {
            self.plan_copy(from, to);
        }
        table
    }

    fn insert_tables(&mut self, sequence: SeqId, tables: Tables) {
        if tables.groups.iter().any(|table| table.end() > 0) {
            self.tables.insert(sequence, tables);
        }
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

    /// Whether `parent` still holds, in every group, what a sequence of its first `tokens` positions reads next. Not as
    /// long as a block that both would write to is itself still to be copied: a copy is not copied on.
    pub fn can_fork(&self, parent: SeqId, tokens: usize) -> bool {
        self.tables.contains_key(&parent) && self.lacks_for_fork(parent, tokens).is_none()
    }

    /// The first group in which `parent` cannot be forked.
    fn lacks_for_fork(&self, parent: SeqId, tokens: usize) -> Option<usize> {
        let last = tokens.saturating_sub(1);
        let mut groups = self.config.groups.iter().enumerate();
        let lacks = |&(group, spec): &(usize, &KvSpec)| {
            let table = self.table(parent, group);
            let last_block = last / self.config.block_size as usize;
            let held = table.filter(|it| it.first_block <= self.config.first_block(*spec, last));
            let last = held.and_then(|table| table.get(last_block));
            last.is_none_or(|last| self.is_being_copied(last))
        };
        groups.find(lacks).map(|(group, _)| group)
    }

    /// Gives `child`, which has no tables yet, the first positions of `parent`: whole blocks are
    /// shared, those that both will write to are copied, one in each group. New blocks follow.
    ///
    /// # Errors
    ///
    /// [`KvError::CannotFork`], [`KvError::OutOfPages`] or [`KvError::AlreadyHolds`]; nothing has changed
    /// then.
    pub fn fork(&mut self, parent: SeqId, child: SeqId, start: ForkStart) -> Result<(), KvError> {
        let ForkStart { tokens, ahead, .. } = start;
        if self.tables.contains_key(&child) {
            return Err(KvError::AlreadyHolds { sequence: child });
        }
        if let Some(group) = self.lacks_for_fork(parent, tokens) {
            return Err(KvError::CannotFork {
                parent,
                group,
                tokens,
            });
        }
        let whole = tokens / self.config.block_size as usize;
        let groups = 0..self.num_groups();
        let of_group = |group| {
            let spec = self.config.groups[group];
            let first = self.config.first_block(spec, tokens.saturating_sub(1));
            let first_block = first.min(whole);
            let table = self.table(parent, group);
            let block = |index| table.and_then(|table| table.get(index));
            let reserve = start.reserve.max(tokens);
            let begun = self.blocks_for(tokens);
            Wanted {
                shared: (first_block..whole).map(block).collect(),
                first_block,
                end: self.end_of_table(spec, first_block, begun, reserve, ahead),
                partial: block(whole).filter(|_| begun > whole),
            }
        };
        let mut wanted: AllWanted = groups.map(of_group).collect();
        self.check_space(&wanted, start.headroom)?;
        for block in wanted.iter().flat_map(Wanted::held) {
            self.pool.hold(block);
        }
        let parents = self.tables.get(&parent);
        let outdated = parents.is_some_and(|tables| tables.outdated);
        let mut tables = Tables::new(wanted.len());
        tables.outdated = outdated;
        for (group, wanted) in wanted.iter_mut().enumerate() {
            let (named, has_left_others) = match self.table(parent, group) {
                Some(from) => (from.named.min(whole), from.has_left_others),
                None => (0, false),
            };
            if let Some(from) = wanted.partial {
                self.pin(from);
            }
            tables.groups[group] = Table {
                named,
                has_left_others,
                ..self.take_blocks(wanted, whole)
            };
        }
        self.insert_tables(child, tables);
        Ok(())
    }

    /// Whether what is wanted can be taken while what is shared, and what is copied, becomes held.
    fn check_space(&self, wanted: &AllWanted, headroom: usize) -> Result<(), KvError> {
        let found = wanted.iter().flat_map(|it| it.held().chain(it.partial));
        let taken = found.filter(|block| self.pool.is_idle(*block)).count();
        let free = self.pool.num_free() - taken;
        let needed = wanted.iter().map(Wanted::needed).sum::<usize>() + headroom;
        if needed > free {
            return Err(KvError::OutOfPages { needed, free });
        }
        Ok(())
    }
}
