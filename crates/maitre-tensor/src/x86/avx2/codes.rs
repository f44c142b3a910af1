//! How codes of stored blocks are taken out of their planes, and how they meet activations.

use std::arch::x86_64::*;

use crate::blocks::BlockFormat;
use crate::input::{InputRows, InputShape};
use crate::team::Scratch;
use crate::weight::blocks::{QUADS, UNIT};
use crate::weight::layout::LINE;

/// The codes of a format, eight output features at a time.
///
/// All functions need the instructions that [`kernels`](super::kernels) asks for, and pointers to as many bytes as they
/// read: half of each line of a unit, the words of a token's unit.
///
/// Products of bytes add up in 16 bits. Where codes stand for numbers around [`Codes::OFFSET`], the sums do not begin at
/// 0 but at what the offset contributes: then they end within 16 bits though codes are not negative, whatever they
/// overflow to on the way.
pub(super) trait Codes {
    /// The format, for which a kernel is compiled.
    const FORMAT: BlockFormat;
    /// What the sums take from each code.
    const OFFSET: i32 = Self::FORMAT.zero();
    /// The part of [`Codes::OFFSET`] that belongs to the numbers and is added again in 32 bits.
    const ADDED: i32 = 0;
    /// Groups of a unit: one, or one for each half.
    const GROUPS: usize = UNIT / Self::FORMAT.group_len();
    /// Whether the sums of a unit's halves follow its quads, as two 16-bit numbers.
    const HAS_SUMS: bool = Self::GROUPS == 2 && Self::FORMAT.has_minimum();
    /// Words of a token's unit as they are prepared.
    const WORDS: usize =
        QUADS + (Self::OFFSET != 0) as usize * Self::GROUPS + Self::HAS_SUMS as usize;
    /// A quad's codes.
    type Codes: Copy;

    /// A quad's codes.
    ///
    /// # Safety
    ///
    /// See the trait.
    unsafe fn load<const QUAD: usize>(codes: *const u8, table: __m256i) -> Self::Codes;

    /// What the sums of a group begin with.
    ///
    /// # Safety
    ///
    /// See the trait.
    #[inline(always)]
    unsafe fn begin(words: *const u32, group: usize) -> __m256i {
        // SAFETY: promised by the caller.
        unsafe {
            match Self::OFFSET {
                0 => _mm256_setzero_si256(),
                _ => broadcast(words.add(QUADS + group)),
            }
        }
    }

    /// The sums and the products of a quad.
    ///
    /// # Safety
    ///
    /// See the trait.
    unsafe fn add(sums: __m256i, codes: Self::Codes, words: __m256i) -> __m256i;

    /// The sums of a group, in 32 bits and times a factor, of which there is none but where groups are halves.
    ///
    /// # Safety
    ///
    /// See the trait.
    unsafe fn widen(sums: __m256i, factor: __m256i) -> __m256i;
}

/// # Safety
///
/// The processor has the instructions, and `word` points to a readable word.
#[inline(always)]
pub(super) unsafe fn broadcast(word: *const u32) -> __m256i {
    // SAFETY: promised by the caller.
    unsafe { _mm256_set1_epi32((*word).cast_signed()) }
}

/// Bits of the codes of a line: those of `mask`, where bit `from` of a byte is moved to bit `to`.
#[inline(always)]
unsafe fn moved(codes: *const u8, line: usize, from: usize, to: usize, mask: i8) -> __m256i {
    // SAFETY: promised by the caller.
    unsafe {
        let codes = _mm256_loadu_si256(codes.add(line * LINE).cast());
        // Bits of neighbours come in from the other end, which no mask reaches.
        let moved = match from as isize - to as isize {
            -4 => _mm256_slli_epi16::<4>(codes),
            -3 => _mm256_slli_epi16::<3>(codes),
            -2 => _mm256_slli_epi16::<2>(codes),
            -1 => _mm256_slli_epi16::<1>(codes),
            1 => _mm256_srli_epi16::<1>(codes),
            2 => _mm256_srli_epi16::<2>(codes),
            3 => _mm256_srli_epi16::<3>(codes),
            4 => _mm256_srli_epi16::<4>(codes),
            5 => _mm256_srli_epi16::<5>(codes),
            6 => _mm256_srli_epi16::<6>(codes),
            _ => codes,
        };
        _mm256_and_si256(moved, _mm256_set1_epi8(mask))
    }
}

/// A quad of a plane of four bits.
#[inline(always)]
unsafe fn nibble<const QUAD: usize>(codes: *const u8) -> __m256i {
    // SAFETY: promised by the caller.
    unsafe { moved(codes, QUAD / 2, QUAD % 2 * 4, 0, 0x0f) }
}

/// A quad of two bits.
#[inline(always)]
unsafe fn two_bits<const QUAD: usize>(codes: *const u8) -> __m256i {
    // SAFETY: promised by the caller.
    unsafe { moved(codes, QUAD / 4, QUAD % 4 * 2, 0, 0x03) }
}

/// A quad of three bits.
#[inline(always)]
unsafe fn three_bits<const QUAD: usize>(codes: *const u8) -> __m256i {
    // SAFETY: promised by the caller.
    unsafe { _mm256_or_si256(two_bits::<QUAD>(codes), moved(codes, 2, QUAD, 2, 0x04)) }
}

/// A quad of five bits.
#[inline(always)]
unsafe fn five_bits<const QUAD: usize>(codes: *const u8) -> __m256i {
    // SAFETY: promised by the caller.
    unsafe { _mm256_or_si256(nibble::<QUAD>(codes), moved(codes, 4, QUAD, 4, 0x10)) }
}

/// A quad of six bits.
#[inline(always)]
unsafe fn six_bits<const QUAD: usize>(codes: *const u8) -> __m256i {
    // SAFETY: promised by the caller.
    unsafe {
        let upper = moved(codes, 4 + QUAD / 4, QUAD % 4 * 2, 4, 0x30);
        _mm256_or_si256(nibble::<QUAD>(codes), upper)
    }
}

/// A quad of bytes, whose zero is 128.
#[inline(always)]
unsafe fn bytes<const QUAD: usize>(codes: *const u8) -> __m256i {
    // SAFETY: promised by the caller.
    unsafe {
        let codes = _mm256_loadu_si256(codes.add(QUAD * LINE).cast());
        _mm256_xor_si256(codes, _mm256_set1_epi8(i8::MIN))
    }
}

/// The formats whose products are summed in 16 bits: how a quad is put together is what they differ in.
macro_rules! narrow {
    ($(#[$doc:meta])* $name:ident $({ $($constant:ident: $kind:ty = $value:expr),* })? $quad:ident, $codes:ident, $table:ident => $load:expr) => {
        $(#[$doc])*
        pub(super) struct $name;

        impl Codes for $name {
            const FORMAT: BlockFormat = BlockFormat::$name;
            $($(const $constant: $kind = $value;)*)?
            type Codes = __m256i;

            #[inline(always)]
            unsafe fn load<const $quad: usize>($codes: *const u8, $table: __m256i) -> __m256i {
                // SAFETY: promised by the caller.
                unsafe { $load }
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
    /// Around 8, eight pairs of products are at most 16 * 8 * 127 = 16,256 of 32,767.
    Q4_0 QUAD, codes, _table => nibble::<QUAD>(codes)
}

narrow! {
    /// Eight pairs are at most 16 * 15 * 127 = 30,480.
    Q4_1 QUAD, codes, _table => nibble::<QUAD>(codes)
}

narrow! {
    /// As [`Q4_1`].
    Q4K QUAD, codes, _table => nibble::<QUAD>(codes)
}

narrow! {
    /// Around 16, eight pairs are at most 16 * 16 * 127 = 32,512.
    Q5_0 QUAD, codes, _table => five_bits::<QUAD>(codes)
}

narrow! {
    /// As [`Q5_0`].
    Q5_1 { OFFSET: i32 = 16, ADDED: i32 = 16 } QUAD, codes, _table => five_bits::<QUAD>(codes)
}

narrow! {
    /// As [`Q5_0`].
    Q5K { OFFSET: i32 = 16, ADDED: i32 = 16 } QUAD, codes, _table => five_bits::<QUAD>(codes)
}

narrow! {
    /// Values from -12 to 12.
    Mxfp4 QUAD, codes, table => _mm256_shuffle_epi8(table, nibble::<QUAD>(codes))
}

narrow! {
    /// Two bits.
    Q2K QUAD, codes, _table => two_bits::<QUAD>(codes)
}

narrow! {
    /// Three bits.
    Q3K QUAD, codes, _table => three_bits::<QUAD>(codes)
}

narrow! {
    /// Around 32, four pairs are at most 8 * 32 * 127 = 32,512.
    Q6K QUAD, codes, _table => six_bits::<QUAD>(codes)
}

/// The formats of eight bits, two products of which fill 16 bits. Magnitudes meet activations that have taken their
/// signs: the instruction wants one factor without a sign, and two products of 128 * 127 are not too large for it.
macro_rules! bytes {
    ($(#[$doc:meta])* $name:ident $quad:ident, $codes:ident, $table:ident => $load:expr) => {
        $(#[$doc])*
        pub(super) struct $name;

        impl Codes for $name {
            const FORMAT: BlockFormat = BlockFormat::$name;
            const OFFSET: i32 = 0;
            type Codes = [__m256i; 2];

            /// Values and their magnitudes.
            #[inline(always)]
            unsafe fn load<const $quad: usize>($codes: *const u8, $table: __m256i) -> [__m256i; 2] {
                // SAFETY: promised by the caller.
                unsafe {
                    let values = $load;
                    [values, _mm256_abs_epi8(values)]
                }
            }

            #[inline(always)]
            unsafe fn add(sums: __m256i, codes: [__m256i; 2], words: __m256i) -> __m256i {
                // SAFETY: promised by the caller.
                unsafe {
                    let [values, magnitudes] = codes;
                    let pairs = _mm256_maddubs_epi16(magnitudes, _mm256_sign_epi8(words, values));
                    _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
                }
            }

            #[inline(always)]
            unsafe fn widen(sums: __m256i, _: __m256i) -> __m256i {
                sums
            }
        }
    };
}

bytes! {
    /// Bytes. Their zero is 128.
    Q8_0 QUAD, codes, _table => bytes::<QUAD>(codes)
}

bytes! {
    /// Values of a byte.
    Iq4Nl QUAD, codes, table => _mm256_shuffle_epi8(table, nibble::<QUAD>(codes))
}

bytes! {
    /// As [`Iq4Nl`].
    Iq4Xs QUAD, codes, table => _mm256_shuffle_epi8(table, nibble::<QUAD>(codes))
}

/// Rows with the words behind each unit that [`Codes`] asks for.
///
/// # Safety
///
/// The processor has the instructions.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn prepare<'a, C: Codes>(
    x: InputRows<'a>,
    scratch: &'a mut Scratch,
) -> InputRows<'a> {
    if C::WORDS == QUADS {
        return x;
    }
    let units = x.words.as_chunks::<QUADS>().0;
    let (wide, _) = scratch.words_and_floats(units.len() * C::WORDS, 0);
    for (wide, unit) in wide.chunks_exact_mut(C::WORDS).zip(units) {
        let (quads, further) = wide.split_at_mut(QUADS);
        quads.copy_from_slice(unit);
        // SAFETY: promised by the caller; a unit is a register.
        let [first, second] = unsafe { pair_sums(_mm256_loadu_si256(unit.as_ptr().cast())) };
        let pair = |[low, high]: [i16; 2]| {
            u32::from(low.cast_unsigned()) | u32::from(high.cast_unsigned()) << 16
        };
        let sums = |[low, high]: [i16; 2]| low + high;
        let offset = |sums: [i16; 2]| pair(sums.map(|sum| -(C::OFFSET as i16) * sum));
        match (C::GROUPS, C::HAS_SUMS) {
            (_, true) => further[0] = pair([sums(first), sums(second)]),
            (1, _) => further[0] = offset([first[0] + second[0], first[1] + second[1]]),
            _ => further.copy_from_slice(&[offset(first), offset(second)]),
        }
    }
    InputRows {
        words: wide,
        groups: x.groups,
        shape: InputShape {
            words: x.shape.words / QUADS * C::WORDS,
            ..x.shape
        },
    }
}

/// Of both halves of a unit, the sums of the bytes that two lanes of a word's products hold: the first two of each quad
/// and the last two.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn pair_sums(unit: __m256i) -> [[i16; 2]; 2] {
    let pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), unit);
    let twos = _mm256_add_epi16(pairs, _mm256_srli_si256::<8>(pairs));
    let fours = _mm256_add_epi16(twos, _mm256_srli_si256::<4>(twos));
    let halves = [
        _mm256_extract_epi32::<0>(fours),
        _mm256_extract_epi32::<4>(fours),
    ];
    halves.map(|pair| [pair as i16, (pair >> 16) as i16])
}
