//! Norms of the residual stream, alone or fused with the addition before them.

use maitre_tensor::{Buffer, LayerNorm, LinearInput, TensorError};

use super::StepContext;

/// A norm of the residual stream: `[hidden]` each.
#[derive(Debug)]
pub(crate) enum StreamNorm {
    /// By the root mean square.
    Rms(Buffer),
    /// By mean and variance.
    Layer {
        weight: Buffer,
        bias: Option<Buffer>,
    },
}

impl StreamNorm {
    /// The first `rows` rows of `residual` → `out`.
    pub(crate) fn run(
        &self,
        step: StepContext<'_>,
        residual: &mut Buffer,
        out: &mut LinearInput,
        rows: usize,
    ) -> Result<(), TensorError> {
        let eps = step.config.stream_eps();
        match self {
            Self::Rms(weight) => step.backend.rms_norm(residual, weight, eps, out, rows),
            Self::Layer { weight, bias } => step.backend.layer_norm(LayerNorm {
                residual,
                delta: None,
                weight,
                bias: bias.as_ref(),
                eps,
                out,
                rows,
            }),
        }
    }

    /// Adds `delta` to the first `rows` rows of `residual` and normalises the sum → `out`.
    pub(crate) fn run_after_adding(
        &self,
        step: StepContext<'_>,
        (residual, delta): (&mut Buffer, &Buffer),
        out: &mut LinearInput,
        rows: usize,
    ) -> Result<(), TensorError> {
        let eps = step.config.stream_eps();
        match self {
            Self::Rms(weight) => step
                .backend
                .add_rms_norm(residual, delta, weight, eps, out, rows),
            Self::Layer { weight, bias } => step.backend.layer_norm(LayerNorm {
                residual,
                delta: Some(delta),
                weight,
                bias: bias.as_ref(),
                eps,
                out,
                rows,
            }),
        }
    }

    pub(crate) fn size_in_bytes(&self) -> usize {
        match self {
            Self::Rms(weight) => weight.size_in_bytes(),
            Self::Layer { weight, bias } => {
                weight.size_in_bytes() + bias.as_ref().map_or(0, Buffer::size_in_bytes)
            }
        }
    }
}
