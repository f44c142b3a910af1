//! The matrices that are packed into one: their rows as a file stores them, or widened to f32.

use std::sync::{Mutex, PoisonError};

use half::{bf16, f16};

use super::WeightView;
use super::layout::Layout;
use crate::element::Element;
use crate::{DType, TensorError};

/// The matrices to be stacked.
pub(crate) struct Source<'a> {
    pub(crate) parts: &'a [WeightView<'a>],
    /// Of what they become.
    pub(crate) layout: Layout,
}

/// One output feature as a file stores it.
#[derive(Clone, Copy)]
pub(crate) struct SourceRow<'a> {
    pub(crate) dtype: DType,
    pub(crate) bytes: &'a [u8],
    part: usize,
    /// Within the part.
    row: usize,
}

/// A number that cannot be quantized.
pub(crate) struct Fault {
    pub(super) part: usize,
    pub(super) row: usize,
    pub(super) col: usize,
    pub(super) value: f32,
}

/// The fault that comes first in the file, whichever thread finds one first.
#[derive(Default)]
pub(crate) struct FirstFault(Mutex<Option<Fault>>);

impl Source<'_> {
    /// Output feature `feature` of the stacked matrix.
    pub(crate) fn row(&self, feature: usize) -> SourceRow<'_> {
        let mut row = feature;
        for (index, part) in self.parts.iter().enumerate() {
            if row < part.rows {
                let size = part.cols * part.dtype.size_in_bytes();
                return SourceRow {
                    dtype: part.dtype,
                    bytes: &part.bytes[row * size..(row + 1) * size],
                    part: index,
                    row,
                };
            }
            row -= part.rows;
        }
        SourceRow {
            dtype: DType::F32,
            bytes: &[],
            part: self.parts.len(),
            row,
        }
    }

    /// Widens a row; where it is to be quantized, all of it must be finite.
    pub(crate) fn widen(&self, row: SourceRow<'_>, out: &mut [f32]) -> Result<(), Fault> {
        widen(row.dtype, row.bytes, out);
        if self.layout.format.is_quantized()
            && let Some(col) = out.iter().position(|value| !value.is_finite())
        {
            return Err(Fault {
                part: row.part,
                row: row.row,
                col,
                value: out[col],
            });
        }
        Ok(())
    }
}

impl FirstFault {
    pub(crate) fn note(&self, found: Fault) {
        let mut fault = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let earlier = |known: &Fault| (known.part, known.row) < (found.part, found.row);
        if !fault.as_ref().is_some_and(earlier) {
            *fault = Some(found);
        }
    }

    /// # Errors
    ///
    /// [`TensorError::NonFiniteWeight`] if there was one.
    pub(crate) fn into_result(self) -> Result<(), TensorError> {
        match self.0.into_inner().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some(Fault {
                part,
                row,
                col,
                value,
            }) => Err(TensorError::NonFiniteWeight {
                part,
                row,
                col,
                value,
            }),
        }
    }
}

fn widen(dtype: DType, bytes: &[u8], out: &mut [f32]) {
    fn all<T: Element>(bytes: &[u8], out: &mut [f32]) {
        for (out, bytes) in out.iter_mut().zip(bytes.chunks_exact(size_of::<T>())) {
            *out = T::from_le_bytes(bytes).widen();
        }
    }
    match dtype {
        DType::F32 => all::<f32>(bytes, out),
        DType::Bf16 => all::<bf16>(bytes, out),
        DType::F16 => all::<f16>(bytes, out),
    }
}
