//! Copies of blocks: on the GPU, and between it and a cache in host memory, which keeps blocks in the same form.
//!
//! On the GPU a launch copies everything at once. The order of the list is kept by cutting it into *runs* of copies
//! that don't depend on each other, and one launch after the other.
//!
//! To and from the host, groups of sixteen slots that are copied as a whole are one piece of memory, all their key
//! heads included. What is left of a block goes by way of the group: it is read, changed, and written.

use std::collections::HashSet;
use std::ops::Range;

use super::{Device, at};
use crate::cache::{GROUP, RowCell};
use crate::gpu::{Arg, DeviceBytes, Grid};
use crate::memory::Memory;
use crate::operators::BlockCopies;
use crate::{BlockCopy, LayerCache, TensorError};

/// Slots that a block of threads copies, a warp each.
const SLOTS_PER_BLOCK: usize = 8;

impl BlockCopies for Device {
    fn copy_blocks(
        &self,
        cache: &mut LayerCache,
        block_size: usize,
        copies: &[BlockCopy],
    ) -> Result<(), TensorError> {
        let layout = Layout::of(cache, block_size);
        let memory = cache.memory_mut().checked_mut()?;
        let apart = |copy: &BlockCopy| copy.from != copy.to;
        let copies: Vec<BlockCopy> = copies.iter().copied().filter(apart).collect();
        self.copy_runs(layout, memory, memory, &independent_runs(&copies, true))
    }

    fn copy_blocks_from(
        &self,
        source: &LayerCache,
        target: &mut LayerCache,
        block_size: usize,
        copies: &[BlockCopy],
    ) -> Result<(), TensorError> {
        let layout = Layout::of(target, block_size);
        match (source.memory(), target.memory_mut()) {
            (Memory::Device(source), Memory::Device(target)) => {
                self.copy_runs(layout, source, target, &independent_runs(copies, false))
            }
            (Memory::Device(source), Memory::Host(target)) => {
                layout.download(source, target.as_mut_slice(), copies)
            }
            (Memory::Host(source), Memory::Device(target)) => {
                layout.upload(source.as_slice(), target, copies)
            }
            (Memory::Host(source), Memory::Host(target)) => {
                layout.copy_on_host(source.as_slice(), target.as_mut_slice(), copies);
                Ok(())
            }
        }
    }
}

impl Device {
    fn copy_runs(
        &self,
        layout: Layout,
        source: &DeviceBytes,
        target: &DeviceBytes,
        runs: &[&[BlockCopy]],
    ) -> Result<(), TensorError> {
        let mut turn = self.turn();
        for run in runs {
            let mut words = Vec::with_capacity(run.len() * 3);
            for copy in *run {
                // Checked to be at most the size of a block.
                words.extend([copy.from, copy.to, copy.positions as u32]);
            }
            let most = run.iter().map(|copy| copy.positions).max().unwrap_or(0);
            let list = turn.list(&words)?;
            let blocks = [run.len(), layout.kv_heads, most.div_ceil(SLOTS_PER_BLOCK)];
            let grid = Grid {
                blocks,
                threads: SLOTS_PER_BLOCK * 32,
                shared_bytes: 0,
            };
            let args = [
                at(source),
                at(target),
                turn.list_arg(list),
                Arg::U32(layout.block_size),
                Arg::U32(layout.kv_heads),
                Arg::U32(layout.cell.row_bytes() / size_of::<u32>()),
                Arg::U32(layout.cell.has_scales().into()),
            ];
            turn.queue().launch("copy_slots", grid, &args)?;
        }
        Ok(())
    }
}

/// Cuts a list where a copy reads or writes what one before it wrote, or, within a cache, writes what one before
/// it read.
fn independent_runs(copies: &[BlockCopy], is_within: bool) -> Vec<&[BlockCopy]> {
    let mut runs = Vec::new();
    let (mut read, mut written) = (HashSet::new(), HashSet::new());
    let mut first = 0;
    for (at, copy) in copies.iter().enumerate() {
        let meets = written.contains(&copy.from) || read.contains(&copy.to);
        if written.contains(&copy.to) || (is_within && meets) {
            runs.push(&copies[first..at]);
            first = at;
            read.clear();
            written.clear();
        }
        read.insert(copy.from);
        written.insert(copy.to);
    }
    runs.push(&copies[first..]);
    runs
}

/// Where blocks lie in a cache.
#[derive(Clone, Copy)]
struct Layout {
    cell: RowCell,
    kv_heads: usize,
    block_size: usize,
}

/// Slots `from` and on that become slots `to` and on: whole groups, or slots of one group that become slots of one.
#[derive(Clone, Copy)]
struct Piece {
    from: usize,
    to: usize,
    count: usize,
}

impl Piece {
    /// The first piece of what is left of a copy.
    fn first([from, to]: [usize; 2], slots: usize) -> Self {
        let aligned = from.is_multiple_of(GROUP) && to.is_multiple_of(GROUP);
        let count = if aligned && slots >= GROUP {
            slots / GROUP * GROUP
        } else {
            slots.min(GROUP - (from % GROUP).max(to % GROUP))
        };
        Self { from, to, count }
    }

    fn is_whole(self) -> bool {
        self.count.is_multiple_of(GROUP)
    }
}

impl Layout {
    fn of(cache: &LayerCache, block_size: usize) -> Self {
        Self {
            cell: cache.row_cell(),
            kv_heads: cache.kv_heads(),
            block_size,
        }
    }

    /// Bytes of the cells of sixteen slots.
    fn group_bytes(self) -> usize {
        self.kv_heads * self.cell.bytes()
    }

    /// The pieces of a list, in order, and the bytes of the groups that each reads and writes.
    fn pieces(
        self,
        copies: &[BlockCopy],
    ) -> impl Iterator<Item = (Piece, Range<usize>, Range<usize>)> {
        let group = self.group_bytes();
        let bytes = move |slot: usize, slots: usize| {
            let first = slot / GROUP;
            first * group..(first + slots.div_ceil(GROUP)) * group
        };
        copies.iter().flat_map(move |copy| {
            let [mut from, mut to] = [copy.from, copy.to].map(|b| b as usize * self.block_size);
            let end = from + copy.positions;
            std::iter::from_fn(move || {
                let left = (from < end).then_some(end - from)?;
                let piece = Piece::first([from, to], left);
                (from, to) = (from + piece.count, to + piece.count);
                let [read, written] = [piece.from, piece.to].map(|slot| bytes(slot, piece.count));
                Some((piece, read, written))
            })
        })
    }

    fn download(
        self,
        source: &DeviceBytes,
        target: &mut [u8],
        copies: &[BlockCopy],
    ) -> Result<(), TensorError> {
        for (piece, read, written) in self.pieces(copies) {
            if piece.is_whole() {
                source.download(read.start, &mut target[written])?;
            } else {
                let mut group = vec![0; self.group_bytes()];
                source.download(read.start, &mut group)?;
                self.copy_slots(piece, &group, &mut target[written]);
            }
        }
        Ok(())
    }

    fn upload(
        self,
        source: &[u8],
        target: &mut DeviceBytes,
        copies: &[BlockCopy],
    ) -> Result<(), TensorError> {
        for (piece, read, written) in self.pieces(copies) {
            if piece.is_whole() {
                target.upload(written.start, &source[read])?;
            } else {
                let mut group = vec![0; self.group_bytes()];
                target.download(written.start, &mut group)?;
                self.copy_slots(piece, &source[read], &mut group);
                target.upload(written.start, &group)?;
            }
        }
        Ok(())
    }

    fn copy_on_host(self, source: &[u8], target: &mut [u8], copies: &[BlockCopy]) {
        for (piece, read, written) in self.pieces(copies) {
            if piece.is_whole() {
                target[written].copy_from_slice(&source[read]);
            } else {
                self.copy_slots(piece, &source[read], &mut target[written]);
            }
        }
    }

    /// Copies slots of one group to another, of all key heads.
    fn copy_slots(self, piece: Piece, from: &[u8], to: &mut [u8]) {
        let [source, target] = [piece.from, piece.to].map(|slot| slot % GROUP);
        let len = self.cell.bytes();
        for (from, to) in from.chunks_exact(len).zip(to.chunks_exact_mut(len)) {
            self.cell
                .copy_slots((from, source), (to, target), piece.count);
        }
    }
}
