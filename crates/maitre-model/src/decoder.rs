//! A model's weights, and the forward pass over them.

use maitre_tensor::{InputFormat, LayerCache, PackedWeight, TensorError};

use crate::layers::{Attention, Embedding, Mlp, StepContext};
use crate::skeletons::{Parallel, PostNorm, PreNorm};
use crate::workspace::Workspace;

/// The weights of a model.
#[derive(Debug)]
pub(crate) struct Decoder {
    pub(crate) embedding: Embedding,
    pub(crate) layers: Layers,
    /// `[vocab, hidden]`, unless that is the embedding.
    pub(crate) head: Option<PackedWeight>,
}

/// All layers, in their skeleton.
#[derive(Debug)]
pub(crate) enum Layers {
    PreNorm(PreNorm),
    PostNorm(PostNorm),
    Parallel(Parallel),
}

/// The forms in which the layers' matrices read their inputs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InputForms {
    /// What attention and MLP read.
    pub(crate) normed: InputFormat,
    /// What attention's last projection reads.
    pub(crate) attended: InputFormat,
    /// What the MLP's last projection reads.
    pub(crate) activated: InputFormat,
}

impl Decoder {
    /// Runs all layers over a validated batch. Keys and values go to `caches`, one per place of a page; the
    /// normalised hidden states of the batch's output rows to [`Workspace::outputs`].
    pub(crate) fn forward(
        &self,
        step: StepContext<'_>,
        caches: &mut [LayerCache],
        workspace: &mut Workspace,
    ) -> Result<(), TensorError> {
        let mut acts = workspace.activations();
        self.embedding.run(step, &mut acts)?;
        match &self.layers {
            Layers::PreNorm(layers) => layers.run(step, caches, &mut acts),
            Layers::PostNorm(layers) => layers.run(step, caches, &mut acts),
            Layers::Parallel(layers) => layers.run(step, caches, &mut acts),
        }
    }

    /// The forms in which the layers' matrices read their inputs: in all layers those of the first.
    pub(crate) fn input_forms(&self) -> InputForms {
        let first = match &self.layers {
            Layers::PreNorm(layers) => layers.layers.first().map(|it| (&it.attention, &it.mlp)),
            Layers::PostNorm(layers) => layers.layers.first().map(|it| (&it.attention, &it.mlp)),
            Layers::Parallel(layers) => layers.layers.first().map(|it| (&it.attention, &it.mlp)),
        };
        let of = |(attention, mlp): (&Attention, &Mlp)| InputForms {
            normed: attention.weights()[0].input(),
            attended: attention.weights()[1].input(),
            activated: mlp.weights()[1].input(),
        };
        first.map_or(InputForms::UNUSED, of)
    }

    /// The output matrix, `[vocab, hidden]`.
    pub(crate) fn head(&self) -> &PackedWeight {
        self.head.as_ref().unwrap_or(&self.embedding.table)
    }

    /// Bytes of all weights as they lie in memory.
    pub(crate) fn size_in_bytes(&self) -> usize {
        let layers = match &self.layers {
            Layers::PreNorm(layers) => layers.size_in_bytes(),
            Layers::PostNorm(layers) => layers.size_in_bytes(),
            Layers::Parallel(layers) => layers.size_in_bytes(),
        };
        self.embedding.size_in_bytes()
            + self.head.as_ref().map_or(0, PackedWeight::size_in_bytes)
            + layers
    }
}

impl InputForms {
    /// Those of a model without layers.
    const UNUSED: Self = Self {
        normed: InputFormat::F32,
        attended: InputFormat::F32,
        activated: InputFormat::F32,
    };
}
