//! Layers that normalise what attention and MLP read: Llama and most families after it.
//!
//! Each addition is fused with the norm that follows it, across the layer boundary too: a layer therefore owns the norm
//! *after* it.
//!
//! A multiplier m of what layers add costs nothing here: the residual stream is kept divided by m from the embedding on,
//! so that what a layer adds is added as it is, and a norm gives the same of x/m as of x, once it adds
//! [eps/m²](crate::ModelConfig::stream_eps) to the mean square.

use maitre_tensor::{LayerCache, TensorError};

use super::Block;
use crate::layers::{Attention, Mlp, StepContext, StreamNorm};
use crate::workspace::Activations;

/// All layers.
#[derive(Debug)]
pub(crate) struct PreNorm {
    /// The norm before the first.
    pub(crate) first_norm: StreamNorm,
    pub(crate) layers: Vec<PreNormLayer>,
}

/// One layer.
#[derive(Debug)]
pub(crate) struct PreNormLayer {
    pub(crate) attention: Attention,
    /// The norm between attention and MLP.
    pub(crate) mlp_norm: StreamNorm,
    pub(crate) mlp: Mlp,
    /// The norm after the layer: the next layer's first, or the model's last.
    pub(crate) next_norm: StreamNorm,
}

impl PreNorm {
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
        let layer = |layer: &PreNormLayer| {
            layer.attention.size_in_bytes()
                + layer.mlp_norm.size_in_bytes()
                + layer.mlp.size_in_bytes()
                + layer.next_norm.size_in_bytes()
        };
        self.first_norm.size_in_bytes() + self.layers.iter().map(layer).sum::<usize>()
    }
}

impl Block for PreNormLayer {
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
        self.attention.project(step, acts, rows)?;
        let sum = (&mut *acts.residual, &*acts.delta);
        self.mlp_norm
            .run_after_adding(step, sum, acts.normed, rows)?;
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
