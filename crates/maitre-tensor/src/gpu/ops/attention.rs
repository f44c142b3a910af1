//! Attention over the paged cache.

use super::Device;
use crate::{Attention, TensorError};

impl Device {
    /// [`Backend::paged_attention`](crate::Backend::paged_attention).
    pub(crate) fn paged_attention(&self, _args: Attention<'_>) -> Result<(), TensorError> {
        Err(super::missing("paged_attention"))
    }
}
