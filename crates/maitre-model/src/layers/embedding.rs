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
        match self.scale {
            None => Ok(()),
            Some(scale) => {
                let numbers = tokens.len() * self.table.cols();
                step.backend.scale(acts.residual, scale, numbers)
            }
        }
    }
}
