//! Rotation of queries and keys, and the write into the paged cache.

use super::Device;
use crate::{RopeStore, TensorError};

impl Device {
    /// [`Backend::rope_and_store`](crate::Backend::rope_and_store).
    pub(crate) fn rope_and_store(&self, _args: RopeStore<'_>) -> Result<(), TensorError> {
        Err(super::missing("rope_and_store"))
    }
}
