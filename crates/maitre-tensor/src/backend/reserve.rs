//! Memory for the largest step, reserved before the first.

use super::Backend;
use super::attention::check_heads;
use crate::{KvFormat, LayerCache, LinearInput, TensorError};

/// The largest calls that the operators of a step will get.
#[derive(Debug, Clone, Copy)]
pub struct LargestStep<'a> {
    /// What norms write and matrices read; only the form and the width count.
    pub inputs: &'a [&'a LinearInput],
    /// The keys and values of any layer.
    pub cache: &'a LayerCache,
    /// Positions per block of the cache.
    pub block_size: usize,
    /// Query heads, a multiple of the cache's key heads.
    pub heads: usize,
    /// Token rows, or rows of logits where those are more.
    pub rows: usize,
    /// Positions of the longest context.
    pub context_len: usize,
    /// Numbers in all index lists of a step together, spans as four each.
    pub list_words: usize,
}

/// What the scratch memory of a GPU depends on: [`LargestStep`] before there is a cache.
#[derive(Debug, Clone, Copy)]
pub struct LargestAttention {
    /// Of the cache.
    pub format: KvFormat,
    /// Query heads, a multiple of `kv_heads`.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Elements per head.
    pub head_dim: usize,
    /// As in [`LargestStep`].
    pub rows: usize,
    /// As in [`LargestStep`].
    pub context_len: usize,
}

impl Backend {
    /// Bytes of GPU memory that [`Backend::reserve`] will take for operators to work in, 128 MiB at most and
    /// index lists aside; 0 on the processor.
    #[must_use]
    pub fn gpu_scratch_bytes(&self, largest: &LargestAttention) -> usize {
        self.device()
            .map_or(0, |device| device.most_scratch(largest))
    }

    /// Reserves the memory that the threads use on the way, so that no operator of a step within
    /// `largest` allocates anything, on any thread. It is touched as far as it is used: some hundred
    /// KiB per thread, and, where long contexts are divided among several threads, up to 16 MiB for
    /// all of them. On a GPU, where what is recorded names its memory by address, nothing moves it
    /// afterwards.
    ///
    /// # Errors
    ///
    /// [`TensorError::Argument`] for heads or a block size that make no sense,
    /// [`TensorError::Reserve`] when the system refuses the memory.
    pub fn reserve(&self, largest: LargestStep<'_>) -> Result<(), TensorError> {
        let (check, cache) = (self.check("reserve"), largest.cache);
        check_heads(check, largest.heads, cache.kv_heads(), cache.head_dim())?;
        let block_size = largest.block_size;
        check.rule(block_size > 0, "block_size", "above 0", block_size)?;
        self.operators().reserve(largest)
    }
}
