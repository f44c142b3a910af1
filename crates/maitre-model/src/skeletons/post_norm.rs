//! Layers that normalise what attention and MLP add: OLMo 2 and 3, and with norms on both sides Gemma 2 and 3.
//!
//! ```text
//! residual += norm(attention(norm?(residual)))
//! residual += norm(mlp(norm?(residual)))
//! ```
//!
//! An addition is fused with the norm before it and, if there is one, with the norm after it: as in the other skeleton a
//! layer owns the norm that the next one begins with. A multiplier of what layers add is part of the weights of the norms
//! after attention and MLP.

use maitre_tensor::{AddNormed, Buffer, LayerCache, LinearInput, TensorError};

use super::Block;
use crate::layers::{Attention, Mlp, StepContext};
use crate::workspace::Activations;

/// All layers.
#[derive(Debug)]
pub(crate) struct PostNorm {
    /// The norm before the first.
    pub(crate) first_norm: Option<Buffer>,
    pub(crate) layers: Vec<PostNormLayer>,
}

/// One layer.
#[derive(Debug)]
pub(crate) struct PostNormLayer {
    pub(crate) attention: Attention,
    /// The norm of what attention adds.
    pub(crate) after_attention: Buffer,
    /// The norm of what the MLP reads.
    pub(crate) before_mlp: Option<Buffer>,
    pub(crate) mlp: Mlp,
    /// The norm of what the MLP adds.
    pub(crate) after_mlp: Buffer,
    /// The norm after the layer: the next layer's first if it has one, or the model's last.
    pub(crate) next_norm: Option<Buffer>,
}

impl PostNorm {
    /// From `residual` to `hidden`.
    pub(crate) fn run(
        &self,
        step: StepContext<'_>,
        caches: &mut [LayerCache],
        acts: &mut Activations<'_>,
    ) -> Result<(), TensorError> {
        let (backend, rows) = (step.backend, step.batch.tokens.len());
        match &self.first_norm {
            None => backend.encode(acts.residual, acts.normed, rows)?,
            Some(norm) => {
                let eps = step.config.rms_norm_eps;
                backend.rms_norm(acts.residual, norm, eps, acts.normed, rows)?;
            }
        }
        super::run(&self.layers, step, caches, acts)
    }

    pub(crate) fn size_in_bytes(&self) -> usize {
        let optional = |norm: &Option<Buffer>| norm.as_ref().map_or(0, Buffer::size_in_bytes);
        let layer = |layer: &PostNormLayer| {
            layer.attention.size_in_bytes()
                + layer.after_attention.size_in_bytes()
                + optional(&layer.before_mlp)
                + layer.mlp.size_in_bytes()
                + layer.after_mlp.size_in_bytes()
                + optional(&layer.next_norm)
        };
        optional(&self.first_norm) + self.layers.iter().map(layer).sum::<usize>()
    }
}

impl Block for PostNormLayer {
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
        let add = |norms, residual: &mut Buffer, delta: &Buffer, out: &mut LinearInput| {
            let (after, before): (&Buffer, &Option<Buffer>) = norms;
            step.backend.add_normed(AddNormed {
                residual,
                delta,
                after,
                before: before.as_ref(),
                eps: step.config.rms_norm_eps,
                out,
                rows,
            })
        };
        let norms = (&self.after_attention, &self.before_mlp);
        add(norms, acts.residual, acts.delta, acts.normed)?;
        self.mlp.run(step, acts, rows)?;
        let next = if is_last {
            &mut *acts.hidden
        } else {
            &mut *acts.normed
        };
        let norms = (&self.after_mlp, &self.next_norm);
        add(norms, acts.residual, acts.delta, next)
    }
}
