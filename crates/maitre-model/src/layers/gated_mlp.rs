//! The gated MLP (Shazeer 2020, arXiv 2002.05202).

use maitre_tensor::{PackedWeight, TensorError};

use super::{Linear, StepContext};
use crate::workspace::Activations;

/// `down(activation(gate) * up)`.
#[derive(Debug)]
pub(crate) struct GatedMlp {
    /// Gate and up, packed as gated: `[2·intermediate, hidden]`.
    pub(crate) gate_up: Linear,
    /// `[hidden, intermediate]`.
    pub(crate) down: Linear,
}

impl GatedMlp {
    /// `normed` → `delta`.
    pub(crate) fn run(
        &self,
        step: StepContext<'_>,
        acts: &mut Activations<'_>,
        rows: usize,
    ) -> Result<(), TensorError> {
        let Linear { weight, bias } = &self.gate_up;
        let out = (&mut *acts.gated, &mut *acts.activated);
        step.backend
            .linear_gated_encoded(acts.normed, weight, bias.as_ref(), out, 0..rows)?;
        self.down.apply(step, acts.activated, acts.delta, rows)?;
        step.add_up(acts, rows)
    }

    /// Its matrices.
    pub(crate) fn weights(&self) -> [&PackedWeight; 2] {
        [&self.gate_up.weight, &self.down.weight]
    }

    pub(crate) fn size_in_bytes(&self) -> usize {
        self.gate_up.size_in_bytes() + self.down.size_in_bytes()
    }
}
