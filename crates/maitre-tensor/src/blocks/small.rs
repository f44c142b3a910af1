//! Blocks of 32 numbers, one group each.

use super::{Unpacked, half};

/// Numbers of a block.
const LEN: usize = 32;

/// The 32 codes of 16 bytes: low halves first.
fn nibbles(bytes: &[u8], codes: &mut [u8]) {
    let (low, high) = codes[..LEN].split_at_mut(LEN / 2);
    for ((low, high), byte) in low.iter_mut().zip(high).zip(bytes) {
        *low = byte & 15;
        *high = byte >> 4;
    }
}

/// Adds the fifth bits of 32 codes.
fn add_fifth_bits(bytes: &[u8], codes: &mut [u8]) {
    for (byte, codes) in bytes.iter().zip(codes[..LEN].chunks_exact_mut(8)) {
        for (bit, code) in codes.iter_mut().enumerate() {
            *code |= (byte >> bit & 1) << 4;
        }
    }
}

pub(super) fn q4_0(block: &[u8], out: &mut Unpacked) {
    let (scale, bytes) = block.split_at(2);
    out.scale = half(scale);
    nibbles(bytes, &mut out.codes);
}

pub(super) fn q4_1(block: &[u8], out: &mut Unpacked) {
    let (head, bytes) = block.split_at(4);
    (out.scale, out.minimum) = (half(head), -half(&head[2..]));
    nibbles(bytes, &mut out.codes);
}

pub(super) fn q5_0(block: &[u8], out: &mut Unpacked) {
    let (head, bytes) = block.split_at(6);
    out.scale = half(head);
    nibbles(bytes, &mut out.codes);
    add_fifth_bits(&head[2..], &mut out.codes);
}

pub(super) fn q5_1(block: &[u8], out: &mut Unpacked) {
    let (head, bytes) = block.split_at(8);
    (out.scale, out.minimum) = (half(head), -half(&head[2..]));
    nibbles(bytes, &mut out.codes);
    add_fifth_bits(&head[4..], &mut out.codes);
}

pub(super) fn q8_0(block: &[u8], out: &mut Unpacked) {
    let (scale, bytes) = block.split_at(2);
    out.scale = half(scale);
    for (code, byte) in out.codes.iter_mut().zip(bytes) {
        *code = byte ^ 0x80;
    }
}

pub(super) fn mxfp4(block: &[u8], out: &mut Unpacked) {
    let (exponent, bytes) = block.split_at(1);
    out.scale = half_of_e8m0(exponent[0]);
    nibbles(bytes, &mut out.codes);
}

/// `2^(exponent - 127)` halved, for codes stand for twice the floats' values. The two least are subnormal.
fn half_of_e8m0(exponent: u8) -> f32 {
    match exponent {
        0 | 1 => f32::from_bits(0x0020_0000 << exponent),
        _ => f32::from_bits((u32::from(exponent) - 1) << 23),
    }
}
