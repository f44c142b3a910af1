//! One packed matrix of tensors that are stored in any forms.

use std::borrow::Cow;
use std::ops::Range;

use maitre_tensor::{Activation, Backend, BlocksView, PackedWeight, WeightFormat, WeightView};

use crate::checkpoint::{Blocks, Dense, Stored};
use crate::error::ModelError;

/// Rows of a tensor.
pub(super) struct StoredPart {
    /// Which of the matrix's.
    pub(super) tensor: usize,
    pub(super) rows: Range<usize>,
}

/// Tensors, and which of their rows are stacked.
pub(super) struct StoredMatrix<'a> {
    pub(super) tensors: Vec<Stored<'a>>,
    pub(super) parts: Vec<StoredPart>,
    /// Input features.
    pub(super) cols: usize,
}

impl StoredMatrix<'_> {
    /// Packs it in `format`, a gate and what it gates for `activation`; [`WeightFormat::Blocks`], of whichever format, is
    /// as it is stored.
    ///
    /// # Errors
    /// Numbers that can't be quantized; stored parts that are no one matrix, see [`widened`](super::widened::widened).
    pub(super) fn pack(
        self,
        backend: &Backend,
        format: WeightFormat,
        activation: Option<Activation>,
    ) -> Result<PackedWeight, ModelError> {
        if !matches!(format, WeightFormat::Blocks(_)) {
            return self.pack_dense(backend, format, activation);
        }
        match self.tensors.first() {
            Some(Stored::Dense(dense)) => {
                let dtype = dense.dtype;
                self.pack_dense(backend, dtype.into(), activation)
            }
            _ => self.pack_blocks(backend, activation),
        }
    }

    fn pack_blocks(
        self,
        backend: &Backend,
        activation: Option<Activation>,
    ) -> Result<PackedWeight, ModelError> {
        let views = self.parts.iter().filter_map(|part| {
            let Stored::Blocks(blocks) = &self.tensors[part.tensor] else {
                return None;
            };
            let row = self.cols / blocks.format.block_len() * blocks.format.block_bytes();
            Some(BlocksView {
                format: blocks.format,
                rows: part.rows.len(),
                cols: self.cols,
                bytes: blocks
                    .bytes
                    .get(part.rows.start * row..part.rows.end * row)?,
            })
        });
        let views: Vec<BlocksView<'_>> = views.collect();
        let packed = match (views.as_slice(), activation) {
            ([gate, up], Some(activation)) => backend.pack_gated_blocks(*gate, *up, activation),
            (views, _) => backend.pack_blocks(views),
        };
        Ok(packed?)
    }

    fn pack_dense(
        self,
        backend: &Backend,
        format: WeightFormat,
        activation: Option<Activation>,
    ) -> Result<PackedWeight, ModelError> {
        let tensors = self.tensors.into_iter().map(Stored::into_dense);
        let tensors = tensors.collect::<Result<Vec<_>, _>>()?;
        let views = self.parts.iter().map(|part| {
            let tensor = &tensors[part.tensor];
            let row = self.cols * tensor.dtype.size_in_bytes();
            WeightView {
                dtype: tensor.dtype,
                rows: part.rows.len(),
                cols: self.cols,
                bytes: &tensor.bytes[part.rows.start * row..part.rows.end * row],
            }
        });
        let views: Vec<WeightView<'_>> = views.collect();
        Ok(match (views.as_slice(), activation) {
            ([gate, up], Some(activation)) => backend.pack_gated(*gate, *up, activation, format),
            (views, _) => backend.pack(views, format),
        }?)
    }
}

/// Some columns of a matrix, copied: the rows of a share do not lie together. Blocks that would have to be cut become f32.
///
/// # Errors
/// Bytes that are no whole number of blocks.
pub(super) fn columns(
    stored: Stored<'_>,
    cols: Range<usize>,
) -> Result<Stored<'static>, ModelError> {
    let (rows, width) = match stored.shape() {
        [rows, width] => (*rows, *width),
        _ => (0, 0),
    };
    let shape = vec![rows, cols.len()];
    let copy = |bytes: &[u8], of_row: usize, range: Range<usize>| {
        let mut out = Vec::with_capacity(rows * range.len());
        for row in bytes.chunks_exact(of_row.max(1)) {
            out.extend_from_slice(row.get(range.clone()).unwrap_or_default());
        }
        Cow::Owned(out)
    };
    let dense = match stored {
        Stored::Blocks(blocks)
            if [cols.start, cols.end, width]
                .iter()
                .all(|col| col.is_multiple_of(blocks.format.block_len())) =>
        {
            let bytes =
                |cols: usize| cols / blocks.format.block_len() * blocks.format.block_bytes();
            let range = bytes(cols.start)..bytes(cols.end);
            return Ok(Stored::Blocks(Blocks {
                format: blocks.format,
                shape,
                bytes: copy(&blocks.bytes, bytes(width), range),
            }));
        }
        stored => stored.into_dense()?,
    };
    let size = dense.dtype.size_in_bytes();
    Ok(Stored::Dense(Dense {
        dtype: dense.dtype,
        shape,
        bytes: copy(
            &dense.bytes,
            width * size,
            cols.start * size..cols.end * size,
        ),
    }))
}
