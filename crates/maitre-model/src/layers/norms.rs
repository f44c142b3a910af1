//! Norms of queries and keys.

use maitre_tensor::{Buffer, NormColumns, TensorError};

use super::StepContext;

/// What is normalised of queries and keys before they are turned.
#[derive(Debug)]
pub(crate) enum HeadNorms {
    /// Nothing.
    Absent,
    /// Each head by itself: `[head_dim]` each. Done with the rotation.
    PerHead { q: Buffer, k: Buffer },
    /// Each head by itself after it was turned, with weights w of queries and v of keys.
    ///
    /// A turn leaves the norm of a head as it is, but not what multiplies its numbers. Scores add up
    /// (w·turned query)·(v·turned key), so that both weights may as well multiply the query: `q` is w·v, and keys are
    /// normalised before they are turned, with weights `k` of 1, on their way into the cache.
    PerHeadTurned { q: Buffer, k: Buffer },
    /// All heads of a token: `[heads·head_dim]` and `[kv_heads·head_dim]`.
    WholeRow { q: Buffer, k: Buffer },
}

impl HeadNorms {
    /// The norms of each head of queries and of keys, which the rotation takes along.
    pub(crate) fn per_head(&self) -> [Option<&Buffer>; 2] {
        match self {
            Self::PerHead { q, k } => [Some(q), Some(k)],
            Self::PerHeadTurned { k, .. } => [None, Some(k)],
            Self::Absent | Self::WholeRow { .. } => [None, None],
        }
    }

    /// Normalises whole rows of queries and of keys in place: `qkv` is `[rows, queries, keys and values]`.
    pub(crate) fn apply_to_rows(
        &self,
        step: StepContext<'_>,
        qkv: &mut Buffer,
        rows: usize,
    ) -> Result<(), TensorError> {
        let Self::WholeRow { q, k } = self else {
            return Ok(());
        };
        let width = step.config.qkv_size();
        for (weight, first) in [(q, 0), (k, step.config.query_size())] {
            let columns = NormColumns {
                width,
                first,
                weight,
                eps: step.config.rms_norm_eps,
            };
            step.backend.rms_norm_columns(qkv, columns, rows)?;
        }
        Ok(())
    }

    /// Normalises turned queries in place, `[rows, heads·head_dim]`.
    pub(crate) fn apply_to_turned(
        &self,
        step: StepContext<'_>,
        query: &mut Buffer,
        rows: usize,
    ) -> Result<(), TensorError> {
        let Self::PerHeadTurned { q: weight, .. } = self else {
            return Ok(());
        };
        // Heads lie one behind the other: each is a row.
        let columns = NormColumns {
            width: step.config.head_dim,
            first: 0,
            weight,
            eps: step.config.rms_norm_eps,
        };
        let heads = rows * step.config.num_heads;
        step.backend.rms_norm_columns(query, columns, heads)
    }

    pub(crate) fn size_in_bytes(&self) -> usize {
        match self {
            Self::Absent => 0,
            Self::PerHead { q, k } | Self::PerHeadTurned { q, k } | Self::WholeRow { q, k } => {
                q.size_in_bytes() + k.size_in_bytes()
            }
        }
    }
}
