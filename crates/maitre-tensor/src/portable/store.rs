//! Keys and values, rounded into the cells of the cache ([`CellShape`]).

use half::bf16;

use super::query::{Magnitude, quantize};
use crate::cache::{CellShape, GROUP, KvFormat};
use crate::element::Element;

/// Largest int8 number used: the range is symmetric.
pub(crate) const LARGEST: f32 = 127.0;

/// See [`Kernels::store_key`](crate::kernels::Kernels::store_key).
///
/// Int8 keys are stored with 128 added: the dot instruction multiplies unsigned by signed bytes.
#[inline(always)]
pub(crate) fn store_key(shape: CellShape, cell: &mut [u32], slot: usize, key: &[f32]) {
    let rows = cell[slot..shape.values()].iter_mut().step_by(GROUP);
    match shape.format {
        KvFormat::F32 => {
            for (word, number) in rows.zip(key) {
                *word = number.to_bits();
            }
        }
        KvFormat::Bf16 => {
            for (word, numbers) in rows.zip(key.chunks(2)) {
                let bits = |number: &f32| u32::from(<bf16 as Element>::round(*number).to_bits());
                *word = bits(&numbers[0]) | numbers.get(1).map_or(0, bits) << 16;
            }
        }
        KvFormat::Int8 => {
            let magnitude = Magnitude::of(key, LARGEST);
            for (word, numbers) in rows.zip(key.chunks(4)) {
                *word = numbers.iter().enumerate().fold(0, |word, (i, number)| {
                    let byte = quantize(*number, magnitude) as u8 ^ 0x80;
                    word | u32::from(byte) << (8 * i)
                });
            }
            cell[shape.scales()[0].start + slot] = magnitude.unit.to_bits();
        }
    }
}

/// See [`Kernels::store_value`](crate::kernels::Kernels::store_value).
#[inline(always)]
pub(crate) fn store_value(shape: CellShape, cell: &mut [u32], slot: usize, value: &[f32]) {
    let per_word = shape.format.per_word();
    let start = shape.values() + slot / per_word * shape.value_stride();
    let words = cell[start..start + shape.head_dim].iter_mut();
    match shape.format {
        KvFormat::F32 => {
            for (word, number) in words.zip(value) {
                *word = number.to_bits();
            }
        }
        KvFormat::Bf16 => {
            let shift = slot % 2 * 16;
            for (word, number) in words.zip(value) {
                let bits = u32::from(<bf16 as Element>::round(*number).to_bits());
                *word = *word & !(0xffff << shift) | bits << shift;
            }
        }
        KvFormat::Int8 => {
            let magnitude = Magnitude::of(value, LARGEST);
            let shift = slot % 4 * 8;
            for (word, number) in words.zip(value) {
                let byte = u32::from(quantize(*number, magnitude) as u8);
                *word = *word & !(0xff << shift) | byte << shift;
            }
            cell[shape.scales()[1].start + slot] = magnitude.unit.to_bits();
        }
    }
}
