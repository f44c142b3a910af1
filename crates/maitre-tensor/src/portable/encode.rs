//! Activations in the form in which the products read them; see [`LinearInput`](crate::LinearInput).

use half::bf16;

use crate::element::Element;
use crate::format::InputFormat;
use crate::input::{Group, InputRows, InputShape};
use crate::weight::nearest;

/// See [`Kernels::encode`](crate::kernels::Kernels::encode).
pub(crate) fn encode(values: &[f32], shape: &InputShape, words: &mut [u32], groups: &mut [Group]) {
    match shape.format {
        InputFormat::F32 => {
            for (word, value) in words.iter_mut().zip(values) {
                *word = value.to_bits();
            }
        }
        InputFormat::Bf16 => encode_bf16(values, words),
        InputFormat::Int8 { .. } => {
            words.fill(0);
            let len = shape.group_len();
            let words = words.chunks_mut(len.div_ceil(4));
            for ((values, words), group) in values.chunks(len).zip(words).zip(groups) {
                *group = encode_int8(values, words);
            }
        }
    }
}

fn encode_bf16(values: &[f32], words: &mut [u32]) {
    let bits = |value: f32| u32::from(<bf16 as Element>::round(value).to_bits());
    let (pairs, rest) = values.as_chunks::<2>();
    for (word, [low, high]) in words.iter_mut().zip(pairs) {
        *word = bits(*low) | bits(*high) << 16;
    }
    if let ([last], Some(word)) = (rest, words.get_mut(pairs.len())) {
        *word = bits(*last);
    }
}

/// Rounds to 255 steps.
pub(crate) fn encode_int8(values: &[f32], words: &mut [u32]) -> Group {
    let magnitude = |value: &f32| value.to_bits() & 0x7fff_ffff;
    let largest = values.iter().map(magnitude).max().unwrap_or(0);
    let Some(steps) = Steps::of(f32::from_bits(largest)) else {
        words.fill(0);
        return SPOILED;
    };
    Group {
        scale: steps.scale,
        sum: steps.encode(values, words),
    }
}

/// What becomes of a group with a number that is not finite: every product of its row is NaN.
pub(crate) const SPOILED: Group = Group {
    scale: f32::NAN,
    sum: 0,
};

/// The steps of a group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Steps {
    pub(crate) scale: f32,
    pub(crate) inverse: f32,
}

impl Steps {
    /// The steps that reach the largest magnitude; none for infinity and NaN.
    pub(crate) fn of(largest: f32) -> Option<Self> {
        // Below this the inverse would be infinite; such a row is zero to every weight.
        const LEAST: f32 = f32::MIN_POSITIVE * 128.0;
        let inverse = if largest >= LEAST {
            127.0 / largest
        } else {
            0.0
        };
        largest.is_finite().then_some(Self {
            scale: largest / 127.0,
            inverse,
        })
    }

    /// Writes four numbers per word and returns their sum.
    pub(crate) fn encode(self, values: &[f32], words: &mut [u32]) -> i32 {
        let mut sum = 0;
        for (word, values) in words.iter_mut().zip(values.chunks(4)) {
            let mut bytes = [0; 4];
            for (byte, value) in bytes.iter_mut().zip(values) {
                let step = nearest(value * self.inverse);
                sum += step;
                *byte = step as i8 as u8;
            }
            *word = u32::from_le_bytes(bytes);
        }
        sum
    }
}

/// A row as f32 numbers.
pub(crate) fn decode(row: InputRows<'_>, out: &mut [f32]) {
    for (col, out) in out.iter_mut().enumerate() {
        *out = match row.shape.format {
            InputFormat::F32 => f32::from_bits(row.words[col]),
            InputFormat::Bf16 => {
                bf16::from_bits((row.words[col / 2] >> (col % 2 * 16)) as u16).widen()
            }
            InputFormat::Int8 { .. } => {
                let step = row.words[col / 4].to_le_bytes()[col % 4] as i8;
                f32::from(step) * row.groups[col / row.shape.group_len()].scale
            }
        };
    }
}
