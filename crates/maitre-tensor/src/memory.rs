//! Where the numbers of a buffer lie: in host memory or on a GPU.

use std::sync::Arc;

use crate::TensorError;
use crate::aligned::{AlignedBytes, Plain};
use crate::gpu::{DeviceBytes, Gpu};

/// An owned allocation, zeroed at first.
#[derive(Debug)]
pub(crate) enum Memory {
    Host(AlignedBytes),
    Device(DeviceBytes),
}

impl Memory {
    /// Size in bytes.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Host(bytes) => bytes.len(),
            Self::Device(bytes) => bytes.len(),
        }
    }

    pub(crate) fn is_on_host(&self) -> bool {
        matches!(self, Self::Host(_))
    }

    /// Host memory as numbers. There are none on the host if the memory is a GPU's: the operators of the
    /// processor refuse such arguments before they look.
    pub(crate) fn as_slice<T: Plain>(&self) -> &[T] {
        match self {
            Self::Host(bytes) => bytes.as_slice(),
            Self::Device(_) => &[],
        }
    }

    /// As [`as_slice`](Self::as_slice), to be written.
    pub(crate) fn as_mut_slice<T: Plain>(&mut self) -> &mut [T] {
        match self {
            Self::Host(bytes) => bytes.as_mut_slice(),
            Self::Device(_) => &mut [],
        }
    }

    /// Memory of this GPU.
    pub(crate) fn device(
        &self,
        operator: &'static str,
        argument: &'static str,
        gpu: &Arc<dyn Gpu>,
    ) -> Result<&DeviceBytes, TensorError> {
        match self {
            Self::Device(bytes) if bytes.is_on(gpu) => Ok(bytes),
            Self::Device(_) => Err(on_another_gpu(operator, argument)),
            Self::Host(_) => Err(elsewhere(operator, argument, "GPU", "host")),
        }
    }

    /// Memory of the GPU whose backend has checked that it is.
    pub(crate) fn checked(&self) -> Result<&DeviceBytes, TensorError> {
        match self {
            Self::Device(bytes) => Ok(bytes),
            Self::Host(_) => Err(elsewhere("operator", "argument", "GPU", "host")),
        }
    }

    /// The same, to be written.
    pub(crate) fn checked_mut(&mut self) -> Result<&mut DeviceBytes, TensorError> {
        match self {
            Self::Device(bytes) => Ok(bytes),
            Self::Host(_) => Err(elsewhere("operator", "argument", "GPU", "host")),
        }
    }

    /// That an operator of the processor can read it.
    pub(crate) fn require_host(
        &self,
        operator: &'static str,
        argument: &'static str,
    ) -> Result<(), TensorError> {
        match self {
            Self::Host(_) => Ok(()),
            Self::Device(_) => Err(elsewhere(operator, argument, "host", "GPU")),
        }
    }
}

fn on_another_gpu(operator: &'static str, argument: &'static str) -> TensorError {
    TensorError::Argument {
        operator,
        argument,
        expected:
            "in the memory of the GPU that runs the operator (made by its backend, or by one of \
                   Backend::with_gpu_options)"
                .to_owned(),
        actual: "in that of another GPU".to_owned(),
    }
}

fn elsewhere(
    operator: &'static str,
    argument: &'static str,
    expected: &str,
    actual: &str,
) -> TensorError {
    TensorError::Argument {
        operator,
        argument,
        expected: format!("in {expected} memory (made by the backend that runs the operator)"),
        actual: format!("in {actual} memory"),
    }
}
