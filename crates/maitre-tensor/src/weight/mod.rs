//! [`PackedWeight`]: a weight matrix in the order in which the kernels read it.

pub(crate) mod blocks;
pub(crate) mod layout;
mod pack;
mod pack_blocks;
mod quantize;
pub(crate) mod source;

use crate::format::{InputFormat, WeightFormat};
use crate::memory::Memory;
use crate::{DType, TensorError};

use layout::Layout;
pub use pack_blocks::BlocksView;
pub(crate) use quantize::{INT8_ZERO, Int4Row, nearest, quantize_int4, quantize_int8};

/// A weight matrix as a file stores it: `[rows, cols]` = `[out features, in features]`, row-major,
/// little-endian, at any alignment.
#[derive(Debug, Clone, Copy)]
pub struct WeightView<'a> {
    /// Format of the stored numbers.
    pub dtype: DType,
    /// Output features.
    pub rows: usize,
    /// Input features.
    pub cols: usize,
    /// `rows * cols` elements.
    pub bytes: &'a [u8],
}

/// A weight matrix `[out, in]`, ready for [`Backend::linear`](crate::Backend::linear) and
/// [`Backend::embed`](crate::Backend::embed); made by [`Backend::pack`](crate::Backend::pack).
///
/// Matrices that share their input (query, key and value; gate and up) are packed into one, so that
/// a step reads the input once and has fewer barriers. One packed copy serves as embedding and as
/// output layer.
///
/// Stored blocks of different formats are packed into one all the same, as pieces that follow each other.
#[derive(Debug)]
pub struct PackedWeight {
    memory: Memory,
    /// Of the first piece.
    layout: Layout,
    /// Of the pieces behind it.
    others: Vec<Layout>,
}

impl PackedWeight {
    /// Output features, those of all parts together.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.layouts().map(|layout| layout.rows).sum()
    }

    /// Input features.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.layout.cols
    }

    /// How the numbers are stored; of pieces in different formats, those of the first.
    #[must_use]
    pub fn format(&self) -> WeightFormat {
        self.layout.format
    }

    /// The form in which it reads its input: on a GPU integers are widened to bf16 before they meet it.
    #[must_use]
    pub fn input(&self) -> InputFormat {
        match (&self.memory, self.layout.format) {
            (Memory::Device(_), WeightFormat::F32) => InputFormat::F32,
            (Memory::Device(_), _) => InputFormat::Bf16,
            (Memory::Host(_), format) => format.input(),
        }
    }

    /// Whether the first half of the output features gates the second.
    #[must_use]
    pub fn is_gated(&self) -> bool {
        self.layout.gate.is_some()
    }

    /// Bytes of memory the matrix takes.
    #[must_use]
    pub fn size_in_bytes(&self) -> usize {
        self.memory.len()
    }

    /// A matrix that was packed elsewhere.
    pub(crate) fn from_memory(memory: Memory, layout: Layout) -> Self {
        Self {
            memory,
            layout,
            others: Vec::new(),
        }
    }

    /// Pieces, at least one, that follow each other in `memory`.
    pub(crate) fn stacked(memory: Memory, layouts: &[Layout]) -> Self {
        let (layout, others) = match layouts {
            [first, others @ ..] => (*first, others.to_vec()),
            [] => (Layout::EMPTY, Vec::new()),
        };
        Self {
            memory,
            layout,
            others,
        }
    }

    fn layouts(&self) -> impl Iterator<Item = Layout> {
        std::iter::once(self.layout).chain(self.others.iter().copied())
    }

    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// The pieces, each with the first of its output features.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = (usize, PackedView<'_>)> {
        let mut bytes: &[u8] = self.memory.as_slice();
        let mut first = 0;
        self.layouts().map(move |layout| {
            let len = layout.panels() * layout.panel_bytes();
            let (piece, rest) = bytes.split_at(len.min(bytes.len()));
            bytes = rest;
            let piece = (
                first,
                PackedView {
                    layout,
                    bytes: piece,
                },
            );
            first += layout.rows;
            piece
        })
    }
}

/// A packed matrix that is being read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PackedView<'a> {
    pub(crate) layout: Layout,
    pub(crate) bytes: &'a [u8],
}

impl<'a> PackedView<'a> {
    /// The bytes of one panel.
    pub(crate) fn panel(&self, panel: usize) -> &'a [u8] {
        let size = self.layout.panel_bytes();
        &self.bytes[panel * size..(panel + 1) * size]
    }
}

fn common_cols(parts: &[WeightView<'_>]) -> Result<usize, TensorError> {
    let reason = match parts {
        [] => "there are none",
        [first, ..] if first.cols == 0 => "the input size must not be 0",
        [first, rest @ ..] if rest.iter().any(|part| part.cols != first.cols) => {
            "all must have the same input size"
        }
        [first, ..] => return Ok(first.cols),
    };
    Err(TensorError::WeightParts {
        cols: parts.iter().map(|part| part.cols).collect(),
        reason,
    })
}

fn check_size(part: &WeightView<'_>) -> Result<(), TensorError> {
    let size = part.dtype.size_in_bytes();
    let expected = part
        .rows
        .checked_mul(part.cols)
        .and_then(|n| n.checked_mul(size));
    if expected == Some(part.bytes.len()) {
        return Ok(());
    }
    Err(TensorError::WeightSize {
        rows: part.rows,
        cols: part.cols,
        dtype: part.dtype,
        expected: expected.unwrap_or(usize::MAX),
        actual: part.bytes.len(),
    })
}
