//! The loops in plain Rust: what the compiler makes of them is what this machine is taken to reach.

use std::array;
use std::hint::black_box;

use super::region::LINE;
use super::{Arithmetic, Loops};

/// Independent chains: enough for the latency of an instruction on vectors of eight lanes.
const LANES: usize = 64;

/// A multiplication and an addition.
const OPS: usize = 2;

/// The loops for any machine.
pub(super) fn loops() -> Loops {
    Loops {
        f32: Arithmetic {
            ops_per_turn: LANES * OPS,
            run: f32_turns,
        },
        bf16: None,
        int8: Arithmetic {
            ops_per_turn: LANES * OPS,
            run: int8_turns,
        },
        read: sum,
    }
}

/// `sum = sum * a + b`, not fused: a processor whose fused instruction is not known to be there
/// would have it emulated.
fn f32_turns(turns: usize) -> u64 {
    let (a, b) = black_box((0.999_f32, 0.001_f32));
    let mut sums: [f32; LANES] = array::from_fn(|lane| lane as f32);
    for _ in 0..turns {
        for sum in &mut sums {
            *sum = *sum * a + b;
        }
    }
    let bits = sums.map(|sum| u64::from(sum.to_bits()));
    bits.iter().fold(0, |all, bits| all.rotate_left(1) ^ bits)
}

/// `sum += a * low byte of sum`, in 32 bits.
fn int8_turns(turns: usize) -> u64 {
    let a = black_box(77_i32);
    let mut sums: [i32; LANES] = array::from_fn(|lane| lane as i32);
    for _ in 0..turns {
        for sum in &mut sums {
            *sum = sum.wrapping_add(a * i32::from(*sum as i8) + 1);
        }
    }
    sums.iter()
        .fold(0, |all: u64, sum| all.rotate_left(1) ^ *sum as u64)
}

/// Adds all words of all lines.
fn sum(lines: &[[u8; LINE]]) -> u64 {
    let mut sums = [0_u64; LINE / 8];
    for line in lines {
        for (sum, word) in sums.iter_mut().zip(line.as_chunks().0) {
            *sum = sum.wrapping_add(u64::from_le_bytes(*word));
        }
    }
    sums.iter().fold(0, |all, sum| all.wrapping_add(*sum))
}
