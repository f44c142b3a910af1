//! Blocks of 256 numbers, in groups of 16 or 32.

use super::{Group, IQ4_VALUES, MOST_CODES, half};

/// Numbers of a block.
const LEN: usize = 256;

/// All codes of a block, in order.
type Codes = [i8; LEN];

/// Hands out the groups of a block.
fn visit_all(
    codes: &Codes,
    len: usize,
    scales: impl Fn(usize) -> (f32, f32),
    mut visit: impl FnMut(Group<'_>),
) {
    for (index, codes) in codes.chunks_exact(len).enumerate() {
        let (scale, minimum) = scales(index);
        visit(Group {
            scale,
            minimum,
            codes,
        });
    }
}

/// Codes whose low bits lie `per_byte` to a byte, `run` bytes at a time: first the lowest bits of the run, then the
/// next ones.
fn strided(bytes: &[u8], run: usize, per_byte: usize, mut set: impl FnMut(usize, u8)) {
    let bits = 8 / per_byte;
    let mask = ((1_u16 << bits) - 1) as u8;
    let mut index = 0;
    for run in bytes.chunks_exact(run) {
        for part in 0..per_byte {
            for byte in run {
                set(index, byte >> (part * bits) & mask);
                index += 1;
            }
        }
    }
}

pub(super) fn q2_k(block: &[u8], visit: impl FnMut(Group<'_>)) {
    let (scales, rest) = block.split_at(16);
    let (bytes, factors) = rest.split_at(64);
    let (scale, minimum) = (half(factors), half(&factors[2..]));
    let mut codes = [0; LEN];
    strided(bytes, 32, 4, |index, bits| codes[index] = bits as i8);
    let of_group = |index: usize| {
        let byte = scales[index];
        (scale * f32::from(byte & 15), minimum * f32::from(byte >> 4))
    };
    visit_all(&codes, 16, of_group, visit);
}

pub(super) fn q3_k(block: &[u8], visit: impl FnMut(Group<'_>)) {
    let (high, rest) = block.split_at(32);
    let (bytes, rest) = rest.split_at(64);
    let (scales, scale) = rest.split_at(12);
    let scale = half(scale);
    let mut codes = [0; LEN];
    strided(bytes, 32, 4, |index, bits| codes[index] = bits as i8);
    // A third bit that is not set takes 4 off.
    strided(high, 32, 8, |index, bit| {
        codes[index] -= if bit == 0 { 4 } else { 0 }
    });
    let of_group = |index: usize| {
        let low = scales[index % 8] >> (index / 8 * 4) & 15;
        let high = scales[8 + index % 4] >> (index / 4 * 2) & 3;
        (scale * (f32::from(low | high << 4) - 32.0), 0.0)
    };
    visit_all(&codes, 16, of_group, visit);
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
fn scaled(head: &[u8]) -> impl Fn(usize) -> (f32, f32) + '_ {
    let (factors, packed) = head.split_at(4);
    let (scale, minimum) = (half(factors), half(&factors[2..]));
    move |index| {
        let (scales, minimums) = six_bits(packed, index);
        (scale * f32::from(scales), minimum * f32::from(minimums))
    }
}

pub(super) fn q4_k(block: &[u8], visit: impl FnMut(Group<'_>)) {
    let (head, bytes) = block.split_at(16);
    let mut codes = [0; LEN];
    strided(bytes, 32, 2, |index, bits| codes[index] = bits as i8);
    visit_all(&codes, MOST_CODES, scaled(head), visit);
}

pub(super) fn q5_k(block: &[u8], visit: impl FnMut(Group<'_>)) {
    let (head, rest) = block.split_at(16);
    let (high, bytes) = rest.split_at(32);
    let mut codes = [0; LEN];
    strided(bytes, 32, 2, |index, bits| codes[index] = bits as i8);
    strided(high, 32, 8, |index, bit| codes[index] |= (bit << 4) as i8);
    visit_all(&codes, MOST_CODES, scaled(head), visit);
}

pub(super) fn q6_k(block: &[u8], visit: impl FnMut(Group<'_>)) {
    let (low, rest) = block.split_at(128);
    let (high, rest) = rest.split_at(64);
    let (scales, scale) = rest.split_at(16);
    let scale = half(scale);
    let mut codes = [0; LEN];
    strided(low, 64, 2, |index, bits| codes[index] = bits as i8 - 32);
    strided(high, 32, 4, |index, bits| codes[index] += (bits << 4) as i8);
    let of_group = |index: usize| (scale * f32::from(scales[index].cast_signed()), 0.0);
    visit_all(&codes, 16, of_group, visit);
}

pub(super) fn iq4_xs(block: &[u8], visit: impl FnMut(Group<'_>)) {
    let (head, bytes) = block.split_at(8);
    let scale = half(head);
    let high = u16::from_le_bytes([head[2], head[3]]);
    let mut codes = [0; LEN];
    strided(bytes, 16, 2, |index, bits| {
        codes[index] = IQ4_VALUES[usize::from(bits)]
    });
    let of_group = |index: usize| {
        let low = head[4 + index / 2] >> (index % 2 * 4) & 15;
        let high = (high >> (2 * index) & 3) as u8;
        (scale * (f32::from(low | high << 4) - 32.0), 0.0)
    };
    visit_all(&codes, MOST_CODES, of_group, visit);
}
