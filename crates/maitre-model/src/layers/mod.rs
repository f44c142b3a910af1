//! What layers are made of: each block owns its weights and runs itself on a [`StepContext`].
//!
//! Blocks hand activations to each other in the roles of [`Activations`](crate::workspace::Activations): attention and
//! MLP read `normed` and leave what they add in `delta`.

mod attention;
mod embedding;
mod gated_mlp;
mod linear;
mod norms;
mod rope;

use maitre_tensor::Backend;

use crate::batch::Batch;
use crate::config::ModelConfig;
pub(crate) use attention::Attention;
pub(crate) use embedding::Embedding;
pub(crate) use gated_mlp::GatedMlp;
pub(crate) use linear::Linear;
pub(crate) use norms::HeadNorms;
pub(crate) use rope::RopeTables;

/// What one step is computed from, apart from the weights.
#[derive(Clone, Copy)]
pub(crate) struct StepContext<'a> {
    pub(crate) backend: &'a Backend,
    pub(crate) config: &'a ModelConfig,
    pub(crate) ropes: &'a RopeTables,
    pub(crate) batch: &'a Batch,
}
