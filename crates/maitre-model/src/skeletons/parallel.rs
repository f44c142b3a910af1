//! Layers whose attention and MLP read the same (Wang and Komatsuzaki 2021, GPT-J): Cohere.
//!
//! ```text
//! normed = norm(residual)
//! residual += attention(normed)
//! residual += mlp(normed)
//! ```
//!
//! As in the other skeletons, a layer owns the norm after it, with which the second addition is fused.

use maitre_tensor::{LayerCache, TensorError};

use super::Block;
use crate::layers::{Attention, Mlp, StepContext, StreamNorm};
use crate::workspace::Activations;

/// All layers.
#[derive(Debug)]
pub(crate) struct Parallel {
    /// The norm before the first.
    pub(crate) first_norm: StreamNorm,
    pub(crate) layers: Vec<ParallelLayer>,
}

/// One layer.
#[derive(Debug)]
pub(crate) struct ParallelLayer {
    pub(crate) attention: Attention,
    pub(crate) mlp: Mlp,
    /// The norm after the layer: the next layer's, or the model's last.
    pub(crate) next_norm: StreamNorm,
    /// The layer's own norm, in the last layer: there the rows of the residual stream that are left move, and what the
    /// MLP reads of them is normalised again.
    pub(crate) again: Option<StreamNorm>,
}

impl Parallel {
    /// From `residual` to `hidden`.
    pub(crate) fn run(
        &self,
        step: StepContext<'_>,
        caches: &mut [LayerCache],
        acts: &mut Activations<'_>,
    ) -> Result<(), TensorError> {
        let rows = step.batch.tokens.len();
        self.first_norm
            .run(step, acts.residual, acts.normed, rows)?;
        super::run(&self.layers, step, caches, acts)
    }

    pub(crate) fn size_in_bytes(&self) -> usize {
        let layer = |layer: &ParallelLayer| {
            layer.attention.size_in_bytes()
                + layer.mlp.size_in_bytes()
                + layer.next_norm.size_in_bytes()
                + layer.again.as_ref().map_or(0, StreamNorm::size_in_bytes)
        };
        self.first_norm.size_in_bytes() + self.layers.iter().map(layer).sum::<usize>()
    }
}

impl Block for ParallelLayer {
    fn attention(&self) -> &Attention {
        &self.attention
    }

    fn finish(
        &self,
        step: StepContext<'_>,
        acts: &mut Activations<'_>,
        rows: usize,
        is_last: bool,
    ) -> Result<(), TensorError> {
        if let Some(norm) = &self.again {
            norm.run(step, acts.residual, acts.normed, rows)?;
        }
        self.attention.project(step, acts, rows)?;
        let numbers = rows * step.config.hidden_size;
        step.backend.add(acts.residual, acts.delta, numbers)?;
        self.mlp.run(step, acts, rows)?;
        let next = if is_last {
            &mut *acts.hidden
        } else {
            &mut *acts.normed
        };
        let sum = (&mut *acts.residual, &*acts.delta);
        self.next_norm.run_after_adding(step, sum, next, rows)
    }
}
