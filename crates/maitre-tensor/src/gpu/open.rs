//! From a device's name to a backend.

use std::sync::Arc;

use super::{Device, DeviceName, Gpu, GpuInfo, GpuMemory, HOPPER};
use crate::{Backend, TensorError};

/// How a GPU is to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuOptions {
    /// Whether the bits of a row may depend on nothing but the row (batch invariance). Without it the fastest
    /// kernel for each number of rows is taken, and these round differently.
    pub deterministic: bool,
}

impl Default for GpuOptions {
    fn default() -> Self {
        Self {
            deterministic: true,
        }
    }
}

impl Backend {
    /// The backend of a name. `threads` compute on the processor; beside a GPU they pack weights.
    ///
    /// # Errors
    ///
    /// [`TensorError::NoDevice`] if there is no such device or this program was built without support for it,
    /// which says what to do; as [`Backend::cpu`].
    pub fn open(
        name: DeviceName,
        threads: usize,
        options: GpuOptions,
    ) -> Result<Self, TensorError> {
        match name {
            DeviceName::Cpu => Self::cpu(threads),
            DeviceName::Cuda(ordinal) => Self::on_gpu(open_cuda(ordinal)?, threads, options),
            DeviceName::Emulator => Self::on_gpu(open_emulator(HOPPER)?, threads, options),
            DeviceName::Auto => match open_cuda(0) {
                Ok(gpu) => Self::on_gpu(gpu, threads, options),
                Err(_) => Self::cpu(threads),
            },
        }
    }

    /// The emulator as a GPU of another generation, by its compute capability: for tests of kernels that GPUs of the
    /// generation which [`DeviceName::Emulator`] stands for, Hopper's (9, 0), do not run. `threads` as for
    /// [`Backend::open`].
    ///
    /// # Errors
    ///
    /// As [`Backend::open`] for [`DeviceName::Emulator`].
    #[cfg(feature = "cuda-emulator")]
    pub fn emulated(
        capability: (u32, u32),
        threads: usize,
        options: GpuOptions,
    ) -> Result<Self, TensorError> {
        Self::on_gpu(open_emulator(capability)?, threads, options)
    }

    pub(crate) fn on_gpu(
        gpu: Arc<dyn Gpu>,
        threads: usize,
        options: GpuOptions,
    ) -> Result<Self, TensorError> {
        Self::with_device(threads, Device::new(gpu, options)?)
    }

    /// A backend on the same GPU that computes in another way. Memory and weights of either serve both, and what
    /// they queue keeps its order. On the processor, which knows one way only, this backend again.
    ///
    /// # Errors
    ///
    /// As [`Backend::open`].
    pub fn with_gpu_options(&self, options: GpuOptions) -> Result<Self, TensorError> {
        match self.device() {
            None => Ok(self.clone()),
            Some(device) => Self::on_gpu(Arc::clone(device.gpu()), self.threads(), options),
        }
    }

    /// The GPU it computes on, if it does.
    #[must_use]
    pub fn gpu_info(&self) -> Option<&GpuInfo> {
        self.device().map(Device::info)
    }

    /// The architectures of NVIDIA GPUs that this program has machine code for, such as `80, 90`; none in a build
    /// without CUDA.
    #[must_use]
    pub fn cuda_architectures() -> Option<&'static str> {
        option_env!("MAITRE_CUDA_ARCHITECTURES")
    }

    /// How much memory its GPU has; none if it computes on the processor.
    ///
    /// # Errors
    ///
    /// [`TensorError::Device`] if the driver does not say.
    pub fn gpu_memory(&self) -> Result<Option<GpuMemory>, TensorError> {
        self.device()
            .map(|device| device.gpu().memory())
            .transpose()
    }
}

#[cfg(feature = "cuda")]
fn open_cuda(ordinal: usize) -> Result<Arc<dyn Gpu>, TensorError> {
    match super::hardware::Hardware::open(ordinal) {
        Ok(gpu) => Ok(Arc::new(gpu)),
        Err(TensorError::Device {
            operation: "open",
            message,
        }) => Err(TensorError::NoDevice {
            device: DeviceName::Cuda(ordinal).to_string(),
            reason: message,
        }),
        Err(other) => Err(other),
    }
}

#[cfg(not(feature = "cuda"))]
fn open_cuda(ordinal: usize) -> Result<Arc<dyn Gpu>, TensorError> {
    Err(TensorError::NoDevice {
        device: DeviceName::Cuda(ordinal).to_string(),
        reason: "this program was built without CUDA; build it with --features cuda, or use --device cpu"
            .to_owned(),
    })
}

#[cfg(feature = "cuda-emulator")]
fn open_emulator(capability: (u32, u32)) -> Result<Arc<dyn Gpu>, TensorError> {
    super::emulator::open(capability)
}

#[cfg(not(feature = "cuda-emulator"))]
fn open_emulator(_: (u32, u32)) -> Result<Arc<dyn Gpu>, TensorError> {
    Err(TensorError::NoDevice {
        device: DeviceName::Emulator.to_string(),
        reason: "this program was built without it; build it with --features cuda-emulator, or use --device cpu"
            .to_owned(),
    })
}
