//! Numbers of stored tensors, in f32.

use half::{bf16, f16};
use maitre_tensor::{DType, WeightFormat};

use crate::checkpoint::Dense;
use crate::error::ModelError;

/// A tensor's elements in f32.
pub(super) fn widen(tensor: &Dense<'_>) -> Vec<f32> {
    let bytes = &tensor.bytes;
    match tensor.dtype {
        DType::F32 => map_chunks(bytes, f32::from_le_bytes),
        DType::Bf16 => map_chunks(bytes, |element| bf16::from_le_bytes(element).to_f32()),
        DType::F16 => map_chunks(bytes, |element| f16::from_le_bytes(element).to_f32()),
    }
}

fn map_chunks<const WIDTH: usize>(bytes: &[u8], convert: fn([u8; WIDTH]) -> f32) -> Vec<f32> {
    let (elements, _) = bytes.as_chunks::<WIDTH>();
    elements.iter().map(|element| convert(*element)).collect()
}

/// The nearest number of a type.
pub(super) fn round_as(dtype: DType, value: f32) -> f32 {
    match dtype {
        DType::F32 => value,
        DType::Bf16 => bf16::from_f32(value).to_f32(),
        DType::F16 => f16::from_f32(value).to_f32(),
    }
}

/// Refuses a vector that would make activations which no integer can stand for.
pub(super) fn check_finite(
    name: &str,
    values: &[f32],
    format: WeightFormat,
) -> Result<(), ModelError> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(at) => Err(ModelError::NonFiniteVector {
            tensor: name.to_owned(),
            format,
            at,
            value: values[at],
        }),
    }
}
