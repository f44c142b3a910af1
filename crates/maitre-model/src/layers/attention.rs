//! Attention with grouped queries over the paged cache.
//!
//! It runs in three parts, as a step's last layer needs keys and values of every row and the rest of the output rows
//! alone: keys and values are stored, queries attend, the result is projected.

use maitre_tensor::{KvGroup, LayerCache, PackedWeight, RopeStore, TensorError};

use super::{HeadNorms, Linear, StepContext};
use crate::kv_layout::CachePlace;
use crate::spec::AttentionSpec;
use crate::workspace::Activations;

/// The weights of a layer's attention, and what it does with them.
#[derive(Debug)]
pub(crate) struct Attention {
    /// Where its keys and values are.
    pub(crate) place: CachePlace,
    pub(crate) spec: AttentionSpec,
    /// Query, key and value stacked: `[(heads + 2·kv_heads)·head_dim, hidden]`.
    pub(crate) qkv: Linear,
    pub(crate) norms: HeadNorms,
    /// `[hidden, heads·head_dim]`.
    pub(crate) output: Linear,
}

impl Attention {
    /// Projects `normed`; leaves rotated queries in `query`, keys and values in the cache.
    pub(crate) fn store_keys_and_values(
        &self,
        step: StepContext<'_>,
        cache: &mut LayerCache,
        acts: &mut Activations<'_>,
        rows: usize,
    ) -> Result<(), TensorError> {
        self.qkv.apply(step, acts.normed, acts.qkv, rows)?;
        self.norms.apply_to_rows(step, acts.qkv, rows)?;
        let [q_norm, k_norm] = self.norms.per_head();
        let rope = step.ropes.of(self.spec.rope);
        step.backend.rope_and_store(RopeStore {
            qkv: acts.qkv,
            q_norm,
            k_norm,
            eps: step.config.rms_norm_eps,
            cos: &rope.cos,
            sin: &rope.sin,
            q_factors: rope.q_factors.as_ref(),
            positions: &step.batch.positions,
            slots: &self.group(step).slots,
            heads: step.config.num_heads,
            kv_heads: step.config.num_kv_heads,
            head_dim: step.config.head_dim,
            rotary_dim: rope.dims,
            q_out: acts.query,
            cache,
        })?;
        self.norms.apply_to_turned(step, acts.query, rows)
    }

    /// Attention of every row over its own sequence's cache: `query` → `attention`.
    pub(crate) fn attend(
        &self,
        step: StepContext<'_>,
        cache: &LayerCache,
        acts: &mut Activations<'_>,
    ) -> Result<(), TensorError> {
        step.backend.paged_attention(maitre_tensor::Attention {
            q: acts.query,
            cache,
            spans: &step.batch.spans,
            tables: &self.group(step).tables,
            heads: step.config.num_heads,
            kv_heads: step.config.num_kv_heads,
            head_dim: step.config.head_dim,
            scale: self.spec.scale,
            score_bound: self.spec.score_bound,
            window: self.spec.reads.window(),
            out: acts.attention,
        })
    }

    /// `attention` → `delta`.
    pub(crate) fn project(
        &self,
        step: StepContext<'_>,
        acts: &mut Activations<'_>,
        rows: usize,
    ) -> Result<(), TensorError> {
        step.backend.encode(acts.attention, acts.attended, rows)?;
        self.output.apply(step, acts.attended, acts.delta, rows)?;
        step.add_up(acts, rows)
    }

    /// The block tables and slots of the layer's group, which a validated batch has.
    fn group<'a>(&self, step: StepContext<'a>) -> &'a KvGroup {
        &step.batch.groups[self.place.group]
    }

    /// Its matrices.
    pub(crate) fn weights(&self) -> [&PackedWeight; 2] {
        [&self.qkv.weight, &self.output.weight]
    }

    pub(crate) fn size_in_bytes(&self) -> usize {
        self.qkv.size_in_bytes() + self.norms.size_in_bytes() + self.output.size_in_bytes()
    }
}
