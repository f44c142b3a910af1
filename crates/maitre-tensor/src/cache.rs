//! [`LayerCache`]: the keys and values of one layer, in the order that attention multiplies them.
//!
//! Sixteen consecutive slots form a *group*. What one key head stores for a group is a *cell*: one
//! contiguous piece of 32-bit words, so that attention streams it, and so that sixteen keys meet a
//! query in the sixteen lanes of one vector register without any shuffling:
//!
//! ```text
//! memory   group 0: [ cell of head 0 ][ cell of head 1 ] ... | group 1: [ cell of head 0 ] ...
//!
//! cell     keys                          values                           scales (int8)
//!          word of the head              run of slots in a word           keys[16] values[16]
//!          0: [slot 0][slot 1]..[15]     0: [element 0][1]..[head_dim - 1]
//!          1: [slot 0][slot 1]..[15]     1: [element 0][1]..[head_dim - 1]
//!
//! a word   of keys: consecutive elements of one slot; of values: one element of consecutive slots
//!          f32: 1, bf16: 2, int8: 4
//! ```
//!
//! Keys are padded with zeros to whole words, rows of values to sixteen words; both are nothing at
//! the usual head sizes (multiples of 16). An int8 key or value is a multiple of its token's and
//! head's own scale, so that a token's bits do not depend on its neighbours in a block.

mod rows;

use std::fmt;
use std::ops::Range;

use half::bf16;
pub(crate) use rows::RowCell;
use rows::Vector;

use crate::aligned::AlignedBytes;
use crate::element::Element;
use crate::memory::Memory;
use crate::{TensorError, portable};

/// Slots per group: the lanes of a 512-bit register.
pub(crate) const GROUP: usize = 16;

/// How the numbers of a cached key or value are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KvFormat {
    /// As computed.
    F32,
    /// Rounded to bfloat16.
    Bf16,
    /// Signed bytes, and one f32 scale per token and head for the key, one for the value.
    Int8,
}

impl KvFormat {
    /// Bytes that keys and values of one token take in one layer.
    #[must_use]
    pub fn bytes_per_token(self, kv_heads: usize, head_dim: usize) -> usize {
        kv_heads * CellShape::new(self, head_dim).words() * size_of::<u32>() / GROUP
    }

    /// Numbers in a 32-bit word.
    pub(crate) const fn per_word(self) -> usize {
        match self {
            Self::F32 => 1,
            Self::Bf16 => 2,
            Self::Int8 => 4,
        }
    }
}

impl fmt::Display for KvFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        })
    }
}

/// In which order the numbers of a cell lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CellOrder {
    /// Across slots, for the processor's vector registers.
    Lanes,
    /// Slot by slot, for a GPU.
    Rows,
}

/// Where the parts of a cell lie; all counts are of 32-bit words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CellShape {
    pub(crate) format: KvFormat,
    pub(crate) head_dim: usize,
}

impl CellShape {
    pub(crate) fn new(format: KvFormat, head_dim: usize) -> Self {
        Self { format, head_dim }
    }

    /// Words of one slot's key, and rows of the keys.
    pub(crate) fn key_words(self) -> usize {
        self.head_dim.div_ceil(self.format.per_word())
    }

    /// Words from one row of values to the next.
    pub(crate) fn value_stride(self) -> usize {
        self.head_dim.next_multiple_of(GROUP)
    }

    /// Rows of values: each holds one to four slots.
    pub(crate) fn value_rows(self) -> usize {
        GROUP / self.format.per_word()
    }

    /// Where the values start.
    pub(crate) fn values(self) -> usize {
        self.key_words() * GROUP
    }

    /// Where the scales of the keys and of the values are; empty for formats without.
    pub(crate) fn scales(self) -> [Range<usize>; 2] {
        let start = self.values() + self.value_rows() * self.value_stride();
        let len = match self.format {
            KvFormat::Int8 => GROUP,
            KvFormat::F32 | KvFormat::Bf16 => 0,
        };
        [start..start + len, start + len..start + 2 * len]
    }

    /// Size of a cell.
    pub(crate) fn words(self) -> usize {
        self.scales()[1].end
    }

    /// Copies one slot, whatever it holds. Words of values are shared with neighbouring slots,
    /// which keep theirs.
    pub(crate) fn copy_slot(self, from: (&[u32], usize), to: (&mut [u32], usize)) {
        let ((from, source), (to, target)) = (from, to);
        for row in 0..self.key_words() {
            to[row * GROUP + target] = from[row * GROUP + source];
        }
        let per_word = self.format.per_word();
        let bits = u32::BITS as usize / per_word;
        let field = u32::MAX >> (u32::BITS as usize - bits);
        let place = |slot: usize| {
            let start = self.values() + slot / per_word * self.value_stride();
            (start..start + self.head_dim, slot % per_word * bits)
        };
        let ((read, down), (write, up)) = (place(source), place(target));
        for (word, from) in to[write].iter_mut().zip(&from[read]) {
            *word = *word & !(field << up) | ((from >> down) & field) << up;
        }
        for scales in self.scales().into_iter().filter(|range| !range.is_empty()) {
            to[scales.start + target] = from[scales.start + source];
        }
    }
}

/// Keys and values of one layer for a number of slots, reserved but not touched: pages of slots
/// that were never written stay out of resident memory.
pub struct LayerCache {
    words: Memory,
    order: CellOrder,
    shape: CellShape,
    kv_heads: usize,
    groups: usize,
}

impl LayerCache {
    /// Reserves space for at least `slots` tokens of `kv_heads` heads of `head_dim` elements;
    /// the number of slots is rounded up to a multiple of 16. All keys and values are zero.
    ///
    /// # Errors
    ///
    /// [`TensorError::Argument`] for no heads or heads without elements,
    /// [`TensorError::CacheMemory`] when the system refuses the memory.
    pub fn new(
        slots: usize,
        kv_heads: usize,
        head_dim: usize,
        format: KvFormat,
    ) -> Result<Self, TensorError> {
        for (argument, value) in [("kv_heads", kv_heads), ("head_dim", head_dim)] {
            if value == 0 {
                return Err(TensorError::Argument {
                    operator: "LayerCache::new",
                    argument,
                    expected: "above 0".to_owned(),
                    actual: value.to_string(),
                });
            }
        }
        let refused = || TensorError::CacheMemory {
            slots,
            kv_heads,
            head_dim,
            format,
        };
        // Far above any real head, and keeps the arithmetic of `CellShape` from overflowing.
        if head_dim > u32::MAX as usize {
            return Err(refused());
        }
        let shape = CellShape::new(format, head_dim);
        let groups = slots.div_ceil(GROUP);
        let words = groups
            .checked_mul(kv_heads)
            .and_then(|cells| cells.checked_mul(shape.words() * size_of::<u32>()))
            .and_then(AlignedBytes::zeroed)
            .ok_or_else(refused)?;
        Ok(Self {
            words: Memory::Host(words),
            order: CellOrder::Lanes,
            shape,
            kv_heads,
            groups,
        })
    }

    /// A cache in the order of a GPU, in memory that `reserve` gives for so many bytes.
    pub(crate) fn in_rows(
        slots: usize,
        kv_heads: usize,
        head_dim: usize,
        format: KvFormat,
        reserve: impl FnOnce(usize) -> Result<Memory, TensorError>,
    ) -> Result<Self, TensorError> {
        // Sizes are checked, and refused in the same words, by making one without slots.
        let mut cache = Self::new(0, kv_heads, head_dim, format)?;
        let (groups, cell) = (slots.div_ceil(GROUP), cache.row_bytes_per_cell());
        let bytes = groups
            .checked_mul(kv_heads)
            .and_then(|cells| cells.checked_mul(cell));
        cache.words = reserve(bytes.unwrap_or(usize::MAX))?;
        (cache.order, cache.groups) = (CellOrder::Rows, groups);
        Ok(cache)
    }

    /// Elements of a head with the padding that [`CellOrder::Rows`] needs.
    pub(crate) fn padded_dim(&self) -> usize {
        self.shape.head_dim.next_multiple_of(GROUP)
    }

    /// Bytes of a cell in [`CellOrder::Rows`].
    pub(crate) fn row_bytes_per_cell(&self) -> usize {
        self.row_cell().bytes()
    }

    /// Where the parts of a cell lie in [`CellOrder::Rows`].
    pub(crate) fn row_cell(&self) -> RowCell {
        RowCell::new(self.shape)
    }

    pub(crate) fn order(&self) -> CellOrder {
        self.order
    }

    pub(crate) fn memory(&self) -> &Memory {
        &self.words
    }

    pub(crate) fn memory_mut(&mut self) -> &mut Memory {
        &mut self.words
    }

    /// How numbers are stored.
    #[must_use]
    pub fn format(&self) -> KvFormat {
        self.shape.format
    }

    /// Slots there are, a multiple of 16.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.groups * GROUP
    }

    /// Key (and value) heads per slot.
    #[must_use]
    pub fn kv_heads(&self) -> usize {
        self.kv_heads
    }

    /// Elements per head.
    #[must_use]
    pub fn head_dim(&self) -> usize {
        self.shape.head_dim
    }

    /// Bytes reserved.
    #[must_use]
    pub fn size_in_bytes(&self) -> usize {
        self.words.len()
    }

    /// The key and the value stored for one head of one slot, widened to f32; `None` if there is no
    /// such slot or head, or a GPU that holds it fails.
    #[must_use]
    pub fn read(&self, slot: usize, kv_head: usize) -> Option<(Vec<f32>, Vec<f32>)> {
        if slot >= self.slots() || kv_head >= self.kv_heads {
            return None;
        }
        if self.order == CellOrder::Rows {
            let (layout, cell) = (self.row_cell(), self.row_bytes(slot / GROUP, kv_head).ok()?);
            let vector = |vector| layout.read(&cell, slot % GROUP, vector);
            return Some((vector(Vector::Key), vector(Vector::Value)));
        }
        let cell = self.cell(slot / GROUP, kv_head);
        let dim = 0..self.shape.head_dim;
        let key = dim.clone().map(|i| self.number(cell, slot % GROUP, i, 0));
        let value = dim.map(|i| self.number(cell, slot % GROUP, i, 1));
        Some((key.collect(), value.collect()))
    }

    /// Stores the key and the value of one head of one slot, rounded to the cache's format as
    /// [`rope_and_store`](crate::Backend::rope_and_store) does; bf16 keeps subnormal numbers here,
    /// and some processors make them zero there.
    ///
    /// # Errors
    ///
    /// [`TensorError::Argument`] if there is no such slot or head, or a length is not `head_dim`;
    /// [`TensorError::Device`] if a GPU that holds it fails.
    pub fn write(
        &mut self,
        slot: usize,
        kv_head: usize,
        key: &[f32],
        value: &[f32],
    ) -> Result<(), TensorError> {
        let (shape, slots, kv_heads) = (self.shape, self.slots(), self.kv_heads);
        let rules = [
            ("slot", slot < slots, format!("below {slots}"), slot),
            (
                "kv_head",
                kv_head < kv_heads,
                format!("below {kv_heads}"),
                kv_head,
            ),
            (
                "key",
                key.len() == shape.head_dim,
                format!("{} numbers", shape.head_dim),
                key.len(),
            ),
            (
                "value",
                value.len() == shape.head_dim,
                format!("{} numbers", shape.head_dim),
                value.len(),
            ),
        ];
        if let Some((argument, _, expected, actual)) = rules.into_iter().find(|rule| !rule.1) {
            return Err(TensorError::Argument {
                operator: "LayerCache::write",
                argument,
                expected,
                actual: actual.to_string(),
            });
        }
        if self.order == CellOrder::Rows {
            let (layout, group) = (self.row_cell(), slot / GROUP);
            let mut cell = self.row_bytes(group, kv_head)?;
            layout.write(&mut cell, slot % GROUP, Vector::Key, key);
            layout.write(&mut cell, slot % GROUP, Vector::Value, value);
            return self.set_row_bytes(group, kv_head, &cell);
        }
        let start = self.start(slot / GROUP, kv_head);
        let cell = &mut self.words.as_mut_slice()[start..start + shape.words()];
        (portable::KERNELS.store_key)(shape, cell, slot % GROUP, key);
        (portable::KERNELS.store_value)(shape, cell, slot % GROUP, value);
        Ok(())
    }

    /// A cell in [`CellOrder::Rows`].
    fn row_bytes(&self, group: usize, kv_head: usize) -> Result<Vec<u8>, TensorError> {
        let len = self.row_cell().bytes();
        let start = (group * self.kv_heads + kv_head) * len;
        let mut cell = vec![0; len];
        match &self.words {
            Memory::Host(bytes) => cell.copy_from_slice(&bytes.as_slice()[start..start + len]),
            Memory::Device(bytes) => bytes.download(start, &mut cell)?,
        }
        Ok(cell)
    }

    /// Overwrites a cell in [`CellOrder::Rows`].
    fn set_row_bytes(
        &mut self,
        group: usize,
        kv_head: usize,
        cell: &[u8],
    ) -> Result<(), TensorError> {
        let start = (group * self.kv_heads + kv_head) * cell.len();
        match &mut self.words {
            Memory::Host(bytes) => {
                bytes.as_mut_slice()[start..start + cell.len()].copy_from_slice(cell);
                Ok(())
            }
            Memory::Device(bytes) => bytes.upload(start, cell),
        }
    }

    pub(crate) fn shape(&self) -> CellShape {
        self.shape
    }

    /// All cells, `[groups, kv_heads, shape.words()]`.
    pub(crate) fn words_mut(&mut self) -> &mut [u32] {
        self.words.as_mut_slice()
    }

    /// What a key head stores for a group of slots.
    pub(crate) fn cell(&self, group: usize, kv_head: usize) -> &[u32] {
        let start = self.start(group, kv_head);
        &self.words.as_slice()[start..start + self.shape.words()]
    }

    fn start(&self, group: usize, kv_head: usize) -> usize {
        (group * self.kv_heads + kv_head) * self.shape.words()
    }

    /// Element `i` of the key (0) or value (1) of a slot of a cell.
    fn number(&self, cell: &[u32], slot: usize, i: usize, which: usize) -> f32 {
        let per_word = self.shape.format.per_word();
        let (word, part) = if which == 0 {
            (cell[i / per_word * GROUP + slot], i % per_word)
        } else {
            let row = self.shape.values() + slot / per_word * self.shape.value_stride();
            (cell[row + i], slot % per_word)
        };
        match self.shape.format {
            KvFormat::F32 => f32::from_bits(word),
            KvFormat::Bf16 => bf16::from_bits((word >> (16 * part)) as u16).widen(),
            KvFormat::Int8 => {
                let byte = (word >> (8 * part)) as u8;
                // Keys are stored with 128 added.
                let signed = (if which == 0 { byte ^ 0x80 } else { byte }) as i8;
                let scale = cell[self.shape.scales()[which].start + slot];
                // The sum turns -0 (a slot never written) into 0.
                f32::from(signed) * f32::from_bits(scale) + 0.0
            }
        }
    }
}

impl fmt::Debug for LayerCache {
    /// Names format and sizes; the numbers are too many to print.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayerCache")
            .field("format", &self.shape.format)
            .field("slots", &self.slots())
            .field("kv_heads", &self.kv_heads)
            .field("head_dim", &self.shape.head_dim)
            .finish_non_exhaustive()
    }
}
