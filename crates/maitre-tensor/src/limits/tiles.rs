//! The loops of products in AMX tiles: four tiles of sums, each met by operands that are loaded once.
//!
//! ```text
//! instruction              products of an instruction
//! tdpbf16ps     bf16       16 x 16 x 32
//! tdpbsud       int8       16 x 16 x 64
//! ```
#![allow(unsafe_code)]

use std::arch::asm;

use super::{Arithmetic, Loops};
use crate::x86::amx::{Shapes, is_granted};

/// Tiles of sums; two more hold the operands.
const SUMS: usize = 4;

/// A multiplication and an addition.
const OPS: usize = 2;

/// Words of a tile.
const WORDS: usize = 256;

/// `loops` with those of tiles in place of what they are faster than, where tiles may be used.
pub(super) fn or(loops: Loops) -> Loops {
    if !is_granted() {
        return loops;
    }
    let arithmetic = |products, run| Arithmetic {
        ops_per_turn: SUMS * 16 * 16 * products * OPS,
        run,
    };
    Loops {
        bf16: Some(arithmetic(32, bf16)),
        int8: arithmetic(64, int8),
        ..loops
    }
}

macro_rules! turns {
    ($name:ident, $dot:literal, $operand:literal) => {
        fn $name(turns: usize) -> u64 {
            let shapes = Shapes::new([(16, 64); 8]);
            let operands = [$operand; WORDS];
            let mut sums = [0_u32; WORDS];
            // SAFETY: only reached where tiles may be used; a tile is as long as each array.
            unsafe {
                asm!(
                    "ldtilecfg [{shapes}]",
                    "tileloadd tmm4, [{operands} + 1*{stride}]",
                    "tileloadd tmm5, [{operands} + 1*{stride}]",
                    "test {turns}, {turns}",
                    "jz 3f",
                    "2:",
                    concat!($dot, " tmm0, tmm4, tmm5"),
                    concat!($dot, " tmm1, tmm4, tmm5"),
                    concat!($dot, " tmm2, tmm4, tmm5"),
                    concat!($dot, " tmm3, tmm4, tmm5"),
                    "dec {turns}",
                    "jnz 2b",
                    "3:",
                    "tilestored [{sums} + 1*{stride}], tmm3",
                    "tilerelease",
                    shapes = in(reg) &raw const shapes,
                    operands = in(reg) &raw const operands,
                    sums = in(reg) &raw mut sums,
                    stride = in(reg) 64_usize,
                    turns = inout(reg) turns => _,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
            sums.iter().fold(0, |all: u64, word| {
                all.rotate_left(7).wrapping_mul(31) ^ u64::from(*word)
            })
        }
    };
}

// Two small bf16 numbers: the sums stay finite.
turns!(bf16, "tdpbf16ps", 0x3a80_3a80_u32);
turns!(int8, "tdpbsud", 0x0305_0305_u32);
