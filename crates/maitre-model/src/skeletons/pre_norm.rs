//! Layers that normalise what attention and MLP read: Llama and most families after it.
//!
//! Each addition is fused with the norm that follows it, across the layer boundary too: a layer therefore owns the norm
//! *after* it.
//!
//! A multiplier m of what layers add costs nothing here: the residual stream is kept divided by m from the embedding on,
//! so that what a layer adds is added as it is, and a norm gives the same of x/m as of x, once it adds
//! [eps/m²](crate::ModelConfig::stream_eps) to the mean square.

use maitre_tensor::{Buffer, LayerCache, TensorError};

use super::Block;
use crate::layers::{Attention, GatedMlp, StepContext};
use crate::workspace::Activations;

/// All layers.
#[derive(Debug)]
pub(crate) struct PreNorm {
    /// The norm before the first.
    pub(crate) first_norm: Buffer,
    pub(crate) layers: Vec<PreNormLayer>,
}

/// One layer.
#[derive(Debug)]
pub(crate) struct PreNormLayer {
    pub(crate) attention: Attention,
    /// The norm between attention and MLP.
    pub(crate) mlp_norm: Buffer,
    pub(crate) mlp: GatedMlp,
    /// The norm after the layer: the next layer's first, or the model's last.
    pub(crate) next_norm: Buffer,
}

impl PreNorm {
    /// From `residual` to `hidden`.
    pub(crate) fn run(
        &self,
        step: StepContext<'_>,
        caches: &mut [LayerCache],
        acts: &mut Activations<'_>,
    ) -> Result<(), TensorError> {
        let (eps, rows) = (step.config.stream_eps(), step.batch.tokens.len());
        step.backend
            .rms_norm(acts.residual, &self.first_norm, eps, acts.normed, rows)?;
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
        let (backend, eps) = (step.backend, step.config.stream_eps());
        self.attention.project(step, acts, rows)?;
        let (residual, norm) = (&mut *acts.residual, &self.mlp_norm);
        backend.add_rms_norm(residual, acts.delta, norm, eps, acts.normed, rows)?;
        self.mlp.run(step, acts, rows)?;
        let next = if is_last {
            &mut *acts.hidden
        } else {
            &mut *acts.normed
        };
        backend.add_rms_norm(acts.residual, acts.delta, &self.next_norm, eps, next, rows)
    }
}
