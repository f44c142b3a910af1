//! What layers are made of: each block owns its weights and runs itself on a [`StepContext`].
//!
//! Blocks hand activations to each other in the roles of [`Activations`]: attention and
//! MLP read `normed` and leave what they add in `delta`.

mod attention;
mod embedding;
mod linear;
mod mlp;
mod norms;
mod rope;
mod stream_norm;

use std::cell::RefCell;

use maitre_tensor::{Backend, Communicator, TensorError};

use crate::batch::Batch;
use crate::config::ModelConfig;
use crate::workspace::Activations;
pub(crate) use attention::Attention;
pub(crate) use embedding::Embedding;
pub(crate) use linear::Linear;
pub(crate) use mlp::Mlp;
pub(crate) use norms::HeadNorms;
pub(crate) use rope::RopeTables;
pub(crate) use stream_norm::StreamNorm;

/// What one step is computed from, apart from the weights.
#[derive(Clone, Copy)]
pub(crate) struct StepContext<'a> {
    pub(crate) backend: &'a Backend,
    pub(crate) config: &'a ModelConfig,
    pub(crate) ropes: &'a RopeTables,
    pub(crate) batch: &'a Batch,
    /// The way to the other ranks, where the model is shared.
    pub(crate) ranks: Option<&'a Ranks>,
}

/// One rank's side of a group. A step runs on one thread, which borrows it for one operation at a time.
pub(crate) type Ranks = RefCell<Box<dyn Communicator>>;

impl StepContext<'_> {
    /// Adds up what each rank has of `delta`, where matrices are shared by their input features.
    pub(crate) fn add_up(self, acts: &mut Activations<'_>, rows: usize) -> Result<(), TensorError> {
        match self.ranks {
            None => Ok(()),
            Some(ranks) => {
                let numbers = rows * self.config.hidden_size;
                ranks.borrow_mut().all_reduce(acts.delta, numbers)
            }
        }
    }
}
