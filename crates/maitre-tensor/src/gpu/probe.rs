//! How much memory a GPU has, asked beside the steps that run on it.

use std::sync::{Arc, Weak};

use super::{Gpu, GpuMemory};
use crate::{Backend, TensorError};

/// Asks a GPU for its memory, from any thread, without a turn at the GPU. Clones ask the same GPU; none of them keeps it
/// open.
#[derive(Debug, Clone)]
pub struct GpuMemoryProbe(Weak<dyn Gpu>);

impl GpuMemoryProbe {
    /// What the driver says now; none once no backend is left on the GPU. A call of the driver may take long: a thread
    /// that others wait for should not make it.
    ///
    /// # Errors
    ///
    /// [`TensorError::Device`] if the driver does not say.
    pub fn memory(&self) -> Result<Option<GpuMemory>, TensorError> {
        self.0.upgrade().map(|gpu| gpu.memory()).transpose()
    }
}

impl Backend {
    /// A way to ask its GPU for its memory at any later time; none if it computes on the processor.
    #[must_use]
    pub fn gpu_memory_probe(&self) -> Option<GpuMemoryProbe> {
        let device = self.device()?;
        Some(GpuMemoryProbe(Arc::downgrade(device.gpu())))
    }
}
