//! [`Buffer`]: memory that operators read and write, the host's or a GPU's.

use half::bf16;

use crate::aligned::AlignedBytes;
use crate::element::Element;
use crate::memory::Memory;
use crate::{DType, TensorError};

/// A fixed number of elements of one [`DType`], aligned to 64 bytes: in host memory, or on the GPU whose
/// [`Backend`](crate::Backend) made it.
///
/// A buffer has no shape: operators take the number of token rows to use, so that one workspace
/// sized for the largest step serves every smaller one without a new allocation or a moved address.
#[derive(Debug)]
pub struct Buffer {
    memory: Memory,
    dtype: DType,
    len: usize,
}

impl Buffer {
    /// Reserves `len` zeros. The memory is not touched: pages that no operator writes stay out of
    /// resident memory. A large buffer asks for pages of 2 MiB.
    ///
    /// # Errors
    ///
    /// [`TensorError::OutOfMemory`] when the system refuses, or the size exceeds the address space.
    pub fn zeros(dtype: DType, len: usize) -> Result<Self, TensorError> {
        len.checked_mul(dtype.size_in_bytes())
            .and_then(AlignedBytes::in_large_pages)
            .map(|bytes| Self {
                memory: Memory::Host(bytes),
                dtype,
                len,
            })
            .ok_or(TensorError::OutOfMemory { len, dtype })
    }

    /// A copy of `values` as [`DType::F32`].
    ///
    /// # Errors
    ///
    /// [`TensorError::OutOfMemory`].
    pub fn from_f32s(values: &[f32]) -> Result<Self, TensorError> {
        let mut buffer = Self::zeros(DType::F32, values.len())?;
        buffer.f32s_mut()?.copy_from_slice(values);
        Ok(buffer)
    }

    /// Format of the elements.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes reserved for the elements.
    #[must_use]
    pub fn size_in_bytes(&self) -> usize {
        self.memory.len()
    }

    /// The elements of an f32 buffer.
    ///
    /// # Errors
    ///
    /// [`TensorError::WrongDType`] for any other format, [`TensorError::OnDevice`] if it is not in host memory.
    pub fn f32s(&self) -> Result<&[f32], TensorError> {
        self.elements()
    }

    /// The elements of an f32 buffer, to be written.
    ///
    /// # Errors
    ///
    /// [`TensorError::WrongDType`] for any other format.
    pub fn f32s_mut(&mut self) -> Result<&mut [f32], TensorError> {
        self.elements_mut()
    }

    /// The elements of a bf16 buffer.
    ///
    /// # Errors
    ///
    /// [`TensorError::WrongDType`] for any other format.
    pub fn bf16s(&self) -> Result<&[bf16], TensorError> {
        self.elements()
    }

    /// The elements of a bf16 buffer, to be written.
    ///
    /// # Errors
    ///
    /// [`TensorError::WrongDType`] for any other format.
    pub fn bf16s_mut(&mut self) -> Result<&mut [bf16], TensorError> {
        self.elements_mut()
    }

    /// A buffer of `len` elements in memory that is reserved already.
    pub(crate) fn from_memory(memory: Memory, dtype: DType, len: usize) -> Self {
        Self { memory, dtype, len }
    }

    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    pub(crate) fn memory_mut(&mut self) -> &mut Memory {
        &mut self.memory
    }

    pub(crate) fn elements<T: Element>(&self) -> Result<&[T], TensorError> {
        self.require(T::DTYPE)?;
        Ok(self.memory.as_slice())
    }

    pub(crate) fn elements_mut<T: Element>(&mut self) -> Result<&mut [T], TensorError> {
        self.require(T::DTYPE)?;
        Ok(self.memory.as_mut_slice())
    }

    fn require(&self, expected: DType) -> Result<(), TensorError> {
        if !self.memory.is_on_host() {
            Err(TensorError::OnDevice)
        } else if self.dtype == expected {
            Ok(())
        } else {
            Err(TensorError::WrongDType {
                expected,
                actual: self.dtype,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aligned::ALIGNMENT;

    #[test]
    fn buffers_are_zeroed_and_aligned_whatever_their_size() {
        for len in [0, 1, 15, 16, 17, 1000] {
            for dtype in [DType::F32, DType::Bf16] {
                let buffer = Buffer::zeros(dtype, len).unwrap();
                let address = match dtype {
                    DType::F32 => buffer.f32s().unwrap().as_ptr().addr(),
                    _ => buffer.bf16s().unwrap().as_ptr().addr(),
                };
                assert_eq!(address % ALIGNMENT, 0);
                assert_eq!(buffer.len(), len);
                assert_eq!(buffer.is_empty(), len == 0);
                assert_eq!(buffer.size_in_bytes(), len * dtype.size_in_bytes());
            }
            let zeros = Buffer::zeros(DType::F32, len).unwrap();
            assert_eq!(zeros.f32s().unwrap(), vec![0.0; len]);
        }
    }

    #[test]
    fn reading_as_another_format_names_both() {
        let mut buffer = Buffer::zeros(DType::Bf16, 3).unwrap();
        assert_eq!(
            buffer.f32s_mut().unwrap_err().to_string(),
            "the buffer holds bf16 elements, but f32 were asked for"
        );
    }

    #[test]
    fn absurd_sizes_are_errors() {
        for len in [usize::MAX, usize::MAX / 4, isize::MAX as usize / 4] {
            let error = Buffer::zeros(DType::F32, len).unwrap_err();
            assert!(matches!(error, TensorError::OutOfMemory { .. }), "{error}");
        }
    }
}
