//! From token ids to the residual stream.

use maitre_tensor::{PackedWeight, TensorError};

use super::StepContext;
use crate::workspace::Activations;

/// Rows of a table.
#[derive(Debug)]
pub(crate) struct Embedding {
    /// `[vocab, hidden]`.
    pub(crate) table: PackedWeight,
    /// What rows are multiplied by.
    pub(crate) scale: Option<f32>,
    /// `[positions, hidden]`, of which each token's is added to its row.
    pub(crate) positions: Option<PackedWeight>,
}

impl Embedding {
    /// The batch's tokens → `residual`.
    pub(crate) fn run(
        &self,
        step: StepContext<'_>,
        acts: &mut Activations<'_>,
    ) -> Result<(), TensorError> {
        let tokens = &step.batch.tokens;
        step.backend.embed(&self.table, tokens, acts.residual)?;
        let numbers = tokens.len() * self.table.cols();
        if let Some(scale) = self.scale {
            step.backend.scale(acts.residual, scale, numbers)?;
        }
        if let Some(table) = &self.positions {
            step.backend
                .embed(table, &step.batch.positions, acts.delta)?;
            step.backend.add(acts.residual, acts.delta, numbers)?;
        }
        Ok(())
    }

    pub(crate) fn size_in_bytes(&self) -> usize {
        let positions = self.positions.as_ref();
        self.table.size_in_bytes() + positions.map_or(0, PackedWeight::size_in_bytes)
    }
}
