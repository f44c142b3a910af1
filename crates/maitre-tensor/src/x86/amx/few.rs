//! Products of one or two rows, added up in the order of tiles by AVX-512's instructions.
//!
//! So few rows are a stream of weights from memory. A tile is loaded whole, sixteen lines, before its product begins, which
//! keeps memory less busy than loads of single lines do.
//!
//! For the sums to be those of a tile to the bit, even and odd numbers are summed apart over sixteen
//! words, and subnormal numbers are zeros, of the operands as of the sums. The latter is a mode of the
//! processor, set for as long as the products take. Which bits a NaN has is not promised.

use std::arch::asm;

use super::registers::{DEPTH, LINE, Operands, WIDE_PANELS};

/// Most rows of a block.
pub(super) const FEW_ROWS: usize = 2;

/// MXCSR with no exceptions, rounding to the nearest, and subnormal operands (bit 6) and results
/// (bit 15) as zeros.
static FLUSHES: u32 = 0x9fc0;

/// Pairs of numbers in register `$odd` as even numbers in `$even` and odd ones in `$odd`, in f32.
#[rustfmt::skip]
macro_rules! split {
    ($even:literal, $odd:literal) => {
        concat!(
            "vpslld zmm", $even, ", zmm", $odd, ", 16\n",
            "vpandd zmm", $odd, ", zmm", $odd, ", zmm31\n",
        )
    };
}

/// Adds the products of a row with a panel to a pair of sums.
#[rustfmt::skip]
macro_rules! multiply {
    ($even:literal, $odd:literal, $sum:literal, $next:literal) => {
        concat!(
            "vfmadd231ps zmm", $sum, ", zmm29, zmm", $even, "\n",
            "vfmadd231ps zmm", $next, ", zmm30, zmm", $odd, "\n",
        )
    };
}

/// Registers to zero.
#[rustfmt::skip]
macro_rules! clear {
    ($($sum:literal),*) => {
        concat!($("vpxord zmm", $sum, ", zmm", $sum, ", zmm", $sum, "\n"),*)
    };
}

/// A sum of even numbers and one of odd ones, added to what is in memory.
#[rustfmt::skip]
macro_rules! add_up {
    ($even:literal, $odd:literal, $place:literal) => {
        concat!(
            "vaddps zmm", $even, ", zmm", $even, ", zmm", $odd, "\n",
            "vaddps zmm", $even, ", zmm", $even, ", [{c} + ", $place, "]\n",
            "vmovups [{c} + ", $place, "], zmm", $even, "\n",
        )
    };
}

/// The products of rows with four panels: what to do before a tile of words, for a word, and after the tile.
macro_rules! products {
    ($operands:ident, before: $before:expr, word: $word:expr, after: $after:expr) => {{
        let Operands {
            a, panels, sums, ..
        } = *$operands;
        let [b0, b1, b2, b3] = panels;
        let mut saved = 0_u32;
        asm!(
            "stmxcsr [{saved}]",
            "ldmxcsr [{flushes}]",
            "vpternlogd zmm31, zmm31, zmm31, 255",
            "vpslld zmm31, zmm31, 16",
            "2:",
            "mov {words}, {tile}",
            "cmp {left}, {words}",
            "cmovb {words}, {left}",
            "sub {left}, {words}",
            $before,
            "3:",
            $word,
            "add {a0}, 4",
            "add {a1}, 4",
            "add {at}, 64",
            "dec {words}",
            "jnz 3b",
            $after,
            "test {left}, {left}",
            "jnz 2b",
            "ldmxcsr [{saved}]",
            // The compiler does not see that the upper halves are in use.
            "vzeroupper",
            saved = in(reg) &raw mut saved,
            flushes = in(reg) &raw const FLUSHES,
            tile = const DEPTH,
            left = inout(reg) $operands.depth => _,
            words = out(reg) _,
            at = inout(reg) 0_usize => _,
            a0 = inout(reg) a => _,
            a1 = inout(reg) a.wrapping_byte_add($operands.a_stride) => _,
            b0 = in(reg) b0,
            b1 = in(reg) b1,
            b2 = in(reg) b2,
            b3 = in(reg) b3,
            c = in(reg) sums,
            out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _,
            out("zmm4") _, out("zmm5") _, out("zmm6") _, out("zmm7") _,
            out("zmm8") _, out("zmm9") _, out("zmm10") _, out("zmm11") _,
            out("zmm12") _, out("zmm13") _, out("zmm14") _, out("zmm15") _,
            out("zmm24") _, out("zmm25") _, out("zmm26") _, out("zmm27") _,
            out("zmm29") _, out("zmm30") _, out("zmm31") _,
            options(nostack),
        );
    }};
}

/// The sums of one or two rows with four panels, as [`TileDot::wide`](super::registers::TileDot::wide) of
/// [`Bf16`](super::registers::Bf16) has them.
///
/// # Safety
///
/// The processor has AVX-512; there are one or two rows, a word long at least, whose sums lie behind each other; all that `operands`
/// names is readable, the sums writable.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) unsafe fn few(operands: &Operands<WIDE_PANELS>) {
    debug_assert!((1..=FEW_ROWS).contains(&operands.rows) && operands.depth > 0);
    debug_assert_eq!(operands.sums_stride, WIDE_PANELS * LINE);
    // SAFETY: the caller promises the memory. Without a second row its words are not read. The mode is
    // as before when the instructions are left.
    unsafe {
        operands
            .sums
            .write_bytes(0, operands.rows * WIDE_PANELS * LINE);
        if operands.rows == 1 {
            products!(
                operands,
                before: clear!("0", "1", "2", "3", "4", "5", "6", "7"),
                word: concat!(
                    "vpbroadcastd zmm25, [{a0}]\n", split!("24", "25"),
                    "vmovdqu32 zmm30, [{b0} + {at}]\n", split!("29", "30"), multiply!("24", "25", "0", "1"),
                    "vmovdqu32 zmm30, [{b1} + {at}]\n", split!("29", "30"), multiply!("24", "25", "2", "3"),
                    "vmovdqu32 zmm30, [{b2} + {at}]\n", split!("29", "30"), multiply!("24", "25", "4", "5"),
                    "vmovdqu32 zmm30, [{b3} + {at}]\n", split!("29", "30"), multiply!("24", "25", "6", "7"),
                ),
                after: concat!(
                    add_up!("0", "1", "0"), add_up!("2", "3", "64"),
                    add_up!("4", "5", "128"), add_up!("6", "7", "192"),
                )
            );
        } else {
            products!(
                operands,
                before: clear!("0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15"),
                word: concat!(
                    "vpbroadcastd zmm25, [{a0}]\n", split!("24", "25"),
                    "vpbroadcastd zmm27, [{a1}]\n", split!("26", "27"),
                    "vmovdqu32 zmm30, [{b0} + {at}]\n", split!("29", "30"),
                    multiply!("24", "25", "0", "1"), multiply!("26", "27", "8", "9"),
                    "vmovdqu32 zmm30, [{b1} + {at}]\n", split!("29", "30"),
                    multiply!("24", "25", "2", "3"), multiply!("26", "27", "10", "11"),
                    "vmovdqu32 zmm30, [{b2} + {at}]\n", split!("29", "30"),
                    multiply!("24", "25", "4", "5"), multiply!("26", "27", "12", "13"),
                    "vmovdqu32 zmm30, [{b3} + {at}]\n", split!("29", "30"),
                    multiply!("24", "25", "6", "7"), multiply!("26", "27", "14", "15"),
                ),
                after: concat!(
                    add_up!("0", "1", "0"), add_up!("2", "3", "64"),
                    add_up!("4", "5", "128"), add_up!("6", "7", "192"),
                    add_up!("8", "9", "256"), add_up!("10", "11", "320"),
                    add_up!("12", "13", "384"), add_up!("14", "15", "448"),
                )
            );
        }
    }
}
