//! Blocks of 256 numbers, in groups of 16 or 32.

use super::{Unpacked, half};

/// Numbers of a block.
const LEN: usize = 256;

/// Joins bits of codes that lie `PER_BYTE` to a byte, `run` bytes at a time: first the lowest bits of the run, then the
/// next ones. They go to `shift` and above.
#[inline(always)]
fn join<const PER_BYTE: usize>(bytes: &[u8], run: usize, shift: usize, codes: &mut [u8; LEN]) {
    let bits = 8 / PER_BYTE;
    let mask = ((1_u16 << bits) - 1) as u8;
    let codes = codes.chunks_exact_mut(run * PER_BYTE);
    for (bytes, codes) in bytes.chunks_exact(run).zip(codes) {
        for (part, codes) in codes.chunks_exact_mut(run).enumerate() {
            for (code, byte) in codes.iter_mut().zip(bytes) {
                *code |= (byte >> (part * bits) & mask) << shift;
            }
        }
    }
}

pub(super) fn q2_k(block: &[u8], out: &mut Unpacked) {
    let (scales, rest) = block.split_at(16);
    let (bytes, factors) = rest.split_at(64);
    (out.scale, out.minimum) = (half(factors), half(&factors[2..]));
    for (index, byte) in scales.iter().enumerate() {
        out.scales[index] = (byte & 15).cast_signed();
        out.minimums[index] = byte >> 4;
    }
    out.codes = [0; LEN];
    join::<4>(bytes, 32, 0, &mut out.codes);
}

pub(super) fn q3_k(block: &[u8], out: &mut Unpacked) {
    let (high, rest) = block.split_at(32);
    let (bytes, rest) = rest.split_at(64);
    let (scales, scale) = rest.split_at(12);
    out.scale = half(scale);
    for (index, out) in out.scales.iter_mut().enumerate() {
        let low = scales[index % 8] >> (index / 8 * 4) & 15;
        let high = scales[8 + index % 4] >> (index / 4 * 2) & 3;
        *out = (low | high << 4).cast_signed() - 32;
    }
    out.codes = [0; LEN];
    join::<4>(bytes, 32, 0, &mut out.codes);
    join::<8>(high, 32, 2, &mut out.codes);
}

/// Scale and minimum of 6 bits of one of eight groups: those of the first four lie alone in their bytes' low bits,
/// those of the others in halves of bytes and in the first ones' high bits.
fn six_bits(bytes: &[u8], index: usize) -> (u8, u8) {
    if index < 4 {
        return (bytes[index] & 63, bytes[index + 4] & 63);
    }
    let byte = bytes[index + 4];
    (
        byte & 15 | bytes[index - 4] >> 6 << 4,
        byte >> 4 | bytes[index] >> 6 << 4,
    )
}

/// Scales and minimums of Q4_K and Q5_K.
fn scaled(head: &[u8], out: &mut Unpacked) {
    let (factors, packed) = head.split_at(4);
    (out.scale, out.minimum) = (half(factors), half(&factors[2..]));
    for index in 0..8 {
        let (scale, minimum) = six_bits(packed, index);
        out.scales[index] = scale.cast_signed();
        out.minimums[index] = minimum;
    }
}

pub(super) fn q4_k(block: &[u8], out: &mut Unpacked) {
    let (head, bytes) = block.split_at(16);
    scaled(head, out);
    out.codes = [0; LEN];
    join::<2>(bytes, 32, 0, &mut out.codes);
}

pub(super) fn q5_k(block: &[u8], out: &mut Unpacked) {
    let (head, rest) = block.split_at(16);
    let (high, bytes) = rest.split_at(32);
    scaled(head, out);
    out.codes = [0; LEN];
    join::<2>(bytes, 32, 0, &mut out.codes);
    join::<8>(high, 32, 4, &mut out.codes);
}

pub(super) fn q6_k(block: &[u8], out: &mut Unpacked) {
    let (low, rest) = block.split_at(128);
    let (high, rest) = rest.split_at(64);
    let (scales, scale) = rest.split_at(16);
    out.scale = half(scale);
    for (out, byte) in out.scales.iter_mut().zip(scales) {
        *out = byte.cast_signed();
    }
    out.codes = [0; LEN];
    join::<2>(low, 64, 0, &mut out.codes);
    join::<4>(high, 32, 4, &mut out.codes);
}

pub(super) fn iq4_xs(block: &[u8], out: &mut Unpacked) {
    let (head, bytes) = block.split_at(8);
    out.scale = half(head);
    let high = u16::from_le_bytes([head[2], head[3]]);
    for index in 0..8 {
        let low = head[4 + index / 2] >> (index % 2 * 4) & 15;
        let high = (high >> (2 * index) & 3) as u8;
        out.scales[index] = (low | high << 4).cast_signed() - 32;
    }
    out.codes = [0; LEN];
    join::<2>(bytes, 16, 0, &mut out.codes);
}
