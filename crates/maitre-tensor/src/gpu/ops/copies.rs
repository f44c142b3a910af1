//! Copies of blocks.

use super::Device;
use crate::{BlockCopy, LayerCache, TensorError};

impl Device {
    /// [`Backend::copy_blocks`](crate::Backend::copy_blocks) of checked copies.
    pub(crate) fn copy_blocks(
        &self,
        _cache: &mut LayerCache,
        _block_size: usize,
        _copies: &[BlockCopy],
    ) -> Result<(), TensorError> {
        Err(super::missing("copy_blocks"))
    }

    /// [`Backend::copy_blocks_from`](crate::Backend::copy_blocks_from) of checked copies between caches of one shape,
    /// at least one of them on the GPU.
    pub(crate) fn copy_blocks_from(
        &self,
        _source: &LayerCache,
        _target: &mut LayerCache,
        _block_size: usize,
        _copies: &[BlockCopy],
    ) -> Result<(), TensorError> {
        Err(super::missing("copy_blocks_from"))
    }
}
