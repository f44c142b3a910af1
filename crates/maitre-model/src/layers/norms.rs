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
    /// All heads of a token: `[heads·head_dim]` and `[kv_heads·head_dim]`.
    WholeRow { q: Buffer, k: Buffer },
}

impl HeadNorms {
    /// The norms of each head of queries and of keys, which the rotation takes along.
    pub(crate) fn per_head(&self) -> [Option<&Buffer>; 2] {
        match self {
            Self::PerHead { q, k } => [Some(q), Some(k)],
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

    pub(crate) fn size_in_bytes(&self) -> usize {
        match self {
            Self::Absent => 0,
            Self::PerHead { q, k } | Self::WholeRow { q, k } => {
                q.size_in_bytes() + k.size_in_bytes()
            }
        }
    }
}
