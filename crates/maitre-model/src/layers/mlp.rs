//! The MLP, with a gate (Shazeer 2020, arXiv 2002.05202) or without.

use maitre_tensor::{Activation, PackedWeight, TensorError};

use super::{Linear, StepContext};
use crate::workspace::Activations;

/// `down(activation(gate) * up)`, or `down(activation(up))`.
#[derive(Debug)]
pub(crate) struct Mlp {
    /// Gate and up, packed as gated: `[2·intermediate, hidden]`; without a gate `[intermediate, hidden]`.
    pub(crate) gate_up: Linear,
    /// What stands between the projections where there is no gate.
    pub(crate) ungated: Option<Activation>,
    /// `[hidden, intermediate]`.
    pub(crate) down: Linear,
}

impl Mlp {
    /// `normed` → `delta`.
    pub(crate) fn run(
        &self,
        step: StepContext<'_>,
        acts: &mut Activations<'_>,
        rows: usize,
    ) -> Result<(), TensorError> {
        match self.ungated {
            None => {
                let Linear { weight, bias } = &self.gate_up;
                let out = (&mut *acts.gated, &mut *acts.activated);
                step.backend.linear_gated_encoded(
                    acts.normed,
                    weight,
                    bias.as_ref(),
                    out,
                    0..rows,
                )?;
            }
            Some(activation) => {
                self.gate_up.apply(step, acts.normed, acts.gated, rows)?;
                step.backend
                    .activate(acts.gated, activation, acts.activated, rows)?;
            }
        }
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
