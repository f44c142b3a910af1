//! [`LinearInput`]: token rows in the form in which a weight format reads them.
//!
//! ```text
//! a row   [word 0][word 1] ...            one 32-bit word: 1 f32, 2 bf16 or 4 int8,
//!         [scale, sum] per group          int8 only; the lowest-numbered feature in the low bits
//! ```
//!
//! Every kernel broadcasts a whole word to the lanes of a register, so that the inner loop is the
//! same for all formats. A matrix that several weights read is brought into this form once, by the
//! operator that computes it, while its rows are still in the nearest cache.

use crate::aligned::{AlignedBytes, Plain};
use crate::format::{InputFormat, WeightFormat};
use crate::gpu::DeviceBytes;
use crate::memory::Memory;
use crate::portable::encode::decode;
use crate::tiles::RowBlocks;
use crate::{Buffer, TensorError};

/// What turns a group of int8 numbers back into activations, and what the kernels need to know of
/// them beside.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[repr(C)]
pub(crate) struct Group {
    /// An int8 step, as an activation. NaN if the group holds a number that is not finite.
    pub(crate) scale: f32,
    /// The sum of the int8 numbers: weights are stored with an offset, which this undoes.
    pub(crate) sum: i32,
}

// SAFETY: two four-byte numbers without padding.
#[allow(unsafe_code)]
unsafe impl Plain for Group {}

/// Token rows, `[rows, cols]`, ready for [`Backend::linear`](crate::Backend::linear).
#[derive(Debug)]
pub struct LinearInput {
    words: Memory,
    groups: Memory,
    shape: InputShape,
    rows: usize,
}

/// How wide a row is, in each of the ways that matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InputShape {
    pub(crate) format: InputFormat,
    /// Input features.
    pub(crate) cols: usize,
    /// Words per row, padding included.
    pub(crate) words: usize,
    /// Groups per row; none unless the format is int8.
    pub(crate) groups: usize,
}

impl InputShape {
    pub(crate) fn new(format: InputFormat, cols: usize) -> Self {
        let (words, groups) = match format {
            InputFormat::F32 => (cols, 0),
            InputFormat::Bf16 => (spread(cols.div_ceil(2)), 0),
            // Int4 weights come eight to a word, which meet two words of activations.
            InputFormat::Int8 { group } => (
                spread(cols.div_ceil(8) * 2),
                group.map_or(1, |group| cols.div_ceil(group)),
            ),
        };
        Self {
            format,
            cols,
            words,
            groups,
        }
    }

    /// The shape of rows on a GPU, whose rows of bf16 are multiples of 32 bytes: tensor cores take sixteen
    /// features at a time.
    pub(crate) fn on_device(format: InputFormat, cols: usize) -> Self {
        let words = match format {
            InputFormat::F32 => cols,
            _ => cols.next_multiple_of(16) / 2,
        };
        Self {
            format,
            cols,
            words,
            groups: 0,
        }
    }

    /// Input features per group.
    pub(crate) fn group_len(&self) -> usize {
        match self.format {
            InputFormat::Int8 { group: Some(group) } => group,
            _ => self.cols,
        }
    }
}

/// Words of a row, a cache line more where rows would fall into two sets of a first-level cache at most.
fn spread(words: usize) -> usize {
    words + if words.is_multiple_of(512) { 16 } else { 0 }
}

/// Rows that are being written: blocks of words and of groups.
pub(crate) type InputBlocks<'a> = (RowBlocks<'a, u32>, RowBlocks<'a, Group>);

/// Rows that are being read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InputRows<'a> {
    /// `[rows, shape.words]`.
    pub(crate) words: &'a [u32],
    /// `[rows, shape.groups]`.
    pub(crate) groups: &'a [Group],
    pub(crate) shape: InputShape,
}

impl LinearInput {
    /// Space for `rows` rows of `cols` features. The memory is reserved, not touched.
    ///
    /// # Errors
    ///
    /// [`TensorError::Reserve`] when the system refuses; [`TensorError::GroupSize`] for groups that no
    /// weight format has.
    pub fn new(format: InputFormat, cols: usize, rows: usize) -> Result<Self, TensorError> {
        if let InputFormat::Int8 { group: Some(group) } = format
            && !WeightFormat::GROUPS.contains(&group)
        {
            return Err(TensorError::GroupSize { group });
        }
        let shape = InputShape::new(format, cols);
        let reserve = |width: usize, size: usize| {
            let bytes = rows
                .checked_mul(width)
                .and_then(|len| len.checked_mul(size));
            bytes
                .and_then(AlignedBytes::in_large_pages)
                .map(Memory::Host)
                .ok_or(TensorError::Reserve {
                    what: "activations",
                    bytes: bytes.unwrap_or(usize::MAX),
                })
        };
        Ok(Self {
            words: reserve(shape.words, size_of::<u32>())?,
            groups: reserve(shape.groups, size_of::<Group>())?,
            shape,
            rows,
        })
    }

    /// The form of the numbers.
    #[must_use]
    pub fn format(&self) -> InputFormat {
        self.shape.format
    }

    /// Features per row.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.shape.cols
    }

    /// Rows there is space for.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes reserved.
    #[must_use]
    pub fn size_in_bytes(&self) -> usize {
        self.words.len() + self.groups.len()
    }

    /// The first `rows` rows as f32 numbers: what the products are made of.
    ///
    /// # Errors
    ///
    /// [`TensorError::Reserve`] for the result, [`TensorError::OnDevice`] if the rows are not in host memory:
    /// [`Backend::decode`](crate::Backend::decode) reads them anywhere.
    pub fn decode(&self, rows: usize) -> Result<Buffer, TensorError> {
        if !self.words.is_on_host() {
            return Err(TensorError::OnDevice);
        }
        let rows = rows.min(self.rows);
        let mut out = Buffer::zeros(crate::DType::F32, rows * self.shape.cols)?;
        let input = self.view();
        for (row, out) in out
            .f32s_mut()?
            .chunks_exact_mut(self.shape.cols.max(1))
            .enumerate()
        {
            decode(input.row(row), out);
        }
        Ok(out)
    }

    /// Rows in memory of a GPU, whose forms have no groups.
    pub(crate) fn on_device(
        words: DeviceBytes,
        no_groups: DeviceBytes,
        shape: InputShape,
        rows: usize,
    ) -> Self {
        Self {
            words: Memory::Device(words),
            groups: Memory::Device(no_groups),
            shape,
            rows,
        }
    }

    /// Overwrites rows in host memory with rows of `stride` words each, little-endian. What is too long is
    /// padding, in those rows or in these, which were never written.
    pub(crate) fn fill(&mut self, bytes: &[u8], stride: usize) {
        let width = self.shape.words;
        let rows = self
            .words
            .as_mut_slice::<u32>()
            .chunks_exact_mut(width.max(1));
        let words = bytes.as_chunks().0;
        for (row, words) in rows.zip(words.chunks_exact(stride.max(1))) {
            for (word, bytes) in row.iter_mut().zip(words) {
                *word = u32::from_le_bytes(*bytes);
            }
        }
    }

    pub(crate) fn memory(&self) -> &Memory {
        &self.words
    }

    pub(crate) fn memory_mut(&mut self) -> &mut Memory {
        &mut self.words
    }

    pub(crate) fn shape(&self) -> InputShape {
        self.shape
    }

    pub(crate) fn view(&self) -> InputRows<'_> {
        InputRows {
            words: self.words.as_slice(),
            groups: self.groups.as_slice(),
            shape: self.shape,
        }
    }

    /// The words of the first `rows` rows.
    pub(crate) fn words_mut(&mut self, rows: usize) -> &mut [u32] {
        &mut self.words.as_mut_slice()[..rows * self.shape.words]
    }

    /// The first `rows` rows, cut into blocks.
    pub(crate) fn blocks(&mut self, rows: usize, block: usize) -> InputBlocks<'_> {
        let InputShape { words, groups, .. } = self.shape;
        (
            RowBlocks::with_rows(&mut self.words.as_mut_slice()[..rows * words], rows, block),
            RowBlocks::with_rows(
                &mut self.groups.as_mut_slice()[..rows * groups],
                rows,
                block,
            ),
        )
    }
}

impl<'a> InputRows<'a> {
    pub(crate) fn row(&self, row: usize) -> Self {
        self.rows(row, 1)
    }

    /// `count` rows from `first` on.
    pub(crate) fn rows(&self, first: usize, count: usize) -> Self {
        let InputShape { words, groups, .. } = self.shape;
        Self {
            words: &self.words[first * words..(first + count) * words],
            groups: &self.groups[first * groups..(first + count) * groups],
            shape: self.shape,
        }
    }
}
