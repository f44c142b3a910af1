//! Copies of blocks, from their plan to their end.
//!
//! A move is *planned* when a sequence is admitted or a block is evicted, *taken* with the step that makes it, and
//! *settled* when that step is done. A step that is taken back gives its moves back: they are planned again,
//! before the newer ones. As long as a move is planned, its sequence may leave. A block that no table holds
//! any more then need not be written, and its move is dropped; a block of the host tier goes back to it.

use std::collections::HashSet;

use crate::moves::{BlockMove, BlockMoves};
use crate::{BlockId, KvManager, SeqId};

/// Where the contents come from that a block is about to get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    FromHost,
    Copied,
}

impl KvManager {
    /// The copies planned since the last call: to be made once, before the step they were planned with, and then
    /// [settled](KvManager::settle), or [given back](KvManager::give_back) if that step is not to be.
    ///
    /// No sequence that [awaits](KvManager::awaits_moves) some of them may be released before that.
    pub fn take_moves(&mut self) -> BlockMoves {
        self.places_planned.clear();
        let moves = std::mem::take(&mut self.moves);
        self.arriving.extend(arrivals(&moves));
        moves
    }

    /// The step that made these moves is done: what they read may change.
    pub fn settle(&mut self, moves: &BlockMoves) {
        for (block, _) in arrivals(moves) {
            self.arriving.remove(&block);
        }
        for moved in &moves.copies {
            self.unpin(BlockId(moved.from));
        }
        for moved in &moves.swap_in {
            self.host.vacate(moved.from);
            self.places_in_use -= 1;
        }
    }

    /// The step that these moves were taken for, the newest of all, is not to be. They are planned again, before
    /// those that are. A block that a later move out of the pool overwrites in the host tier is left out.
    pub fn give_back(&mut self, moves: BlockMoves) {
        for (block, _) in arrivals(&moves) {
            self.arriving.remove(&block);
        }
        let later = std::mem::replace(&mut self.moves, moves);
        let overwritten = &self.places_planned;
        let outdated = |moved: &BlockMove| overwritten.contains_key(&moved.to);
        self.moves.swap_out.retain(|moved| !outdated(moved));
        self.moves.swap_out.extend(later.swap_out);
        self.moves.swap_in.extend(later.swap_in);
        self.moves.copies.extend(later.copies);
        let places = self.moves.swap_out.iter().map(|moved| moved.to);
        self.places_planned = places.zip(0..).collect();
    }

    /// Whether moves that were taken and are not settled write to a block of `sequence`, which must not be
    /// released or committed before.
    pub fn awaits_moves(&self, sequence: SeqId) -> bool {
        let mut held = self.held_pages(sequence);
        !self.arriving.is_empty() && held.any(|block| self.arriving.contains_key(&block))
    }

    /// Whether a planned move out of the pool reads a block of `sequence`, which must not be written before.
    pub fn is_read_by_planned_moves(&self, sequence: SeqId) -> bool {
        let mut held = self.held_pages(sequence);
        let planned: HashSet<u32> = self.moves.swap_out.iter().map(|moved| moved.from).collect();
        !planned.is_empty() && held.any(|block| planned.contains(&block.0))
    }

    /// Whether `block` is to be copied from the host tier, or a step in flight does that.
    pub(crate) fn is_awaited_from_host(&self, block: BlockId) -> bool {
        self.arriving.get(&block) == Some(&Arrival::FromHost)
            || writes(&self.moves.swap_in, block).is_some()
    }

    /// Whether a copy of another block is to be made into `block`, or a step in flight makes it.
    pub(crate) fn is_being_copied(&self, block: BlockId) -> bool {
        self.arriving.get(&block) == Some(&Arrival::Copied)
            || writes(&self.moves.copies, block).is_some()
    }

    /// The last holder of `block` is about to let go of it: what was planned to be copied there is not.
    pub(crate) fn forgo_arrival(&mut self, block: BlockId) {
        if let Some(index) = writes(&self.moves.swap_in, block) {
            let place = self.moves.swap_in.remove(index).from;
            self.places_in_use -= 1;
            // A name that is gone was forgotten on purpose.
            match self.index.remove(block) {
                Some(record) => self.host.put_back(record.contents(), place),
                None => self.host.vacate(place),
            }
        }
        if let Some(index) = writes(&self.moves.copies, block) {
            let source = self.moves.copies.remove(index).from;
            self.unpin(BlockId(source));
        }
    }

    /// Holds `block` for a step in flight, or for one that is to come.
    pub(crate) fn pin(&mut self, block: BlockId) {
        self.pool.hold(block);
        self.pinned.push(block);
    }

    pub(crate) fn unpin(&mut self, block: BlockId) {
        if let Some(index) = self.pinned.iter().position(|&pinned| pinned == block) {
            self.pinned.swap_remove(index);
            self.let_go(block);
        }
    }

    pub(crate) fn plan_copy(&mut self, from: BlockId, to: BlockId) {
        self.moves.copies.push(BlockMove {
            from: from.0,
            to: to.0,
        });
        self.counts.copied += 1;
    }

    /// Plans the return of a block from the host tier.
    pub(crate) fn plan_swap_in(&mut self, place: u32, to: BlockId) {
        self.moves.swap_in.push(BlockMove {
            from: place,
            to: to.0,
        });
        self.places_in_use += 1;
        self.counts.swapped_in += 1;
    }

    pub(crate) fn plan_swap_out(&mut self, block: BlockId, place: u32) {
        let moved = BlockMove {
            from: block.0,
            to: place,
        };
        let last = self.moves.swap_out.len();
        match *self.places_planned.entry(place).or_insert(last) {
            // A block that was to go to this place in the same step has lost it again.
            earlier if earlier < last => self.moves.swap_out[earlier] = moved,
            _ => self.moves.swap_out.push(moved),
        }
        self.counts.swapped_out += 1;
    }
}

/// Blocks of the pool that `moves` write.
fn arrivals(moves: &BlockMoves) -> impl Iterator<Item = (BlockId, Arrival)> {
    let from_host = moves.swap_in.iter().map(|moved| (moved, Arrival::FromHost));
    let copied = moves.copies.iter().map(|moved| (moved, Arrival::Copied));
    let all = from_host.chain(copied);
    all.map(|(moved, arrival)| (BlockId(moved.to), arrival))
}

/// Which of `moves` writes to `block`.
fn writes(moves: &[BlockMove], block: BlockId) -> Option<usize> {
    moves.iter().position(|moved| moved.to == block.0)
}
