//! What the driver and its libraries answer, as errors of this crate.
#![allow(unsafe_code)]

use cudarc::cublaslt::result::CublasError;
use cudarc::cublaslt::sys::cublasStatus_t;
use cudarc::driver::DriverError;
use cudarc::driver::sys::CUresult;

use crate::TensorError;

/// An answer, and what was asked for.
pub(super) trait During<T> {
    /// The answer, or an error that says what was going on.
    fn during(self, operation: &'static str) -> Result<T, TensorError>;
}

impl<T> During<T> for Result<T, DriverError> {
    fn during(self, operation: &'static str) -> Result<T, TensorError> {
        self.map_err(|error| failed_by(operation, error, ""))
    }
}

impl During<()> for CUresult {
    fn during(self, operation: &'static str) -> Result<(), TensorError> {
        self.result().during(operation)
    }
}

impl<T> During<T> for Result<T, CublasError> {
    fn during(self, operation: &'static str) -> Result<T, TensorError> {
        self.map_err(|CublasError(status)| failed(operation, format!("cuBLASLt says {status:?}")))
    }
}

impl During<()> for cublasStatus_t {
    fn during(self, operation: &'static str) -> Result<(), TensorError> {
        self.result().during(operation)
    }
}

pub(super) fn failed(operation: &'static str, message: String) -> TensorError {
    TensorError::Device { operation, message }
}

/// The driver's sentence and name for an error.
pub(super) fn describe(error: DriverError) -> String {
    // What stands in for a driver where there is none has no sentences.
    let text = error.error_string().unwrap_or(c"it says no more");
    format!("{} ({:?})", text.to_string_lossy(), error.0)
}

/// What the driver answered to an operation, and `what` was asked for exactly.
pub(super) fn failed_by(operation: &'static str, error: DriverError, what: &str) -> TensorError {
    let message = describe(error) + what;
    if !is_lost(error.0) {
        return failed(operation, message);
    }
    let advice = "something queued earlier went wrong; NVIDIA's compute-sanitizer names the kernel";
    TensorError::DeviceLost {
        operation,
        message: format!("{message}; {advice}"),
    }
}

/// Errors after which the driver answers every call with the same error, until the process ends (CUDA
/// Driver API, "Data types used by CUDA driver": "the process must be terminated and relaunched").
fn is_lost(result: CUresult) -> bool {
    matches!(
        result,
        CUresult::CUDA_ERROR_ECC_UNCORRECTABLE
            | CUresult::CUDA_ERROR_NVLINK_UNCORRECTABLE
            | CUresult::CUDA_ERROR_CONTAINED
            | CUresult::CUDA_ERROR_ILLEGAL_ADDRESS
            | CUresult::CUDA_ERROR_LAUNCH_TIMEOUT
            | CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED
            | CUresult::CUDA_ERROR_ASSERT
            | CUresult::CUDA_ERROR_HARDWARE_STACK_ERROR
            | CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION
            | CUresult::CUDA_ERROR_MISALIGNED_ADDRESS
            | CUresult::CUDA_ERROR_INVALID_ADDRESS_SPACE
            | CUresult::CUDA_ERROR_INVALID_PC
            | CUresult::CUDA_ERROR_LAUNCH_FAILED
            | CUresult::CUDA_ERROR_TENSOR_MEMORY_LEAK
            | CUresult::CUDA_ERROR_EXTERNAL_DEVICE
    )
}
