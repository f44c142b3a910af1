//! Products with stored blocks: what [`crate::portable`]'s `blocks` computes, in the same order and with the same bits.
//!
//! A panel is walked unit by unit (32 input features of 16 output features, half of them in a register). Few tokens take
//! both halves at once, so that a panel is read once; more tokens take one half after the other, so that what is read
//! and computed once for all of them is shared by more. Codes of up to six bits meet bytes of activations, whose products
//! add up in 16 bits; at the end of a group one instruction widens the sums and multiplies them by the group's factor.

use std::arch::asm;
use std::arch::x86_64::*;

use super::codes::{self, Codes, broadcast, prepare};
use crate::blocks::BlockFormat;
use crate::format::WeightFormat;
use crate::input::{Group, InputRows};
use crate::kernels::Linear;
use crate::results::Results;
use crate::team::Scratch;
use crate::vector::eight::tile;
use crate::vector::strips::{Ahead, Block, Product};
use crate::weight::blocks::{BlockLayout, Factors, QUADS};
use crate::weight::layout::{LANES, LINE, Layout};

/// Bytes between the unit that is used and what is asked for, where nothing else is to be fetched.
const AHEAD: usize = 4096;

/// Halves of the lanes: a register has eight.
const HALVES: usize = 2;

/// Most tokens of a block of sums: eight registers of sums, two of codes, and what they are multiplied with.
const TOKENS: usize = 8;

/// Most tokens that take both halves of a panel at once.
const FEW: usize = 4;

/// Stored blocks of all formats.
///
/// The walk over a tile is compiled once for all, and asks for the format at each panel: the time of a panel is
/// thousands of times that of the question.
pub(super) struct Blocks;

/// Calls `$function::<codes>` for the codes of a format.
macro_rules! for_codes {
    ($format:expr, $function:ident $(, $parameter:expr)* => $arguments:tt) => {
        for_codes!(
            @ $format, $function, ($($parameter),*), $arguments,
            Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2K Q3K Q4K Q5K Q6K Iq4Nl Iq4Xs Mxfp4
        )
    };
    (@ $format:expr, $function:ident, $parameters:tt, $arguments:tt, $($name:ident)*) => {
        match $format {
            $(BlockFormat::$name => for_codes!(@@ $function, $name, $parameters, $arguments),)*
        }
    };
    (@@ $function:ident, $name:ident, ($($parameter:expr),*), $arguments:tt) => {
        $function::<codes::$name $(, $parameter)*>$arguments
    };
}

/// See [`Kernels::linear`](crate::kernels::Kernels::linear), of stored blocks.
pub(crate) fn linear_blocks(args: &Linear<'_>, out: &mut Results<'_>, scratch: &mut Scratch) {
    // SAFETY: reached through tables that are handed out only where the processor has the instructions: the paths beyond
    // AVX2 ask for its instructions too.
    unsafe { tile::<Blocks>(args, out, scratch) }
}

impl Product for Blocks {
    const TOKENS: usize = TOKENS;

    #[inline(always)]
    fn prepare<'a>(layout: Layout, x: InputRows<'a>, scratch: &'a mut Scratch) -> InputRows<'a> {
        match layout.format {
            // SAFETY: this is called where the processor has the instructions.
            WeightFormat::Blocks(format) => unsafe { for_codes!(format, prepare => (x, scratch)) },
            _ => x,
        }
    }

    #[inline(always)]
    unsafe fn block<const M: usize, const P: usize>(
        layout: Layout,
        x: InputRows<'_>,
        panels: &[u8],
        ahead: Ahead,
        out: &mut Block,
    ) {
        let WeightFormat::Blocks(format) = layout.format else {
            return;
        };
        let size = layout.panel_bytes();
        let tokens = Tokens { x, count: M };
        for (p, panel) in panels.chunks_exact(size).enumerate() {
            let next = ahead.part(p, size / LINE);
            let next = next.unwrap_or(panel.as_ptr().wrapping_add(AHEAD));
            let walk = Walk { panel, next, p };
            // SAFETY: promised by the caller; a panel is `panel_bytes` long.
            unsafe {
                match M {
                    1 => for_codes!(format, walk_panel, 1, 2 => (walk, tokens, 0, out)),
                    2 => for_codes!(format, walk_panel, 2, 2 => (walk, tokens, 0, out)),
                    3 | FEW => for_codes!(format, walk_panel, FEW, 2 => (walk, tokens, 0, out)),
                    5 | 6 => {
                        for_codes!(format, walk_panel, 6, 1 => (walk, tokens, 0, out));
                        for_codes!(format, walk_panel, 6, 1 => (walk, tokens, 1, out));
                    }
                    _ => {
                        for_codes!(format, walk_panel, TOKENS, 1 => (walk, tokens, 0, out));
                        for_codes!(format, walk_panel, TOKENS, 1 => (walk, tokens, 1, out));
                    }
                }
            }
        }
    }
}

/// Prepared token rows of a block.
#[derive(Clone, Copy)]
struct Tokens<'a> {
    x: InputRows<'a>,
    count: usize,
}

/// Panel `p` of a strip, while what `next` points to is fetched.
#[derive(Clone, Copy)]
struct Walk<'a> {
    p: usize,
    panel: &'a [u8],
    next: *const u8,
}

/// Writes the products of `M` tokens with `H` halves of a panel, the first of which is `half`. If there are fewer tokens,
/// the last one is computed again.
///
/// # Safety
///
/// The processor has the instructions. The panel is one of its format, and `tokens` has at least one row that
/// [`prepare`] has prepared.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn walk_panel<C: Codes, const M: usize, const H: usize>(
    walk: Walk<'_>,
    tokens: Tokens<'_>,
    half: usize,
    out: &mut Block,
) {
    let Walk { p, panel, next } = walk;
    let layout = const { BlockLayout::of(C::FORMAT) };
    let stride = layout.block_bytes() / layout.units;
    let rows: [usize; M] = std::array::from_fn(|m| m.min(tokens.count - 1));
    let InputRows {
        words,
        groups,
        shape,
    } = tokens.x;
    let mut sums = [[_mm256_setzero_ps(); H]; M];
    let mut index = 0;
    // SAFETY: blocks and units are within the panel, the words and groups of a unit within its row.
    unsafe {
        let table = read_table(C::FORMAT);
        for block in panel.chunks_exact(layout.block_bytes()) {
            let heads = Heads::<H>::read(C::FORMAT, block, half);
            for unit in 0..layout.units {
                for line in (half..=C::FORMAT.bits()).step_by(HALVES / H) {
                    let line = next.wrapping_add(index * stride + line * LINE);
                    _mm_prefetch::<_MM_HINT_T0>(line.cast());
                }
                let unit = Unit {
                    words: rows.map(|row| words.as_ptr().add(row * shape.words + index * C::WORDS)),
                    groups: rows.map(|row| groups.as_ptr().add(row * shape.groups + index)),
                    codes: block
                        .as_ptr()
                        .add(layout.codes_at(unit) + half * LINE / HALVES),
                    factors: block
                        .as_ptr()
                        .add(layout.factors_at(unit) + half * LANES / HALVES),
                    table,
                };
                if C::GROUPS == 2 {
                    unit.add_halves::<C, H>(&mut sums, layout.factors, &heads);
                } else {
                    unit.add::<C, H>(&mut sums, layout.factors, heads);
                }
                if M > FEW {
                    in_memory(&mut sums);
                }
                index += 1;
            }
        }
        for (m, sums) in sums.into_iter().enumerate().take(tokens.count) {
            let (halves, _) = out.place(m, p).0.as_chunks_mut::<{ LANES / HALVES }>();
            for (half, sums) in halves[half..].iter_mut().zip(sums) {
                _mm256_storeu_ps(half.as_mut_ptr(), sums);
            }
        }
    }
}

/// The values of a format's codes, for both halves of a register; none are all zero. Those that need eight bits have
/// their sign.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn read_table(format: BlockFormat) -> __m256i {
    let mut table = format.table().unwrap_or_default();
    if format.zero() == 128 {
        table = table.map(|value| value ^ 128);
    }
    // SAFETY: sixteen bytes.
    unsafe { _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast())) }
}

/// A unit of some lanes, and what `M` tokens bring to it.
struct Unit<const M: usize> {
    words: [*const u32; M],
    groups: [*const Group; M],
    codes: *const u8,
    factors: *const u8,
    table: __m256i,
}

impl<const M: usize> Unit<M> {
    /// The products' sums of a group that begins at quad 0 or in the middle, in 16 bits or as [`Codes::add`] has them.
    ///
    /// # Safety
    ///
    /// As [`walk_panel`].
    #[inline(always)]
    unsafe fn group<C: Codes, const H: usize, const GROUP: usize>(&self) -> [[__m256i; H]; M] {
        // SAFETY: promised by the caller.
        unsafe {
            let mut sums = [[_mm256_setzero_si256(); H]; M];
            for (sums, words) in sums.iter_mut().zip(self.words) {
                *sums = [C::begin(words, GROUP); H];
            }
            macro_rules! quads {
                ($($quad:literal)*) => {$(
                    if $quad * C::GROUPS / QUADS == GROUP {
                        // No closure: one that is not inlined would be compiled without the instructions.
                        let mut codes = [C::load::<$quad>(self.codes, self.table); H];
                        for (h, codes) in codes.iter_mut().enumerate().skip(1) {
                            let half = self.codes.add(h * LINE / HALVES);
                            *codes = C::load::<$quad>(half, self.table);
                        }
                        for m in 0..M {
                            let words = broadcast(self.words[m].add($quad));
                            for h in 0..H {
                                sums[m][h] = computed(C::add(sums[m][h], codes[h], words));
                            }
                        }
                    }
                )*};
            }
            quads!(0 1 2 3 4 5 6 7);
            sums
        }
    }

    /// Adds the products of a unit that is one group.
    ///
    /// # Safety
    ///
    /// As [`walk_panel`].
    #[inline(always)]
    unsafe fn add<C: Codes, const H: usize>(
        &self,
        sums: &mut [[__m256; H]; M],
        factors: Factors,
        heads: Heads<H>,
    ) {
        // SAFETY: promised by the caller.
        unsafe {
            let steps = self.group::<C, H, 0>();
            let heads = heads.times(factors, self.factors);
            for m in 0..M {
                let group = *self.groups[m];
                let scale = _mm256_set1_ps(group.scale);
                let sum = _mm256_set1_ps(-(group.scale * group.sum as f32));
                for h in 0..H {
                    let mut steps = C::widen(steps[m][h], _mm256_set1_epi16(1));
                    if C::ADDED != 0 {
                        steps = _mm256_add_epi32(steps, _mm256_set1_epi32(C::ADDED * group.sum));
                    }
                    let scale = _mm256_mul_ps(heads.scale[h], scale);
                    sums[m][h] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(steps), scale, sums[m][h]);
                    if C::FORMAT.has_minimum() {
                        sums[m][h] = _mm256_fmadd_ps(heads.minimum[h], sum, sums[m][h]);
                    }
                }
            }
        }
    }

    /// Adds the products of a unit whose halves are groups.
    ///
    /// # Safety
    ///
    /// As [`walk_panel`].
    #[inline(always)]
    unsafe fn add_halves<C: Codes, const H: usize>(
        &self,
        sums: &mut [[__m256; H]; M],
        factors: Factors,
        heads: &Heads<H>,
    ) {
        // SAFETY: promised by the caller.
        unsafe {
            let factors = HalfFactors::<H>::read(factors, self.factors);
            let mut steps = self.group::<C, H, 0>();
            for of_token in &mut steps {
                for (sums, factor) in of_token.iter_mut().zip(factors.scales[0]) {
                    *sums = C::widen(*sums, factor);
                }
            }
            let second = self.group::<C, H, 1>();
            for m in 0..M {
                let scale = _mm256_set1_ps((*self.groups[m]).scale);
                for h in 0..H {
                    let second = C::widen(second[m][h], factors.scales[1][h]);
                    let steps = _mm256_cvtepi32_ps(_mm256_add_epi32(steps[m][h], second));
                    let factor = _mm256_mul_ps(heads.scale[h], scale);
                    sums[m][h] = _mm256_fmadd_ps(steps, factor, sums[m][h]);
                    if C::FORMAT.has_minimum() {
                        let of_halves = broadcast(self.words[m].add(QUADS));
                        let minimums = _mm256_madd_epi16(factors.minimums[h], of_halves);
                        let factor = _mm256_mul_ps(heads.minimum[h], scale);
                        let minimums = _mm256_cvtepi32_ps(minimums);
                        sums[m][h] = _mm256_fnmadd_ps(minimums, factor, sums[m][h]);
                    }
                }
            }
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

/// The same sums, which lie in memory from here on.
///
/// A unit's products need the registers. The compiler knows, but lets the sums be where they cross cache lines.
#[inline(always)]
fn in_memory<const M: usize, const H: usize>(sums: &mut [[__m256; H]; M]) {
    // SAFETY: there is no instruction; the compiler may not know that.
    unsafe {
        asm!("/* {0} */", in(reg) sums.as_mut_ptr(), options(nostack, preserves_flags));
    }
}

/// Scales and minimums of eight output features, or of both halves of a panel.
#[derive(Clone, Copy)]
struct Heads<const H: usize> {
    scale: [__m256; H],
    minimum: [__m256; H],
}

impl<const H: usize> Heads<H> {
    /// Those of a block, from half `half` of its lanes on.
    ///
    /// # Safety
    ///
    /// `block` is a block of `format`.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn read(format: BlockFormat, block: &[u8], half: usize) -> Self {
        let mut heads = Self {
            scale: [_mm256_setzero_ps(); H],
            minimum: [_mm256_setzero_ps(); H],
        };
        for h in 0..H {
            // SAFETY: 32 bytes of scales, and 32 of minimums in a format that has some.
            unsafe {
                let at = block.as_ptr().add((half + h) * LANES);
                let scales = _mm_loadu_si128(at.cast());
                heads.scale[h] = match format {
                    BlockFormat::Mxfp4 => {
                        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(scales)))
                    }
                    _ => _mm256_cvtph_ps(scales),
                };
                if format.has_minimum() {
                    let minimums = _mm_loadu_si128(at.add(2 * LANES).cast());
                    heads.minimum[h] = _mm256_cvtph_ps(minimums);
                }
            }
        }
        heads
    }

    /// Those of a unit that is one group.
    ///
    /// # Safety
    ///
    /// `bytes` points to a unit's factors of the first half.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn times(mut self, factors: Factors, bytes: *const u8) -> Self {
        for h in 0..H {
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
struct HalfFactors<const H: usize> {
    /// By half of the unit: the scale's factor, twice.
    scales: [[__m256i; H]; 2],
    /// The minimum's factors of both halves of the unit.
    minimums: [__m256i; H],
}

impl<const H: usize> HalfFactors<H> {
    /// # Safety
    ///
    /// `bytes` points to a unit's factors of both halves.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn read(factors: Factors, bytes: *const u8) -> Self {
        let none = [_mm256_setzero_si256(); H];
        let mut out = Self {
            scales: [none; 2],
            minimums: none,
        };
        for h in 0..H {
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
