//! Starting: what a new sequence holds of what others have computed.
//!
//! Three sources, in this order: pages of the pool (which other sequences may hold too), pages of the host
//! tier (copied back), and the beginning of one more block, which is copied so that the sequence can go on
//! writing behind it. A shared page is never written again: if even the last token's keys and values are
//! there, the token is computed again for its logits, but not stored.
//!
//! In a recurrent group a sequence shares the one state that it goes on from, and gets the states that it writes.

use smallvec::SmallVec;

use crate::config::ring;
use crate::index::Contents;
use crate::states::States;
use crate::table::{Table, Tables};
use crate::{Ahead, BlockId, HashChain, KvError, KvManager, KvSpec, PrefixHit, SeqId};

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
    /// What steps in flight do of it at most. A windowed group covers no more positions behind the computed ones at once: its
    /// table moves on with the sequence, so that it never takes more pages than the window and these.
    pub ahead: Ahead,
    /// Pages that have to stay free.
    pub headroom: usize,
}

/// What a fork shares with its parent and how far it may go at once.
#[derive(Debug, Clone, Copy)]
pub struct ForkStart {
    /// Positions of the parent that it begins with, at least one. The last one is computed again.
    pub tokens: usize,
    /// As [`SequenceStart::reserve`].
    pub reserve: usize,
    /// As [`SequenceStart::ahead`].
    pub ahead: Ahead,
    /// Pages that have to stay free.
    pub headroom: usize,
}

/// The table of a new sequence in one group, before anything is taken for it. In a group that keeps states, its blocks are
/// the pages of these, the shared one first.
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
    /// For a group that keeps states: one that is shared, if it has pages, and as many new ones as complete the ring.
    fn states(spec: KvSpec, shared: Vec<Option<BlockId>>, ahead: Ahead) -> Self {
        Self {
            end: ring(ahead.steps).saturating_mul(spec.parts()),
            shared,
            first_block: 0,
            partial: None,
        }
    }

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
        let places = self.keep_found(&wanted, chain, hit);
        let mut tables = self.no_tables(start.ahead.steps);
        let found = hit.tokens(self.config.block_size as usize);
        for (group, wanted) in wanted.iter().enumerate() {
            let table = self.take_blocks(wanted, hit.blocks);
            for &(_, entry, place) in places.iter().filter(|it| it.0 == group) {
                let (index, contents) = self.found_at(group, wanted, entry, chain, hit);
                self.host.take(contents.name());
                if let Some(&to) = table.blocks.get(entry) {
                    self.plan_swap_in(place, to);
                    self.name(to, contents, chain, index, start.tokens);
                }
            }
            self.enter(&mut tables, group, table, start.ahead, found);
        }
        self.insert_tables(sequence, tables);
        Ok(found)
    }

    /// Makes `table` the table of a group, or its blocks the pages of the group's states, the first of which is behind `found`
    /// tokens.
    fn enter(&self, tables: &mut Tables, group: usize, table: Table, ahead: Ahead, found: usize) {
        let spec = self.config.groups[group];
        match spec.is_state() {
            true => {
                let states = States::of_pages(ahead.steps, &table.blocks, spec.parts(), found);
                tables.states[group] = states;
            }
            false => tables.groups[group] = table,
        }
    }

    /// The block that entry `entry` of what was found in a group belongs to, and the contents of its page.
    fn found_at(
        &self,
        group: usize,
        wanted: &Wanted,
        entry: usize,
        chain: &HashChain,
        hit: PrefixHit,
    ) -> (usize, Contents) {
        let (index, part) = match self.config.groups[group].is_state() {
            true => (hit.blocks - 1, entry),
            false => (wanted.first_block + entry, 0),
        };
        (index, Contents::of_part(chain.hashes()[index], group, part))
    }

    /// Positions that the tables of a sequence will reach to in every group, if it is admitted so.
    pub fn will_cover(&self, start: &SequenceStart) -> usize {
        let wanted = self.all_wanted(start, start.hit);
        let groups = self.config.groups.iter().zip(&wanted);
        let ends = groups.filter(|(spec, _)| !spec.is_state());
        let end = ends.map(|(_, wanted)| wanted.end).min();
        end.unwrap_or(0) * self.config.block_size as usize
    }

    /// What the tables of a new sequence should be that starts from `hit`.
    fn all_wanted(&self, start: &SequenceStart, hit: PrefixHit) -> AllWanted {
        let groups = self.config.groups.iter().enumerate();
        let wanted = groups.map(|(group, &spec)| self.wanted(group, spec, start, hit));
        wanted.collect()
    }

    fn wanted(&self, group: usize, spec: KvSpec, start: &SequenceStart, hit: PrefixHit) -> Wanted {
        let chain = start.chain;
        if spec.is_state() {
            let behind = hit.blocks.checked_sub(1);
            let hash = behind.and_then(|last| chain.hashes().get(last));
            let find = |part| {
                let contents = hash.map(|&hash| Contents::of_part(hash, group, part));
                self.index.find(contents?.name())
            };
            let parts = hash.map_or(0, |_| spec.parts());
            return Wanted::states(spec, (0..parts).map(find).collect(), start.ahead);
        }
        let found = hit.tokens(self.config.block_size as usize);
        let first_block = self.first_needed(spec, found, start.tokens.len());
        let find = |hash| self.index.find(Contents::new(hash, group).name());
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
        ahead: Ahead,
    ) -> usize {
        let most = first.saturating_add(self.config.most_blocks(spec, ahead.positions));
        self.blocks_for(reserve).min(most).max(held)
    }

    /// Takes everything that was found before anything new is, or that might evict it. Returns the places of the host
    /// tier, each with the group and the entry of its table.
    fn keep_found(
        &mut self,
        wanted: &AllWanted,
        chain: &HashChain,
        hit: PrefixHit,
    ) -> Vec<(usize, usize, u32)> {
        let mut places = Vec::new();
        for (group, wanted) in wanted.iter().enumerate() {
            wanted.held().for_each(|block| self.pool.hold(block));
            if let Some(block) = wanted.partial {
                self.pin(block);
            }
            for (entry, shared) in wanted.shared.iter().enumerate() {
                if shared.is_none() {
                    let (_, contents) = self.found_at(group, wanted, entry, chain, hit);
                    let place = self.host.keep(contents.name());
                    places.extend(place.map(|place| (group, entry, place)));
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
        if !tables.is_empty() {
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

    /// Whether `parent` still holds, in every group, what a sequence of its first `tokens` positions reads when it computes the
    /// last of them again. Not as
    /// long as a block that both would write to is itself still to be copied: a copy is not copied on.
    pub fn can_fork(&self, parent: SeqId, tokens: usize) -> bool {
        self.tables.contains_key(&parent) && self.lacks_for_fork(parent, tokens).is_none()
    }

    /// The first group in which `parent` cannot be forked.
    fn lacks_for_fork(&self, parent: SeqId, tokens: usize) -> Option<usize> {
        let last = tokens.saturating_sub(1);
        let mut groups = self.config.groups.iter().enumerate();
        let lacks = |&(group, spec): &(usize, &KvSpec)| {
            if spec.is_state() {
                return last > 0 && self.state_behind(parent, group, last).is_none();
            }
            let table = self.table(parent, group);
            let last_block = last / self.config.block_size as usize;
            let held = table.filter(|it| it.first_block <= self.config.first_block(*spec, last));
            let last = held.and_then(|table| table.get(last_block));
            last.is_none_or(|last| self.is_being_copied(last))
        };
        groups.find(lacks).map(|(group, _)| group)
    }

    /// The pages of the state behind the first `tokens` tokens of a sequence, if it has that.
    fn state_behind(&self, sequence: SeqId, group: usize, tokens: usize) -> Option<&[BlockId]> {
        let states = self.tables.get(&sequence)?.states.get(group)?;
        Some(states.find(tokens)?.pages())
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
        let of_group = |group: usize| {
            let spec = self.config.groups[group];
            if spec.is_state() {
                let state = self.state_behind(parent, group, tokens.saturating_sub(1));
                let shared = state.unwrap_or_default().iter().copied().map(Some);
                return Wanted::states(spec, shared.collect(), ahead);
            }
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
        let mut tables = self.no_tables(ahead.steps);
        tables.outdated = outdated;
        for (group, wanted) in wanted.iter_mut().enumerate() {
            let (named, has_left_others) = match self.table(parent, group) {
                Some(from) => (from.named.min(whole), from.has_left_others),
                None => (0, false),
            };
            if let Some(from) = wanted.partial {
                self.pin(from);
            }
            let table = Table {
                named,
                has_left_others,
                ..self.take_blocks(wanted, whole)
            };
            self.enter(&mut tables, group, table, ahead, tokens.saturating_sub(1));
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
