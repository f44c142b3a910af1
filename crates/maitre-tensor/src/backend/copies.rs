//! Copies of blocks: within a cache, and to a cache from another of the same shape.

use std::fmt::{self, Display};

use super::Backend;
use super::check::Check;
use crate::{LayerCache, TensorError};

/// A copy of keys and values: of the first `positions` positions of block `from` to block `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockCopy {
    /// The block that is read.
    pub from: u32,
    /// The block that is written.
    pub to: u32,
    /// Positions that are copied, at most those of a block; the others keep what they hold.
    pub positions: usize,
}

impl Backend {
    /// Copies blocks of `block_size` slots of a cache to others of its blocks, in the order of the
    /// list. A copy of a block to itself does nothing.
    ///
    /// # Errors
    ///
    /// As for every operator of [`Backend`]; blocks must exist, `positions` not exceed `block_size`.
    pub fn copy_blocks(
        &self,
        cache: &mut LayerCache,
        block_size: usize,
        copies: &[BlockCopy],
    ) -> Result<(), TensorError> {
        let check = self.check("copy_blocks");
        check_copies(check, block_size, copies, [cache.slots(); 2])?;
        check.cache_place("cache", cache)?;
        self.operators().copy_blocks(cache, block_size, copies)
    }

    /// Copies blocks of `block_size` slots of one cache to those of another, in the order of the
    /// list. Both have the same heads and format, and any number of slots.
    ///
    /// # Errors
    ///
    /// As for [`Backend::copy_blocks`]; [`TensorError::Argument`] for caches of different shapes.
    pub fn copy_blocks_from(
        &self,
        source: &LayerCache,
        target: &mut LayerCache,
        block_size: usize,
        copies: &[BlockCopy],
    ) -> Result<(), TensorError> {
        let check = self.check("copy_blocks_from");
        let alike = source.shape() == target.shape()
            && source.kv_heads() == target.kv_heads()
            && source.order() == target.order();
        check.rule(alike, "source", describe(target), describe(source))?;
        let slots = [source.slots(), target.slots()];
        check_copies(check, block_size, copies, slots)?;
        check.reachable("target", target)?;
        check.reachable("source", source)?;
        let operators = self.operators();
        operators.copy_blocks_from(source, target, block_size, copies)
    }
}

/// That blocks exist, in the source and in the target, and positions within them.
fn check_copies(
    check: Check<'_>,
    block_size: usize,
    copies: &[BlockCopy],
    slots: [usize; 2],
) -> Result<(), TensorError> {
    check.rule(block_size > 0, "block_size", "above 0", block_size)?;
    let [from_limit, to_limit] = slots.map(|slots| slots / block_size);
    let numbers = |which: fn(&BlockCopy) -> u32| copies.iter().map(which).enumerate();
    check.each_below("copies.from", numbers(|copy| copy.from), from_limit)?;
    check.each_below("copies.to", numbers(|copy| copy.to), to_limit)?;
    let most = copies.iter().map(|copy| copy.positions).max().unwrap_or(0);
    let expected = format_args!("at most `block_size` ({block_size})");
    check.rule(most <= block_size, "copies.positions", expected, most)
}

/// The shape of a cache in an error message.
fn describe(cache: &LayerCache) -> impl Display + '_ {
    fmt::from_fn(|f| {
        let (heads, dim) = (cache.kv_heads(), cache.head_dim());
        write!(f, "{heads} heads of {dim} {} elements", cache.format())
    })
}
