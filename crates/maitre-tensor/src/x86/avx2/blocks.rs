//! Products with stored blocks: what [`crate::portable`]'s `blocks` computes, in the same order and with the same bits.
//!
//! A panel is walked unit by unit (32 input features of 16 output features, one half of them per register). Codes of up
//! to six bits meet bytes of activations, whose products add up in 16 bits for as many quads as cannot overflow; then
//! one instruction multiplies those sums by the factor of their group and widens them. Codes of eight bits, and values of
//! a table that need as many, meet 16-bit activations.

use std::arch::asm;
use std::arch::x86_64::*;

use super::codes::{
    Codes, EightBits, FiveBits, FourBits, LargeTable, SixBits, SmallTable, ThreeBits, TwoBits,
};
use super::linear::Sums;
use crate::blocks::BlockFormat;
use crate::format::WeightFormat;
use crate::input::InputRows;
use crate::team::Scratch;
use crate::weight::blocks::{BlockLayout, Factors, QUADS};
use crate::weight::layout::{LANES, LINE, Layout};
use crate::x86::strips::{Ahead, Product};

/// Bytes between the unit that is used and what is asked for, where nothing else is to be fetched.
const AHEAD: usize = 4096;

/// Halves of the lanes: a register has eight.
const HALVES: usize = 2;

/// Most tokens of a block of sums: eight registers of sums, two of codes, one of words, and their products.
const TOKENS: usize = 4;

/// Stored blocks of all formats.
///
/// The walk over a tile is compiled once for all, and asks for the format at each panel: the time of a panel is
/// thousands of times that of the question.
pub(super) struct Blocks;

/// Calls `$function::<kind>` for the kind of codes that a format has.
macro_rules! for_codes {
    ($format:expr, $function:ident $(, $tokens:expr)? => $arguments:tt) => {{
        use BlockFormat as B;
        match $format {
            B::Q4_0 | B::Q4_1 | B::Q4K => $function::<FourBits $(, $tokens)?>$arguments,
            B::Q5_0 | B::Q5_1 | B::Q5K => $function::<FiveBits $(, $tokens)?>$arguments,
            B::Q8_0 => $function::<EightBits $(, $tokens)?>$arguments,
            B::Q2K => $function::<TwoBits $(, $tokens)?>$arguments,
            B::Q3K => $function::<ThreeBits $(, $tokens)?>$arguments,
            B::Q6K => $function::<SixBits $(, $tokens)?>$arguments,
            B::Iq4Nl | B::Iq4Xs => $function::<LargeTable $(, $tokens)?>$arguments,
            B::Mxfp4 => $function::<SmallTable $(, $tokens)?>$arguments,
        }
    }};
}

impl Product for Blocks {
    const TOKENS: usize = TOKENS;

    type Sums = Sums;

    #[inline(always)]
    fn prepare<'a>(layout: Layout, x: InputRows<'a>, scratch: &'a mut Scratch) -> InputRows<'a> {
        match layout.format {
            WeightFormat::Blocks(format) => for_codes!(format, prepare => (x, scratch)),
            _ => x,
        }
    }

    #[inline(always)]
    unsafe fn block<const M: usize, const P: usize>(
        layout: Layout,
        x: InputRows<'_>,
        panels: &[u8],
        ahead: Ahead,
    ) -> [[Sums; P]; M] {
        // SAFETY: promised by the caller; a panel is `panel_bytes` long.
        unsafe {
            let mut sums = [[Sums([_mm256_setzero_ps(); HALVES]); P]; M];
            let WeightFormat::Blocks(format) = layout.format else {
                return sums;
            };
            let size = layout.panel_bytes();
            for p in 0..P {
                let panel = &panels[p * size..][..size];
                let next = ahead.part(p, size / LINE);
                let next = next.unwrap_or(panel.as_ptr().wrapping_add(AHEAD));
                let mut of_panel = [[_mm256_setzero_ps(); HALVES]; TOKENS];
                match M {
                    1 => write(
                        &mut of_panel,
                        for_codes!(format, panel_sums, 1 => (format, x, panel, next)),
                    ),
                    2 => write(
                        &mut of_panel,
                        for_codes!(format, panel_sums, 2 => (format, x, panel, next)),
                    ),
                    3 => write(
                        &mut of_panel,
                        for_codes!(format, panel_sums, 3 => (format, x, panel, next)),
                    ),
                    _ => write(
                        &mut of_panel,
                        for_codes!(format, panel_sums, 4 => (format, x, panel, next)),
                    ),
                }
                for (sums, of_panel) in sums.iter_mut().zip(of_panel) {
                    sums[p] = Sums(of_panel);
                }
            }
            sums
        }
    }
}

fn prepare<'a, C: Codes>(x: InputRows<'a>, scratch: &'a mut Scratch) -> InputRows<'a> {
    C::prepare(x, scratch)
}

/// Sums of a panel, in the first places.
#[inline(always)]
fn write<const M: usize>(out: &mut [[__m256; HALVES]], sums: [[__m256; HALVES]; M]) {
    for (out, sums) in out.iter_mut().zip(sums) {
        *out = sums;
    }
}

/// The products of `M` tokens with a panel, while what `next` points to is fetched.
///
/// # Safety
///
/// The processor has the instructions. `panel` is a panel of `format`, and `x` are `M` rows that [`Codes::prepare`] has
/// prepared.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn panel_sums<C: Codes, const M: usize>(
    format: BlockFormat,
    x: InputRows<'_>,
    panel: &[u8],
    next: *const u8,
) -> [[__m256; HALVES]; M] {
    let layout = BlockLayout::of(format);
    let stride = layout.block_bytes() / layout.units;
    let mut sums = [[_mm256_setzero_ps(); HALVES]; M];
    let mut index = 0;
    // SAFETY: blocks and units are within the panel, the words and groups of a unit within its row.
    unsafe {
        let table = read_table(format);
        for block in panel.chunks_exact(layout.block_bytes()) {
            let heads = Heads::read(format, block);
            for unit in 0..layout.units {
                for line in 0..=C::BITS {
                    let line = next.wrapping_add(index * stride + line * LINE);
                    _mm_prefetch::<_MM_HINT_T0>(line.cast());
                }
                let row = Unit {
                    words: x.words.as_ptr().add(index * C::WORDS),
                    stride: x.shape.words,
                    codes: block.as_ptr().add(layout.codes_at(unit)),
                    table,
                };
                let factors = block.as_ptr().add(layout.factors_at(unit));
                let groups = x.groups.as_ptr().add(index);
                if C::HALVED {
                    let factors = HalfFactors::read(layout.factors, factors, format.zero());
                    let steps = row.steps::<C, M>(factors.scales);
                    for m in 0..M {
                        let group = *groups.add(m * x.shape.groups);
                        let pair = x.words.as_ptr().add(m * x.shape.words + index * C::WORDS);
                        let pair = _mm256_set1_epi32((*pair.add(QUADS)).cast_signed());
                        for h in 0..HALVES {
                            let zero = _mm256_madd_epi16(factors.zeros[h], pair);
                            let steps = _mm256_sub_epi32(steps[m][h], zero);
                            let scale = _mm256_set1_ps(group.scale);
                            sums[m][h] =
                                add(sums[m][h], steps, _mm256_mul_ps(heads.scale[h], scale));
                            if format.has_minimum() {
                                let minimums = _mm256_madd_epi16(factors.minimums[h], pair);
                                let minimums = _mm256_cvtepi32_ps(minimums);
                                let scale = _mm256_mul_ps(heads.minimum[h], scale);
                                let minimums = _mm256_mul_ps(minimums, scale);
                                sums[m][h] = _mm256_sub_ps(sums[m][h], minimums);
                            }
                        }
                    }
                } else {
                    let heads = heads.times(layout.factors, factors);
                    let steps = row.steps::<C, M>([[_mm256_set1_epi16(1); HALVES]; 2]);
                    for m in 0..M {
                        let group = *groups.add(m * x.shape.groups);
                        let zero = _mm256_set1_epi32(format.zero() * group.sum);
                        let scale = _mm256_set1_ps(group.scale);
                        let sum = _mm256_set1_ps(group.scale * group.sum as f32);
                        for h in 0..HALVES {
                            let steps = _mm256_sub_epi32(steps[m][h], zero);
                            sums[m][h] =
                                add(sums[m][h], steps, _mm256_mul_ps(heads.scale[h], scale));
                            if format.has_minimum() {
                                let minimum = _mm256_mul_ps(heads.minimum[h], sum);
                                sums[m][h] = _mm256_sub_ps(sums[m][h], minimum);
                            }
                        }
                    }
                }
                index += 1;
            }
        }
    }
    sums
}

/// `sum + steps * scale`, each rounded.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn add(sum: __m256, steps: __m256i, scale: __m256) -> __m256 {
    _mm256_add_ps(sum, _mm256_mul_ps(_mm256_cvtepi32_ps(steps), scale))
}

/// The values of a format's codes, for both halves of a register; none are all zero.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn read_table(format: BlockFormat) -> __m256i {
    let table = format.table().unwrap_or_default();
    // SAFETY: sixteen bytes.
    unsafe { _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast())) }
}

/// What a unit's products are computed from.
#[derive(Clone, Copy)]
struct Unit {
    /// The first token's words; tokens are `stride` words apart.
    words: *const u32,
    stride: usize,
    codes: *const u8,
    table: __m256i,
}

impl Unit {
    /// The sums of the products, those of each half of the unit times `factors[half]`.
    ///
    /// # Safety
    ///
    /// As [`panel_sums`].
    #[inline(always)]
    unsafe fn steps<C: Codes, const M: usize>(
        self,
        factors: [[__m256i; HALVES]; 2],
    ) -> [[__m256i; HALVES]; M] {
        // SAFETY: promised by the caller.
        unsafe {
            let mut sums = [[_mm256_setzero_si256(); HALVES]; M];
            let mut run = [[_mm256_setzero_si256(); HALVES]; M];
            macro_rules! quads {
                ($($quad:literal)*) => {$(
                    let codes = [
                        C::load::<$quad>(self.codes, self.table),
                        C::load::<$quad>(self.codes.add(LINE / 2), self.table),
                    ];
                    for m in 0..M {
                        let words = C::broadcast::<$quad>(self.words.add(m * self.stride));
                        for h in 0..HALVES {
                            run[m][h] = computed(C::add(run[m][h], codes[h], words));
                        }
                    }
                    if ($quad + 1) % C::RUN == 0 {
                        for m in 0..M {
                            for h in 0..HALVES {
                                let run = C::widen(run[m][h], factors[$quad / 4][h]);
                                sums[m][h] = _mm256_add_epi32(sums[m][h], run);
                            }
                        }
                        run = [[_mm256_setzero_si256(); HALVES]; M];
                    }
                )*};
            }
            quads!(0 1 2 3 4 5 6 7);
            let _ = run;
            sums
        }
    }
}

/// The same number, which is there from here on.
///
/// What follows differs from format to format, and the compiler would compute a token's products only where they are
/// asked for: then the codes of a whole unit have to be kept until the last token, and do not fit into the registers.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn computed(mut sums: __m256i) -> __m256i {
    // SAFETY: there is no instruction; the compiler may not know that.
    unsafe {
        asm!("/* {0} */", inout(ymm_reg) sums, options(nomem, nostack, preserves_flags));
    }
    sums
}

/// Scales and minimums of 16 output features.
#[derive(Clone, Copy)]
struct Heads {
    scale: [__m256; HALVES],
    minimum: [__m256; HALVES],
}

impl Heads {
    /// Those of a block.
    ///
    /// # Safety
    ///
    /// `block` is a block of `format`.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn read(format: BlockFormat, block: &[u8]) -> Self {
        let mut heads = Self {
            scale: [_mm256_setzero_ps(); HALVES],
            minimum: [_mm256_setzero_ps(); HALVES],
        };
        for h in 0..HALVES {
            // SAFETY: 32 bytes of scales, and 32 of minimums in a format that has some.
            unsafe {
                let scales = _mm_loadu_si128(block.as_ptr().add(h * LANES).cast());
                heads.scale[h] = match format {
                    BlockFormat::Mxfp4 => {
                        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(scales)))
                    }
                    _ => _mm256_cvtph_ps(scales),
                };
                if format.has_minimum() {
                    let minimums = block.as_ptr().add(2 * LANES + h * LANES);
                    heads.minimum[h] = _mm256_cvtph_ps(_mm_loadu_si128(minimums.cast()));
                }
            }
        }
        heads
    }

    /// Those of a unit that is one group.
    ///
    /// # Safety
    ///
    /// `bytes` points to a unit's factors.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn times(mut self, factors: Factors, bytes: *const u8) -> Self {
        for h in 0..HALVES {
            // SAFETY: promised by the caller.
            unsafe {
                if factors != Factors::None {
                    let scale = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eight(bytes, h)));
                    self.scale[h] = _mm256_mul_ps(self.scale[h], scale);
                }
                if factors == Factors::ScaleAndMinimum {
                    let minimum = _mm256_cvtepi8_epi32(eight(bytes.add(LANES), h));
                    let minimum = _mm256_cvtepi32_ps(minimum);
                    self.minimum[h] = _mm256_mul_ps(self.minimum[h], minimum);
                }
            }
        }
        self
    }
}

/// The factors of a half of the lanes.
///
/// # Safety
///
/// `bytes` points to 16 of them.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn eight(bytes: *const u8, half: usize) -> __m128i {
    // SAFETY: promised by the caller.
    unsafe { _mm_loadl_epi64(bytes.add(half * LANES / 2).cast()) }
}

/// The factors of a unit's two groups, as pairs of 16-bit numbers.
#[derive(Clone, Copy)]
struct HalfFactors {
    /// By half of the unit: the scale's factor, twice.
    scales: [[__m256i; HALVES]; 2],
    /// The scale's factors of both halves of the unit, times the zero of the codes.
    zeros: [__m256i; HALVES],
    /// The minimum's factors of both halves of the unit.
    minimums: [__m256i; HALVES],
}

impl HalfFactors {
    /// # Safety
    ///
    /// `bytes` points to a unit's factors of both halves.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn read(factors: Factors, bytes: *const u8, zero: i32) -> Self {
        let none = [_mm256_setzero_si256(); HALVES];
        let mut out = Self {
            scales: [none; 2],
            zeros: none,
            minimums: none,
        };
        for h in 0..HALVES {
            // SAFETY: promised by the caller.
            let [first, second] = unsafe { [eight(bytes, h), eight(bytes.add(LANES), h)] };
            let [first, second] = match factors {
                Factors::HalfScalesAndMinimums => {
                    let [first, second] = [first, second].map(|it| _mm256_cvtepu8_epi32(it));
                    let [low_first, low_second] =
                        [first, second].map(|it| _mm256_and_si256(it, _mm256_set1_epi32(15)));
                    out.minimums[h] = pair(
                        _mm256_srli_epi32::<4>(first),
                        _mm256_srli_epi32::<4>(second),
                    );
                    [low_first, low_second]
                }
                _ => [first, second].map(|it| _mm256_cvtepi8_epi32(it)),
            };
            out.scales[0][h] = pair(first, first);
            out.scales[1][h] = pair(second, second);
            let zero = _mm256_set1_epi16(zero as i16);
            out.zeros[h] = _mm256_mullo_epi16(pair(first, second), zero);
        }
        out
    }
}

/// The low halves of both, the second's above the first's.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn pair(first: __m256i, second: __m256i) -> __m256i {
    _mm256_blend_epi16::<0b1010_1010>(first, _mm256_slli_epi32::<16>(second))
}
