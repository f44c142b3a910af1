//! The forward pass that all supported families share: a pre-norm transformer decoder.
//!
//! ```text
//! residual = embed(tokens)
//! each layer:   qkv  = linear(norm(residual))     rotate q, k; store k, v in the cache
//!               residual += linear(attention(q, cache))
//!               residual += down(silu(gate) · up)  of norm(residual)
//! hidden = norm(residual)
//! ```
//!
//! Rows are tokens of any number of sequences; nothing but attention looks beyond a row, and
//! attention looks only at its own sequence's blocks. Each addition is fused with the norm that
//! follows it, across the layer boundary too: a layer therefore owns the norm *after* it.
//!
//! In the last layer only keys and values are needed of every row. The rest is computed for the
//! output rows alone, which spares a prefill chunk that ends mid-prompt most of a layer.

use maitre_tensor::{
    Attention, Backend, Buffer, InputFormat, LayerCache, LinearInput, PackedWeight, RopeStore,
    TensorError,
};

use crate::batch::{Batch, KvGroup};
use crate::config::ModelConfig;
use crate::kv_layout::{CachePlace, Reads};
use crate::rope::RopeTables;
use crate::workspace::{Activations, Workspace};

/// The weights of a model.
#[derive(Debug)]
pub(crate) struct Decoder {
    /// `[vocab, hidden]`.
    pub(crate) embedding: PackedWeight,
    /// The norm before the first layer.
    pub(crate) first_norm: Buffer,
    pub(crate) layers: Vec<Layer>,
    /// `[vocab, hidden]`, unless that is the embedding.
    pub(crate) head: Option<PackedWeight>,
}

/// The weights of one layer.
#[derive(Debug)]
pub(crate) struct Layer {
    /// Where its keys and values are.
    pub(crate) place: CachePlace,
    /// How far back it reads them.
    pub(crate) reads: Reads,
    /// Query, key and value stacked: `[(heads + 2·kv_heads)·head_dim, hidden]`.
    pub(crate) qkv: Linear,
    /// `[head_dim]`, in families that normalise heads.
    pub(crate) q_norm: Option<Buffer>,
    /// `[head_dim]`, in families that normalise heads.
    pub(crate) k_norm: Option<Buffer>,
    /// `[hidden, heads·head_dim]`.
    pub(crate) output: Linear,
    /// The norm between attention and MLP.
    pub(crate) mlp_norm: Buffer,
    /// Gate and up, packed as gated: `[2·intermediate, hidden]`.
    pub(crate) gate_up: Linear,
    /// `[hidden, intermediate]`.
    pub(crate) down: Linear,
    /// The norm after the layer: the next layer's first, or the model's last.
    pub(crate) next_norm: Buffer,
}

/// A projection.
#[derive(Debug)]
pub(crate) struct Linear {
    pub(crate) weight: PackedWeight,
    pub(crate) bias: Option<Buffer>,
}

/// What one step is computed from, apart from the weights.
#[derive(Clone, Copy)]
pub(crate) struct Step<'a> {
    pub(crate) backend: &'a Backend,
    pub(crate) config: &'a ModelConfig,
    pub(crate) rope: &'a RopeTables,
    pub(crate) batch: &'a Batch,
}

impl Decoder {
    /// Runs all layers over a validated batch. Keys and values go to `caches`, one per place of a page; the
    /// normalised hidden states of the batch's output rows to [`Workspace::outputs`].
    pub(crate) fn forward(
        &self,
        step: Step<'_>,
        caches: &mut [LayerCache],
        workspace: &mut Workspace,
    ) -> Result<(), TensorError> {
        let Step { backend, batch, .. } = step;
        let mut acts = workspace.activations();
        let mut rows = batch.tokens.len();
        let eps = step.config.rms_norm_eps;
        backend.embed(&self.embedding, &batch.tokens, acts.residual)?;
        backend.rms_norm(acts.residual, &self.first_norm, eps, acts.normed, rows)?;
        let last = self.layers.len().saturating_sub(1);
        for (index, layer) in self.layers.iter().enumerate() {
            // A runner makes the caches that the layers' places are in.
            let cache = &mut caches[layer.place.cache];
            layer.store_keys_and_values(step, cache, &mut acts, rows)?;
            if index == last && batch.output_rows.is_empty() {
                break;
            }
            layer.attend(step, cache, &mut acts)?;
            if index == last {
                acts.keep_rows(step)?;
                rows = batch.output_rows.len();
            }
            layer.finish(step, &mut acts, rows, index == last)?;
        }
        Ok(())
    }

    /// The form in which the layers' matrices read their input.
    pub(crate) fn input_form(&self) -> InputFormat {
        let first = self.layers.first();
        first.map_or(InputFormat::F32, |layer| layer.qkv.weight.input())
    }

    /// The output matrix, `[vocab, hidden]`.
    pub(crate) fn head(&self) -> &PackedWeight {
        self.head.as_ref().unwrap_or(&self.embedding)
    }

    /// Bytes of all weights as they lie in memory.
    pub(crate) fn size_in_bytes(&self) -> usize {
        self.embedding.size_in_bytes()
            + self.head.as_ref().map_or(0, PackedWeight::size_in_bytes)
            + self.first_norm.size_in_bytes()
            + self.layers.iter().map(Layer::size_in_bytes).sum::<usize>()
    }
}

impl Layer {
    /// Projects `normed`; leaves rotated queries in `query`, keys and values in the cache.
    fn store_keys_and_values(
        &self,
        step: Step<'_>,
        cache: &mut LayerCache,
        acts: &mut Activations<'_>,
        rows: usize,
    ) -> Result<(), TensorError> {
        self.qkv.apply(step, acts.normed, acts.qkv, rows)?;
        step.backend.rope_and_store(RopeStore {
            qkv: acts.qkv,
            q_norm: self.q_norm.as_ref(),
            k_norm: self.k_norm.as_ref(),
            eps: step.config.rms_norm_eps,
            cos: &step.rope.cos,
            sin: &step.rope.sin,
            positions: &step.batch.positions,
            slots: &self.group(step).slots,
            heads: step.config.num_heads,
            kv_heads: step.config.num_kv_heads,
            head_dim: step.config.head_dim,
            q_out: acts.query,
            cache,
        })
    }

    /// The block tables and slots of the layer's group, which a validated batch has.
    fn group<'a>(&self, step: Step<'a>) -> &'a KvGroup {
        &step.batch.groups[self.place.group]
    }

    /// Attention of every row over its own sequence's cache: `query` → `attention`.
    fn attend(
        &self,
        step: Step<'_>,
        cache: &LayerCache,
        acts: &mut Activations<'_>,
    ) -> Result<(), TensorError> {
        let head_dim = step.config.head_dim;
        step.backend.paged_attention(Attention {
            q: acts.query,
            cache,
            spans: &step.batch.spans,
            tables: &self.group(step).tables,
            heads: step.config.num_heads,
            kv_heads: step.config.num_kv_heads,
            head_dim,
            scale: 1.0 / (head_dim as f32).sqrt(),
            window: self.reads.window(),
            out: acts.attention,
        })
    }

    /// From attention's result to the input of the next layer, or of the output matrix.
    fn finish(
        &self,
        step: Step<'_>,
        acts: &mut Activations<'_>,
        rows: usize,
        is_last: bool,
    ) -> Result<(), TensorError> {
        let (backend, eps) = (step.backend, step.config.rms_norm_eps);
        backend.encode(acts.attention, acts.attended, rows)?;
        self.output.apply(step, acts.attended, acts.delta, rows)?;
        let (residual, norm) = (&mut *acts.residual, &self.mlp_norm);
        backend.add_rms_norm(residual, acts.delta, norm, eps, acts.normed, rows)?;
        let Linear { weight, bias } = &self.gate_up;
        let out = (&mut *acts.gated, &mut *acts.activated);
        backend.linear_silu_mul_encoded(acts.normed, weight, bias.as_ref(), out, 0..rows)?;
        self.down.apply(step, acts.activated, acts.delta, rows)?;
        let next = if is_last {
            &mut *acts.hidden
        } else {
            &mut *acts.normed
        };
        backend.add_rms_norm(acts.residual, acts.delta, &self.next_norm, eps, next, rows)
    }

    fn size_in_bytes(&self) -> usize {
        let linears = [&self.qkv, &self.output, &self.gate_up, &self.down];
        let norms = [Some(&self.mlp_norm), Some(&self.next_norm)];
        let head_norms = [self.q_norm.as_ref(), self.k_norm.as_ref()];
        let biases = linears.map(|linear| linear.bias.as_ref());
        let matrices = linears.map(|linear| linear.weight.size_in_bytes());
        let vectors = norms.iter().chain(&head_norms).chain(&biases);
        matrices.iter().sum::<usize>()
            + vectors
                .flatten()
                .map(|vector| vector.size_in_bytes())
                .sum::<usize>()
    }
}

impl Linear {
    fn apply(
        &self,
        step: Step<'_>,
        input: &LinearInput,
        out: &mut Buffer,
        rows: usize,
    ) -> Result<(), TensorError> {
        step.backend
            .linear(input, &self.weight, self.bias.as_ref(), out, 0..rows)
    }
}

impl Activations<'_> {
    /// Gathers the output rows of the residual stream and of attention's result to the front.
    /// The gathered rows lie in other buffers, so the roles swap.
    fn keep_rows(&mut self, step: Step<'_>) -> Result<(), TensorError> {
        let rows = &step.batch.output_rows;
        let Step {
            backend, config, ..
        } = step;
        backend.gather_rows(self.residual, config.hidden_size, rows, self.delta)?;
        std::mem::swap(&mut self.residual, &mut self.delta);
        backend.gather_rows(self.attention, config.query_size(), rows, self.query)?;
        std::mem::swap(&mut self.attention, &mut self.query);
        Ok(())
    }
}
