//! How blocks make a layer, and layers a model.
//!
//! ```text
//! residual = embed(tokens)
//! each layer:   residual += attention(residual)      what is normalised when is the
//!               residual += mlp(residual)            skeleton's choice
//! hidden = norm(residual)
//! ```
//!
//! Rows are tokens of any number of sequences; nothing but attention looks beyond a row, and
//! attention looks only at its own sequence's blocks.
//!
//! In the last layer only keys and values are needed of every row. The rest is computed for the
//! output rows alone, which spares a prefill chunk that ends mid-prompt most of a layer.

mod parallel;
mod post_norm;
mod pre_norm;

use maitre_tensor::{LayerCache, TensorError};

use crate::layers::{Attention, StepContext};
use crate::workspace::Activations;
pub(crate) use parallel::{Parallel, ParallelLayer};
pub(crate) use post_norm::{PostNorm, PostNormLayer};
pub(crate) use pre_norm::{PreNorm, PreNormLayer};

/// A layer: attention, and what a skeleton puts around it.
pub(crate) trait Block {
    /// Its attention, which reads `normed`.
    fn attention(&self) -> &Attention;

    /// From attention's result to the `normed` of the next layer or, in the last, to `hidden`.
    fn finish(
        &self,
        step: StepContext<'_>,
        acts: &mut Activations<'_>,
        rows: usize,
        is_last: bool,
    ) -> Result<(), TensorError>;
}

/// Runs layers over a validated batch whose embeddings are in `residual`, as the first layer reads them in `normed`.
pub(crate) fn run(
    layers: &[impl Block],
    step: StepContext<'_>,
    caches: &mut [LayerCache],
    acts: &mut Activations<'_>,
) -> Result<(), TensorError> {
    let mut rows = step.batch.tokens.len();
    let last = layers.len().saturating_sub(1);
    for (index, layer) in layers.iter().enumerate() {
        let attention = layer.attention();
        // A runner makes the caches that the layers' places are in.
        let cache = &mut caches[attention.place.cache];
        attention.store_keys_and_values(step, cache, acts, rows)?;
        if index == last && step.batch.output_rows.is_empty() {
            break;
        }
        attention.attend(step, cache, acts)?;
        if index == last {
            acts.keep_rows(step)?;
            rows = step.batch.output_rows.len();
        }
        layer.finish(step, acts, rows, index == last)?;
    }
    Ok(())
}

impl Activations<'_> {
    /// Gathers the output rows of the residual stream and of attention's result to the front.
    /// The gathered rows lie in other buffers, so the roles swap.
    fn keep_rows(&mut self, step: StepContext<'_>) -> Result<(), TensorError> {
        let rows = &step.batch.output_rows;
        let StepContext {
            backend, config, ..
        } = step;
        backend.gather_rows(self.residual, config.hidden_size, rows, self.delta)?;
        std::mem::swap(&mut self.residual, &mut self.delta);
        backend.gather_rows(self.attention, config.query_size(), rows, self.query)?;
        std::mem::swap(&mut self.attention, &mut self.query);
        Ok(())
    }
}
