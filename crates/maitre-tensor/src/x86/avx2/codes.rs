//! How codes of stored blocks are taken out of their planes, and how they meet activations.

use std::arch::x86_64::*;

use super::dot::{split_int8, widen};
use crate::input::{InputRows, InputShape};
use crate::team::Scratch;
use crate::weight::blocks::QUADS;
use crate::weight::layout::LINE;

/// Codes of one kind, eight output features at a time.
///
/// All functions need the instructions that [`kernels`](super::kernels) asks for, and pointers to as many bytes as they
/// read: half of each line of a unit, the words of a token's unit.
pub(super) trait Codes {
    /// Bits of a code: a unit has a line for each.
    const BITS: usize;
    /// Quads whose products add up without overflow.
    const RUN: usize;
    /// Words of a token's unit as they are prepared.
    const WORDS: usize = QUADS;
    /// Whether a group is half a unit: then the word behind a unit's quads has the sums of its halves.
    const HALVED: bool = false;
    /// A quad's codes.
    type Codes: Copy;
    /// A quad's activations.
    type Words: Copy;

    /// Brings token rows into the form that [`Codes::broadcast`] reads.
    fn prepare<'a>(x: InputRows<'a>, scratch: &'a mut Scratch) -> InputRows<'a>;

    /// # Safety
    ///
    /// See the trait.
    unsafe fn load<const QUAD: usize>(codes: *const u8, table: __m256i) -> Self::Codes;

    /// # Safety
    ///
    /// See the trait.
    unsafe fn broadcast<const QUAD: usize>(words: *const u32) -> Self::Words;

    /// # Safety
    ///
    /// See the trait.
    unsafe fn add(sums: __m256i, codes: Self::Codes, words: Self::Words) -> __m256i;

    /// The sums of a run, in 32 bits and times a factor.
    ///
    /// # Safety
    ///
    /// See the trait.
    unsafe fn widen(sums: __m256i, factor: __m256i) -> __m256i;
}

/// The codes of a line, moved down by some bits. Bits of neighbours are left in.
#[inline(always)]
unsafe fn line(codes: *const u8, line: usize, shift: usize) -> __m256i {
    // SAFETY: promised by the caller.
    unsafe {
        let codes = _mm256_loadu_si256(codes.add(line * LINE).cast());
        match shift {
            1 => _mm256_srli_epi16::<1>(codes),
            2 => _mm256_srli_epi16::<2>(codes),
            3 => _mm256_srli_epi16::<3>(codes),
            4 => _mm256_srli_epi16::<4>(codes),
            5 => _mm256_srli_epi16::<5>(codes),
            6 => _mm256_srli_epi16::<6>(codes),
            7 => _mm256_srli_epi16::<7>(codes),
            _ => codes,
        }
    }
}

/// The bits of `mask` in every byte.
#[inline(always)]
unsafe fn masked(codes: __m256i, mask: i8) -> __m256i {
    // SAFETY: promised by the caller.
    unsafe { _mm256_and_si256(codes, _mm256_set1_epi8(mask)) }
}

/// A quad of a plane of four bits.
#[inline(always)]
unsafe fn nibble<const QUAD: usize>(codes: *const u8) -> __m256i {
    // SAFETY: promised by the caller.
    unsafe { masked(line(codes, QUAD / 2, QUAD % 2 * 4), 0x0f) }
}

/// A quad of a plane of two bits that begins at line `first`.
#[inline(always)]
unsafe fn two_bits<const QUAD: usize>(codes: *const u8, first: usize) -> __m256i {
    // SAFETY: promised by the caller.
    unsafe { masked(line(codes, first + QUAD / 4, QUAD % 4 * 2), 0x03) }
}

/// A quad of a plane of one bit, which is line `first`.
#[inline(always)]
unsafe fn one_bit<const QUAD: usize>(codes: *const u8, first: usize) -> __m256i {
    // SAFETY: promised by the caller.
    unsafe { masked(line(codes, first, QUAD), 0x01) }
}

/// The kinds whose products are summed in 16 bits: how a quad is put together is all they differ in.
macro_rules! narrow {
    ($(#[$doc:meta])* $name:ident, bits: $bits:literal, run: $run:literal, halved: $halved:literal, $quad:ident, $codes:ident, $table:ident => $load:expr) => {
        $(#[$doc])*
        pub(super) struct $name;

        impl Codes for $name {
            const BITS: usize = $bits;
            const RUN: usize = $run;
            const WORDS: usize = QUADS + $halved as usize;
            const HALVED: bool = $halved;
            type Codes = __m256i;
            type Words = __m256i;

            #[inline(always)]
            fn prepare<'a>(x: InputRows<'a>, scratch: &'a mut Scratch) -> InputRows<'a> {
                if $halved { with_sums(x, scratch) } else { x }
            }

            #[inline(always)]
            unsafe fn load<const $quad: usize>($codes: *const u8, $table: __m256i) -> __m256i {
                // SAFETY: promised by the caller.
                unsafe { $load }
            }

            #[inline(always)]
            unsafe fn broadcast<const QUAD: usize>(words: *const u32) -> __m256i {
                // SAFETY: promised by the caller.
                unsafe { _mm256_set1_epi32((*words.add(QUAD)).cast_signed()) }
            }

            #[inline(always)]
            unsafe fn add(sums: __m256i, codes: __m256i, words: __m256i) -> __m256i {
                // SAFETY: promised by the caller.
                unsafe { _mm256_add_epi16(sums, _mm256_maddubs_epi16(codes, words)) }
            }

            #[inline(always)]
            unsafe fn widen(sums: __m256i, factor: __m256i) -> __m256i {
                // SAFETY: promised by the caller.
                unsafe { _mm256_madd_epi16(sums, factor) }
            }
        }
    };
}

narrow! {
    /// Four bits: a pair of products is at most 2 * 15 * 127 = 3,810, and eight pairs are 30,480 of 32,767.
    FourBits, bits: 4, run: 8, halved: false, QUAD, codes, _table => nibble::<QUAD>(codes)
}

narrow! {
    /// Five bits: four pairs are 31,496.
    FiveBits, bits: 5, run: 4, halved: false, QUAD, codes, _table => {
        _mm256_or_si256(nibble::<QUAD>(codes), _mm256_slli_epi16::<4>(one_bit::<QUAD>(codes, 4)))
    }
}

narrow! {
    /// Codes of four bits for values up to 24, zero added: four pairs are 24,384.
    SmallTable, bits: 4, run: 4, halved: false, QUAD, codes, table => _mm256_shuffle_epi8(table, nibble::<QUAD>(codes))
}

narrow! {
    /// Two bits, 16 to a group.
    TwoBits, bits: 2, run: 4, halved: true, QUAD, codes, _table => two_bits::<QUAD>(codes, 0)
}

narrow! {
    /// Three bits, 16 to a group.
    ThreeBits, bits: 3, run: 4, halved: true, QUAD, codes, _table => {
        _mm256_or_si256(two_bits::<QUAD>(codes, 0), _mm256_slli_epi16::<2>(one_bit::<QUAD>(codes, 2)))
    }
}

narrow! {
    /// Six bits, 16 to a group: two pairs are 32,004.
    SixBits, bits: 6, run: 2, halved: true, QUAD, codes, _table => {
        _mm256_or_si256(nibble::<QUAD>(codes), _mm256_slli_epi16::<4>(two_bits::<QUAD>(codes, 4)))
    }
}

/// The kinds that meet 16-bit activations, whose products are summed in 32 bits at once.
macro_rules! wide {
    ($(#[$doc:meta])* $name:ident, bits: $bits:literal, $quad:ident, $codes:ident, $table:ident => $load:expr) => {
        $(#[$doc])*
        pub(super) struct $name;

        impl Codes for $name {
            const BITS: usize = $bits;
            const RUN: usize = QUADS;
            const WORDS: usize = 2 * QUADS;
            type Codes = [__m256i; 2];
            type Words = [__m256i; 2];

            #[inline(always)]
            fn prepare<'a>(x: InputRows<'a>, scratch: &'a mut Scratch) -> InputRows<'a> {
                widen(x, scratch, split_int8)
            }

            /// Bytes 0 and 2 of each quad, and bytes 1 and 3.
            #[inline(always)]
            unsafe fn load<const $quad: usize>($codes: *const u8, $table: __m256i) -> [__m256i; 2] {
                // SAFETY: promised by the caller.
                unsafe {
                    let bytes = $load;
                    [
                        _mm256_and_si256(bytes, _mm256_set1_epi16(0xff)),
                        _mm256_srli_epi16::<8>(bytes),
                    ]
                }
            }

            #[inline(always)]
            unsafe fn broadcast<const QUAD: usize>(words: *const u32) -> [__m256i; 2] {
                // SAFETY: promised by the caller.
                unsafe {
                    let words = words.add(2 * QUAD);
                    [*words, *words.add(1)].map(|word| _mm256_set1_epi32(word.cast_signed()))
                }
            }

            #[inline(always)]
            unsafe fn add(sums: __m256i, codes: [__m256i; 2], words: [__m256i; 2]) -> __m256i {
                // SAFETY: promised by the caller.
                unsafe {
                    let even = _mm256_madd_epi16(codes[0], words[0]);
                    let odd = _mm256_madd_epi16(codes[1], words[1]);
                    _mm256_add_epi32(_mm256_add_epi32(sums, even), odd)
                }
            }

            #[inline(always)]
            unsafe fn widen(sums: __m256i, _: __m256i) -> __m256i {
                sums
            }
        }
    };
}

wide! {
    /// Bytes.
    EightBits, bits: 8, QUAD, codes, _table => line(codes, QUAD, 0)
}

wide! {
    /// Codes of four bits for values of a byte.
    LargeTable, bits: 4, QUAD, codes, table => _mm256_shuffle_epi8(table, nibble::<QUAD>(codes))
}

/// Rows with a word behind each unit: the sums of its halves, as two 16-bit numbers.
#[inline(always)]
fn with_sums<'a>(x: InputRows<'a>, scratch: &'a mut Scratch) -> InputRows<'a> {
    let units = x.words.as_chunks::<QUADS>().0;
    let (wide, _) = scratch.words_and_floats(units.len() * (QUADS + 1), 0);
    for (wide, unit) in wide
        .as_chunks_mut::<{ QUADS + 1 }>()
        .0
        .iter_mut()
        .zip(units)
    {
        wide[..QUADS].copy_from_slice(unit);
        let sum = |words: &[u32]| {
            let numbers = words.iter().flat_map(|word| word.to_le_bytes());
            numbers.fold(0_i16, |sum, byte| sum + i16::from(byte.cast_signed()))
        };
        let (first, second) = unit.split_at(QUADS / 2);
        let [first, second] = [sum(first), sum(second)].map(|it| u32::from(it.cast_unsigned()));
        wide[QUADS] = first | second << 16;
    }
    InputRows {
        words: wide,
        groups: x.groups,
        shape: InputShape {
            words: x.shape.words / QUADS * (QUADS + 1),
            ..x.shape
        },
    }
}
