//! Blocks of 32 numbers, one group each.

use super::{E2M1_TWICE, Group, IQ4_VALUES, MOST_CODES, half};

const LEN: usize = MOST_CODES;

/// The 32 codes of 16 bytes: low halves first.
fn nibbles(bytes: &[u8], code: impl Fn(usize, u8) -> i8) -> [i8; LEN] {
    let mut codes = [0; LEN];
    let (low, high) = codes.split_at_mut(LEN / 2);
    for (index, ((low, high), byte)) in low.iter_mut().zip(high).zip(bytes).enumerate() {
        *low = code(index, byte & 15);
        *high = code(index + LEN / 2, byte >> 4);
    }
    codes
}

fn visit_one(scale: f32, minimum: f32, codes: &[i8], mut visit: impl FnMut(Group<'_>)) {
    visit(Group {
        scale,
        minimum,
        codes,
    });
}

pub(super) fn q4_0(block: &[u8], visit: impl FnMut(Group<'_>)) {
    let (scale, bytes) = block.split_at(2);
    let codes = nibbles(bytes, |_, nibble| nibble as i8 - 8);
    visit_one(half(scale), 0.0, &codes, visit);
}

pub(super) fn q4_1(block: &[u8], visit: impl FnMut(Group<'_>)) {
    let (head, bytes) = block.split_at(4);
    let codes = nibbles(bytes, |_, nibble| nibble as i8);
    visit_one(half(head), -half(&head[2..]), &codes, visit);
}

/// The fifth bits of 32 codes.
fn fifth_bits(bytes: &[u8]) -> impl Fn(usize) -> u8 {
    let mut word = [0; 4];
    word.copy_from_slice(bytes);
    let word = u32::from_le_bytes(word);
    move |index| ((word >> index & 1) << 4) as u8
}

pub(super) fn q5_0(block: &[u8], visit: impl FnMut(Group<'_>)) {
    let (head, bytes) = block.split_at(6);
    let fifth = fifth_bits(&head[2..]);
    let codes = nibbles(bytes, |index, nibble| (nibble | fifth(index)) as i8 - 16);
    visit_one(half(head), 0.0, &codes, visit);
}

pub(super) fn q5_1(block: &[u8], visit: impl FnMut(Group<'_>)) {
    let (head, bytes) = block.split_at(8);
    let fifth = fifth_bits(&head[4..]);
    let codes = nibbles(bytes, |index, nibble| (nibble | fifth(index)) as i8);
    visit_one(half(head), -half(&head[2..]), &codes, visit);
}

pub(super) fn q8_0(block: &[u8], visit: impl FnMut(Group<'_>)) {
    let (scale, bytes) = block.split_at(2);
    let mut codes = [0; LEN];
    for (code, byte) in codes.iter_mut().zip(bytes) {
        *code = byte.cast_signed();
    }
    visit_one(half(scale), 0.0, &codes, visit);
}

pub(super) fn iq4_nl(block: &[u8], visit: impl FnMut(Group<'_>)) {
    let (scale, bytes) = block.split_at(2);
    let codes = nibbles(bytes, |_, nibble| IQ4_VALUES[usize::from(nibble)]);
    visit_one(half(scale), 0.0, &codes, visit);
}

pub(super) fn mxfp4(block: &[u8], visit: impl FnMut(Group<'_>)) {
    let (exponent, bytes) = block.split_at(1);
    let codes = nibbles(bytes, |_, nibble| E2M1_TWICE[usize::from(nibble)]);
    visit_one(half_of_e8m0(exponent[0]), 0.0, &codes, visit);
}

/// `2^(exponent - 127)` halved, for codes are twice the floats' values. The two least are subnormal.
fn half_of_e8m0(exponent: u8) -> f32 {
    match exponent {
        0 | 1 => f32::from_bits(0x0020_0000 << exponent),
        _ => f32::from_bits((u32::from(exponent) - 1) << 23),
    }
}
