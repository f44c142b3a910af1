//! [`PackedWeight`]: a weight matrix in the order in which the kernels read it.

use half::{bf16, f16};

use crate::buffer::View;
use crate::element::Element;
use crate::{Buffer, DType, TensorError};

/// A weight matrix as a file stores it: `[rows, cols]` = `[out features, in features]`, row-major,
/// little-endian, at any alignment.
#[derive(Debug, Clone, Copy)]
pub struct WeightView<'a> {
    /// Format of the stored numbers.
    pub dtype: DType,
    /// Output features.
    pub rows: usize,
    /// Input features.
    pub cols: usize,
    /// `rows * cols` elements.
    pub bytes: &'a [u8],
}

/// A weight matrix `[out, in]`, ready for [`Backend::linear`](crate::Backend::linear) and
/// [`Backend::embed`](crate::Backend::embed).
///
/// The portable kernels read it row-major, one output feature after the other. Matrices that share
/// their input (query, key and value; gate and up) are packed into one, so that a step reads the
/// input once and has fewer barriers.
#[derive(Debug)]
pub struct PackedWeight {
    elements: Buffer,
    rows: usize,
    cols: usize,
}

impl PackedWeight {
    /// Stacks `parts` along their rows and converts them to `dtype` (to nearest, ties to even).
    ///
    /// # Errors
    ///
    /// [`TensorError::WeightParts`] if there are no parts, or their `cols` differ or are zero;
    /// [`TensorError::WeightSize`] if a part's bytes are not its shape's;
    /// [`TensorError::OutOfMemory`].
    pub fn pack(parts: &[WeightView<'_>], dtype: DType) -> Result<Self, TensorError> {
        let cols = common_cols(parts)?;
        for part in parts {
            check_size(part)?;
        }
        let rows = parts.iter().map(|part| part.rows).sum();
        let mut elements = Buffer::zeros(dtype, rows * cols)?;
        match dtype {
            DType::F32 => stack::<f32>(parts, elements.elements_mut()?),
            DType::Bf16 => stack::<bf16>(parts, elements.elements_mut()?),
            DType::F16 => stack::<f16>(parts, elements.elements_mut()?),
        }
        Ok(Self {
            elements,
            rows,
            cols,
        })
    }

    /// Output features, those of all parts together.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Input features.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Format of the stored numbers.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.elements.dtype()
    }

    /// Bytes of memory the matrix takes.
    #[must_use]
    pub fn size_in_bytes(&self) -> usize {
        self.elements.size_in_bytes()
    }

    /// The matrix, row-major.
    pub(crate) fn view(&self) -> View<'_> {
        self.elements.view()
    }
}

fn common_cols(parts: &[WeightView<'_>]) -> Result<usize, TensorError> {
    let reason = match parts {
        [] => "there are none",
        [first, ..] if first.cols == 0 => "the input size must not be 0",
        [first, rest @ ..] if rest.iter().any(|part| part.cols != first.cols) => {
            "all must have the same input size"
        }
        [first, ..] => return Ok(first.cols),
    };
    Err(TensorError::WeightParts {
        cols: parts.iter().map(|part| part.cols).collect(),
        reason,
    })
}

fn check_size(part: &WeightView<'_>) -> Result<(), TensorError> {
    let size = part.dtype.size_in_bytes();
    let expected = part
        .rows
        .checked_mul(part.cols)
        .and_then(|n| n.checked_mul(size));
    if expected == Some(part.bytes.len()) {
        return Ok(());
    }
    Err(TensorError::WeightSize {
        rows: part.rows,
        cols: part.cols,
        dtype: part.dtype,
        expected: expected.unwrap_or(usize::MAX),
        actual: part.bytes.len(),
    })
}

fn stack<T: Element>(parts: &[WeightView<'_>], mut out: &mut [T]) {
    for part in parts {
        let (filled, rest) = out.split_at_mut(part.rows * part.cols);
        match part.dtype {
            DType::F32 => convert::<f32, T>(part.bytes, filled),
            DType::Bf16 => convert::<bf16, T>(part.bytes, filled),
            DType::F16 => convert::<f16, T>(part.bytes, filled),
        }
        out = rest;
    }
}

fn convert<S: Element, T: Element>(bytes: &[u8], out: &mut [T]) {
    let elements = out.iter_mut().zip(bytes.chunks_exact(size_of::<S>()));
    if S::DTYPE == T::DTYPE {
        // A copy, also of NaNs, at the speed of memory.
        elements.for_each(|(out, bytes)| *out = T::from_le_bytes(bytes));
    } else {
        elements.for_each(|(out, bytes)| *out = T::round(S::from_le_bytes(bytes).widen()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f32_bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    #[test]
    fn parts_are_stacked_and_converted_from_unaligned_bytes() {
        let mut bytes = vec![0xff];
        bytes.extend(f32_bytes(&[1.0, 2.0, 3.0, 4.0]));
        let upper = WeightView {
            dtype: DType::F32,
            rows: 2,
            cols: 2,
            bytes: &bytes[1..],
        };
        let half: Vec<u8> = [f16::from_f32(-0.5), f16::from_f32(65504.0)]
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect();
        let lower = WeightView {
            dtype: DType::F16,
            rows: 1,
            cols: 2,
            bytes: &half,
        };
        let packed = PackedWeight::pack(&[upper, lower], DType::Bf16).unwrap();
        assert_eq!((packed.rows(), packed.cols()), (3, 2));
        assert_eq!((packed.dtype(), packed.size_in_bytes()), (DType::Bf16, 12));
        let View::Bf16(elements) = packed.view() else {
            panic!("packed as bf16");
        };
        let widened: Vec<f32> = elements.iter().map(|v| v.to_f32()).collect();
        assert_eq!(widened, [1.0, 2.0, 3.0, 4.0, -0.5, 65536.0]);
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let bytes = f32_bytes(&[0.0; 6]);
        let view = |rows, cols, bytes| WeightView {
            dtype: DType::F32,
            rows,
            cols,
            bytes,
        };
        let table: [(&[WeightView<'_>], &str); 5] = [
            (&[], "input sizes []: there are none"),
            (
                &[view(3, 2, &bytes), view(2, 3, &bytes)],
                "input sizes [2, 3]: all must have the same input size",
            ),
            (&[view(3, 0, &[])], "the input size must not be 0"),
            (
                &[view(4, 2, &bytes)],
                "a f32 weight of 4 x 2 takes 32 bytes, but 24 bytes were given",
            ),
            (&[view(usize::MAX, 2, &bytes)], "but 24 bytes were given"),
        ];
        for (parts, expected) in table {
            let message = PackedWeight::pack(parts, DType::Bf16)
                .unwrap_err()
                .to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
