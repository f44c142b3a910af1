//! Products with stored blocks on ARM: what [`crate::portable`]'s `blocks` computes, with the same bits.
//!
//! A panel is walked unit by unit: 32 input features of 16 output features, in four registers of four. Codes become signed
//! bytes around zero, which `sdot` multiplies with the activations and sums exactly. At the end of a unit the sums are
//! scaled and added to f32 sums.

use std::arch::aarch64::*;

use super::bytes::add_dots;
use super::registers::{F32x8, I32x8, fetch_near};
use crate::blocks::BlockFormat;
use crate::format::WeightFormat;
use crate::input::InputRows;
use crate::kernels::Linear;
use crate::results::Results;
use crate::team::Scratch;
use crate::vector::eight::tile;
use crate::vector::strips::{Ahead, Block, Product};
use crate::weight::blocks::{BlockLayout, Factors, QUADS};
use crate::weight::layout::{LANES, LINE, Layout};

/// Bytes between the unit that is used and what is asked for, where nothing else is to be fetched.
const AHEAD: usize = 4096;

/// Lanes of a half of a panel, which has a register of [`F32x8`].
const HALF: usize = LANES / 2;

/// Registers of a line.
const REGISTERS: usize = LINE / 16;

/// Most tokens of a block: 16 registers of integers, four of codes, a word. The f32 sums are in the nearest cache
/// meanwhile.
const TOKENS: usize = 4;

/// The sums of a token and a group.
type Steps = [int32x4_t; REGISTERS];

/// See [`Kernels::linear`](crate::kernels::Kernels::linear), of stored blocks.
pub(crate) fn linear_blocks(args: &Linear<'_>, out: &mut Results<'_>, scratch: &mut Scratch) {
    // SAFETY: reached through a table that is handed out only where the processor has the instructions.
    unsafe { tile::<Blocks>(args, out, scratch) }
}

/// A format, for which a kernel is compiled.
trait Format {
    const FORMAT: BlockFormat;
}

/// Defines a type for each format, and the choice among the kernels compiled for them.
macro_rules! formats {
    ($($name:ident)*) => {
        $(
            struct $name;

            impl Format for $name {
                const FORMAT: BlockFormat = BlockFormat::$name;
            }
        )*

        impl Walk<'_> {
            /// Writes the products of `M` tokens from token `first` on.
            ///
            /// # Safety
            ///
            /// As [`Walk::tokens`].
            unsafe fn of_format<const M: usize>(self, format: BlockFormat, first: usize, out: &mut Block) {
                // SAFETY: promised by the caller.
                unsafe {
                    match format {
                        $(BlockFormat::$name => self.tokens::<$name, M>(first, out),)*
                    }
                }
            }
        }
    };
}

formats!(Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2K Q3K Q4K Q5K Q6K Iq4Nl Iq4Xs Mxfp4);

/// Stored blocks of all formats. The format is asked for at each panel, whose time is thousands of times that of the question.
struct Blocks;

impl Product for Blocks {
    const TOKENS: usize = TOKENS;

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
        for (p, panel) in panels.chunks_exact(size).enumerate() {
            let next = ahead.part(p, size / LINE);
            let next = next.unwrap_or(panel.as_ptr().wrapping_add(AHEAD));
            let walk = Walk { p, panel, next, x };
            for first in (0..M).step_by(TOKENS) {
                // SAFETY: promised by the caller; a panel is `panel_bytes` long.
                unsafe {
                    match M - first {
                        1 => walk.of_format::<1>(format, first, out),
                        2 => walk.of_format::<2>(format, first, out),
                        3 => walk.of_format::<3>(format, first, out),
                        _ => walk.of_format::<TOKENS>(format, first, out),
                    }
                }
            }
        }
    }
}

/// Panel `p` of a strip with some token rows, while what `next` points to is fetched.
#[derive(Clone, Copy)]
struct Walk<'a> {
    p: usize,
    panel: &'a [u8],
    next: *const u8,
    x: InputRows<'a>,
}

impl Walk<'_> {
    /// Writes the products of `M` tokens from token `first` on.
    ///
    /// # Safety
    ///
    /// The processor has the instructions. The panel is one of the format, and there are as many token rows.
    #[target_feature(enable = "neon,dotprod")]
    unsafe fn tokens<F: Format, const M: usize>(self, first: usize, out: &mut Block) {
        let layout = const { BlockLayout::of(F::FORMAT) };
        let shape = self.x.shape;
        let mut index = 0;
        // SAFETY: blocks and units are within the panel, the words and groups of a unit within its row.
        unsafe {
            let mut sums = [[F32x8::splat(0.0); 2]; M];
            for block in self.panel.chunks_exact(layout.block_bytes()) {
                let heads = Heads::read(F::FORMAT, block.as_ptr());
                for unit in 0..layout.units {
                    self.fetch::<F>(index);
                    let unit = Unit {
                        codes: block.as_ptr().add(layout.codes_at(unit)),
                        factors: block.as_ptr().add(layout.factors_at(unit)),
                    };
                    let words = std::array::from_fn(|m| {
                        let row = (first + m) * shape.words;
                        self.x.words.as_ptr().add(row + index * QUADS)
                    });
                    let steps = unit.steps::<F, M>(words);
                    for (m, sums) in sums.iter_mut().enumerate() {
                        let group = self.x.groups[(first + m) * shape.groups + index];
                        let x = (words[m], group.scale, group.scale * group.sum as f32);
                        unit.add::<F>(sums, steps[0][m], steps[1][m], &heads, x);
                    }
                    index += 1;
                }
            }
            for (m, sums) in sums.into_iter().enumerate() {
                let (halves, _) = out.place(first + m, self.p).0.as_chunks_mut::<HALF>();
                for (half, sums) in halves.iter_mut().zip(sums) {
                    sums.store(half.as_mut_ptr());
                }
            }
        }
    }

    /// Asks for the lines that lie where those of unit `index` lie in this panel.
    #[inline(always)]
    fn fetch<F: Format>(&self, index: usize) {
        let layout = const { BlockLayout::of(F::FORMAT) };
        let stride = layout.block_bytes() / layout.units;
        for line in 0..=F::FORMAT.bits() {
            fetch_near(self.next.wrapping_add(index * stride + line * LINE));
        }
    }
}

/// Scales and minimums of both halves of a panel.
struct Heads {
    scale: [F32x8; 2],
    minimum: [F32x8; 2],
}

impl Heads {
    /// # Safety
    ///
    /// The processor has the instructions, and `block` points to a block of the format.
    #[inline(always)]
    unsafe fn read(format: BlockFormat, block: *const u8) -> Self {
        // SAFETY: 32 bytes of scales, and 32 of minimums in a format that has some.
        unsafe {
            let at = |half: usize| block.add(half * LANES);
            let scale = [0, 1].map(|half| match format {
                BlockFormat::Mxfp4 => I32x8::of_u16s(at(half)).shift_left::<16>().as_floats(),
                _ => F32x8::of_halves(at(half)),
            });
            let minimum = match format.has_minimum() {
                true => [0, 1].map(|half| F32x8::of_halves(at(half).add(2 * LANES))),
                false => [F32x8::splat(0.0); 2],
            };
            Self { scale, minimum }
        }
    }
}

/// A unit of a panel.
#[derive(Clone, Copy)]
struct Unit {
    codes: *const u8,
    factors: *const u8,
}

impl Unit {
    /// The products of both halves' quads with the words of `M` tokens.
    ///
    /// # Safety
    ///
    /// As [`Walk::tokens`].
    #[inline(always)]
    unsafe fn steps<F: Format, const M: usize>(self, words: [*const u32; M]) -> [[Steps; M]; 2] {
        // SAFETY: promised by the caller.
        unsafe {
            let none = [[vdupq_n_s32(0); REGISTERS]; M];
            let mut steps = [none, none];
            macro_rules! quads {
                ($($quad:literal)*) => {$(
                    let codes: [int8x16_t; REGISTERS] =
                        std::array::from_fn(|i| self.quad::<F, $quad>(i));
                    for m in 0..M {
                        let word = vreinterpretq_s8_u32(vdupq_n_u32(*words[m].add($quad)));
                        // Where a unit is one group, its halves are summed together.
                        let half = match F::FORMAT.group_len() {
                            16 => $quad / (QUADS / 2),
                            _ => 0,
                        };
                        for i in 0..REGISTERS {
                            let sums = steps[half][m][i];
                            steps[half][m][i] = add_dots(sums, codes[i], word);
                        }
                    }
                )*};
            }
            quads!(0 1 2 3 4 5 6 7);
            steps
        }
    }

    /// What the codes of quad `QUAD` stand for, of the four lanes of a register.
    ///
    /// # Safety
    ///
    /// As [`Walk::tokens`].
    #[inline(always)]
    unsafe fn quad<F: Format, const QUAD: usize>(self, register: usize) -> int8x16_t {
        // SAFETY: promised by the caller.
        unsafe {
            let line = |line: usize| vld1q_u8(self.codes.add(line * LINE + register * 16));
            // Bits of a line: those of `mask`, where bit `from` of a byte is moved to bit `to`.
            let moved = |number: usize, from: usize, to: usize, mask: u8| {
                let moved = vshlq_u8(line(number), vdupq_n_s8(to as i8 - from as i8));
                vandq_u8(moved, vdupq_n_u8(mask))
            };
            let lower = match F::FORMAT.bits() {
                8 => line(QUAD),
                2 | 3 => moved(QUAD / 4, QUAD % 4 * 2, 0, 0x03),
                _ => moved(QUAD / 2, QUAD % 2 * 4, 0, 0x0f),
            };
            let codes = match F::FORMAT.bits() {
                3 => vorrq_u8(lower, moved(2, QUAD, 2, 0x04)),
                5 => vorrq_u8(lower, moved(4, QUAD, 4, 0x10)),
                6 => vorrq_u8(lower, moved(4 + QUAD / 4, QUAD % 4 * 2, 4, 0x30)),
                _ => lower,
            };
            let values = match F::FORMAT.table() {
                Some(table) => vqtbl1q_u8(vld1q_u8(table.as_ptr()), codes),
                None => codes,
            };
            vreinterpretq_s8_u8(vsubq_u8(values, vdupq_n_u8(F::FORMAT.zero() as u8)))
        }
    }

    /// Adds the products of a unit with a token: its words, its scale, and that times the sum of its numbers.
    ///
    /// # Safety
    ///
    /// As [`Walk::tokens`].
    #[inline(always)]
    unsafe fn add<F: Format>(
        self,
        sums: &mut [F32x8; 2],
        first: Steps,
        second: Steps,
        heads: &Heads,
        (words, x_scale, x_sum): (*const u32, f32, f32),
    ) {
        let factors = const { BlockLayout::of(F::FORMAT).factors };
        // SAFETY: promised by the caller.
        unsafe {
            let (scale, sum) = (F32x8::splat(x_scale), F32x8::splat(-x_sum));
            for (h, sums) in sums.iter_mut().enumerate() {
                let [first, second] = [first, second].map(|it| I32x8([it[2 * h], it[2 * h + 1]]));
                let (mut of_scale, mut of_minimum) = (heads.scale[h], heads.minimum[h]);
                let (steps, minimums) = match factors {
                    Factors::HalfScales | Factors::HalfScalesAndMinimums => {
                        let [scales, minimums] = self.half_factors(factors, h);
                        let steps = first.mul(scales[0]).add(second.mul(scales[1]));
                        (steps, Some(minimums))
                    }
                    Factors::None => (first, None),
                    Factors::Scale | Factors::ScaleAndMinimum => {
                        of_scale = of_scale.mul(signed(self.factors, h).floats());
                        if factors == Factors::ScaleAndMinimum {
                            let factor = signed(self.factors.add(LANES), h);
                            of_minimum = of_minimum.mul(factor.floats());
                        }
                        (first, None)
                    }
                };
                *sums = steps.floats().mul_add(of_scale.mul(scale), *sums);
                if F::FORMAT.has_minimum() {
                    *sums = match minimums {
                        None => of_minimum.mul_add(sum, *sums),
                        Some(factors) => {
                            let [first, second] = half_sums(words).map(|sum| I32x8::splat(sum));
                            let steps = factors[0].mul(first).add(factors[1].mul(second));
                            let of_minimum = of_minimum.mul(scale);
                            steps.floats().mul_sub_from(of_minimum, *sums)
                        }
                    };
                }
            }
        }
    }

    /// The factors of scale and minimum of the two halves of a unit, for half of the lanes.
    ///
    /// # Safety
    ///
    /// The processor has the instructions, and the unit has such factors.
    #[inline(always)]
    unsafe fn half_factors(self, factors: Factors, half: usize) -> [[I32x8; 2]; 2] {
        // SAFETY: promised by the caller.
        unsafe {
            let places = [self.factors, self.factors.add(LANES)];
            if factors == Factors::HalfScales {
                return [
                    places.map(|place| signed(place, half)),
                    [I32x8::splat(0); 2],
                ];
            }
            let bytes = places.map(|place| I32x8::of_bytes(place.add(half * HALF)));
            let low = I32x8::splat(15);
            [
                bytes.map(|byte| byte.and(low)),
                bytes.map(|byte| byte.shift_right::<4>()),
            ]
        }
    }
}

/// Eight signed factors, of half of the lanes.
///
/// # Safety
///
/// The processor has the instructions, and `bytes` points to 16 factors.
#[inline(always)]
unsafe fn signed(bytes: *const u8, half: usize) -> I32x8 {
    // SAFETY: promised by the caller.
    unsafe {
        let wide = vmovl_s8(vld1_s8(bytes.add(half * HALF).cast()));
        I32x8([vmovl_s16(vget_low_s16(wide)), vmovl_high_s16(wide)])
    }
}

/// The sums of the numbers of both halves of a token's unit.
///
/// # Safety
///
/// The processor has the instructions, and [`QUADS`] words are readable.
#[inline(always)]
unsafe fn half_sums(words: *const u32) -> [i32; 2] {
    // SAFETY: promised by the caller.
    unsafe {
        let mut sums = [0; 2];
        for (half, sum) in sums.iter_mut().enumerate() {
            let numbers = vreinterpretq_s8_u32(vld1q_u32(words.add(half * QUADS / 2)));
            *sum = vaddvq_s32(add_dots(vdupq_n_s32(0), vdupq_n_s8(1), numbers));
        }
        sums
    }
}
