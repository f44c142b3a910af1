//! A projection.

use maitre_tensor::{Buffer, LinearInput, PackedWeight, TensorError};

use super::StepContext;

/// `x * w^T + bias`.
#[derive(Debug)]
pub(crate) struct Linear {
    /// `[out, in]`.
    pub(crate) weight: PackedWeight,
    /// `[out]`.
    pub(crate) bias: Option<Buffer>,
}

impl Linear {
    pub(crate) fn apply(
        &self,
        step: StepContext<'_>,
        input: &LinearInput,
        out: &mut Buffer,
        rows: usize,
    ) -> Result<(), TensorError> {
        step.backend
            .linear(input, &self.weight, self.bias.as_ref(), out, 0..rows)
    }

    pub(crate) fn size_in_bytes(&self) -> usize {
        let bias = self.bias.as_ref().map_or(0, Buffer::size_in_bytes);
        self.weight.size_in_bytes() + bias
    }
}
