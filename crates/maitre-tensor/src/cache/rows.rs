//! Cells in the order of a GPU: slot by slot, so that a warp reads a key or a value as one piece.
//!
//! ```text
//! cell   keys [16][padded]   values [16][padded]   int8: scales of keys [16], of values [16], f32
//! ```
//!
//! `padded` is the size of a head rounded up to 16; the padding is zero. Everything is little-endian. What is
//! stored for a number is what the processor's order stores, but for the sign of int8 keys: here they are signed.

use std::ops::Range;

use half::bf16;

use super::{CellShape, GROUP, KvFormat};
use crate::element::Element;
use crate::portable::query::{Magnitude, quantize};
use crate::portable::store::LARGEST;

/// Where the parts of a cell lie; all counts are of bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowCell {
    shape: CellShape,
}

/// Which of the two vectors of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vector {
    Key = 0,
    Value = 1,
}

impl RowCell {
    pub(crate) fn new(shape: CellShape) -> Self {
        Self { shape }
    }

    /// Size of a stored key or value, padding included.
    pub(crate) fn row_bytes(self) -> usize {
        self.shape.head_dim.next_multiple_of(GROUP) * self.number_bytes()
    }

    /// Size of a cell.
    pub(crate) fn bytes(self) -> usize {
        let scales = if self.has_scales() { 2 * GROUP } else { 0 };
        2 * GROUP * self.row_bytes() + scales * size_of::<f32>()
    }

    pub(crate) fn has_scales(self) -> bool {
        self.shape.format == KvFormat::Int8
    }

    /// Copies `slots` slots, whatever they hold.
    pub(crate) fn copy_slots(
        self,
        (from, source): (&[u8], usize),
        (to, target): (&mut [u8], usize),
        slots: usize,
    ) {
        for (slot, vector) in (0..slots).flat_map(|i| [(i, Vector::Key), (i, Vector::Value)]) {
            let [read, written] = [source, target].map(|first| self.row(first + slot, vector));
            to[written].copy_from_slice(&from[read]);
            if self.has_scales() {
                let [read, written] =
                    [source, target].map(|first| self.scale(first + slot, vector));
                to[written].copy_from_slice(&from[read]);
            }
        }
    }

    /// A stored key or value, widened.
    pub(crate) fn read(self, cell: &[u8], slot: usize, vector: Vector) -> Vec<f32> {
        let row = &cell[self.row(slot, vector)];
        let dim = 0..self.shape.head_dim;
        match self.shape.format {
            KvFormat::F32 => dim.map(|i| Element::from_le_bytes(&row[4 * i..])).collect(),
            KvFormat::Bf16 => {
                let number = |i: usize| <bf16 as Element>::from_le_bytes(&row[2 * i..]).widen();
                dim.map(number).collect()
            }
            KvFormat::Int8 => {
                let unit: f32 = Element::from_le_bytes(&cell[self.scale(slot, vector)]);
                // The sum turns -0 into 0.
                dim.map(|i| f32::from(row[i] as i8) * unit + 0.0).collect()
            }
        }
    }

    /// Stores a key or a value, rounded as the operators do.
    pub(crate) fn write(self, cell: &mut [u8], slot: usize, vector: Vector, numbers: &[f32]) {
        let magnitude = Magnitude::of(numbers, LARGEST);
        let row = &mut cell[self.row(slot, vector)];
        for (bytes, number) in row.chunks_exact_mut(self.number_bytes()).zip(numbers) {
            match self.shape.format {
                KvFormat::F32 => bytes.copy_from_slice(&number.to_le_bytes()),
                KvFormat::Bf16 => {
                    let rounded = <bf16 as Element>::round(*number);
                    bytes.copy_from_slice(&rounded.to_le_bytes());
                }
                KvFormat::Int8 => bytes[0] = quantize(*number, magnitude) as u8,
            }
        }
        if self.has_scales() {
            cell[self.scale(slot, vector)].copy_from_slice(&magnitude.unit.to_le_bytes());
        }
    }

    fn number_bytes(self) -> usize {
        size_of::<u32>() / self.shape.format.per_word()
    }

    fn row(self, slot: usize, vector: Vector) -> Range<usize> {
        let start = (vector as usize * GROUP + slot) * self.row_bytes();
        start..start + self.row_bytes()
    }

    fn scale(self, slot: usize, vector: Vector) -> Range<usize> {
        let scales = 2 * GROUP * self.row_bytes();
        let start = scales + (vector as usize * GROUP + slot) * size_of::<f32>();
        start..start + size_of::<f32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_reads_as_it_was_written_and_its_neighbours_stay() {
        for (format, step) in [
            (KvFormat::F32, 0.0),
            (KvFormat::Bf16, 1.0 / 256.0),
            (KvFormat::Int8, 1.0 / 254.0),
        ] {
            let cell = RowCell::new(CellShape::new(format, 18));
            let mut bytes = vec![0; cell.bytes()];
            let numbers =
                |slot: usize| (0..18).map(move |i| ((slot * 7 + i * 3) % 19) as f32 - 9.0);
            for slot in 0..GROUP {
                cell.write(
                    &mut bytes,
                    slot,
                    Vector::Key,
                    &numbers(slot).collect::<Vec<_>>(),
                );
                cell.write(
                    &mut bytes,
                    slot,
                    Vector::Value,
                    &numbers(slot + 1).collect::<Vec<_>>(),
                );
            }
            for slot in 0..GROUP {
                for (vector, seed) in [(Vector::Key, slot), (Vector::Value, slot + 1)] {
                    let read = cell.read(&bytes, slot, vector);
                    for (read, written) in read.iter().zip(numbers(seed)) {
                        assert!(
                            (read - written).abs() <= step * 9.0,
                            "{format} {read} {written}"
                        );
                    }
                }
            }
        }
    }
}
