//! A tile of a matrix product as strips of panels and blocks of token rows.
//!
//! ```text
//! for each 4 panels of the tile        (64 features; stay in the second-level cache)
//!   for each block of a few token rows (their words stay in the first-level cache)
//!     walk the panels top to bottom    (a block of sums in registers), then store
//! ```
//!
//! With one token a tile is a stream of weights from memory; with many, the multipliers are busy.
//! In between both matter: while the later token blocks compute on four panels, the next four are
//! fetched ahead, so that memory does not wait for arithmetic.
//!
//! A few tokens more than a block holds would read each panel twice, once from memory and once from
//! the second-level cache, and neither of the two passes keeps both busy. They pass as one tall block
//! of half as many panels instead, and the next ones are fetched meanwhile.
//!
//! The walk is the same for all instruction sets; what a block computes is a [`Product`]. All here
//! is inlined into a function for which the instructions are enabled.
#![allow(unsafe_code)]

use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use super::eight::isa::fetch_far;
use crate::input::InputRows;
use crate::kernels::Linear;
use crate::portable::gate_mul;
use crate::results::{Results, Stored};
use crate::team::Scratch;
use crate::tiles::Rect;
use crate::weight::PackedView;
use crate::weight::layout::{LANES, LINE, Layout};

/// Panels of a full strip.
pub(crate) const PANELS: usize = 4;

/// Panels of a strip that a tall block passes.
const TALL_PANELS: usize = 2;

/// Most tokens of one of several blocks, of any product.
pub(crate) const TOKENS: usize = 8;

/// Most tokens of a tall block.
pub(crate) const MOST_TOKENS: usize = 12;

/// How an instruction set and a weight format turn tokens and panels into finished sums.
pub(crate) trait Product {
    /// Most tokens of one of several blocks, [`TOKENS`] or fewer.
    const TOKENS: usize;

    /// Most tokens of a block that is the only one: up to 7 where several have 6 or fewer.
    const ALONE: usize = Self::TOKENS;

    /// Most tokens of a block of [`TALL_PANELS`], up to [`MOST_TOKENS`]; none if this is not above
    /// [`Product::ALONE`].
    const TALL: usize = 0;

    /// The token rows of a block as [`Product::block`] reads them.
    #[inline(always)]
    fn prepare<'a>(_: Layout, x: InputRows<'a>, _: &'a mut Scratch) -> InputRows<'a> {
        x
    }

    /// The products of `M` tokens with `P` panels, without the bias, into the first places of `sums`.
    ///
    /// # Safety
    ///
    /// The processor has the instructions. `x` is `M` prepared rows of `layout`'s input form,
    /// `panels` are `P` whole panels of `layout`.
    unsafe fn block<const M: usize, const P: usize>(
        layout: Layout,
        x: InputRows<'_>,
        panels: &[u8],
        ahead: Ahead,
        sums: &mut Block,
    );
}

/// Registers that hold one number per feature of a panel.
pub(crate) trait Lanes: Copy {
    /// Writes the numbers, the first feature's first.
    fn write(self, numbers: &mut Numbers);
}

/// A number per feature of a panel. A register is written and read whole, as it lies in one cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(crate) struct Numbers(pub(crate) [f32; LANES]);

/// The sums of a block: of each token, those with each panel.
pub(crate) struct Block([[Numbers; PANELS]; MOST_TOKENS]);

impl Block {
    fn new() -> Self {
        Self([[Numbers([0.0; LANES]); PANELS]; MOST_TOKENS])
    }

    /// Writes all sums.
    #[inline(always)]
    pub(crate) fn put<S: Lanes, const M: usize, const P: usize>(&mut self, sums: [[S; P]; M]) {
        for (place, sums) in self.0.iter_mut().zip(sums) {
            for (place, sums) in place.iter_mut().zip(sums) {
                sums.write(place);
            }
        }
    }

    /// The place of a token's sums with a panel.
    #[inline(always)]
    pub(crate) fn place(&mut self, token: usize, panel: usize) -> &mut Numbers {
        &mut self.0[token][panel]
    }
}

/// Memory to fetch while a block is computed: `lines` cache lines per step from `start` on.
#[derive(Clone, Copy)]
pub(crate) struct Ahead {
    pub(crate) start: *const u8,
    pub(crate) lines: usize,
}

impl Ahead {
    /// Nothing.
    pub(crate) const NONE: Self = Self {
        start: std::ptr::null(),
        lines: 0,
    };

    /// What is left from step `step` on.
    #[inline(always)]
    pub(crate) fn after(self, step: usize) -> Self {
        Self {
            start: self.start.wrapping_add(step * self.lines * LINE),
            ..self
        }
    }

    /// One of the `lines` parts of what `steps` steps fetch, at a line a step.
    #[inline(always)]
    pub(crate) fn part(self, part: usize, steps: usize) -> Option<*const u8> {
        (part < self.lines).then(|| self.start.wrapping_add(part * steps * LINE))
    }

    /// Asks for the lines of one step.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) fn fetch(self, step: usize) {
        for line in 0..self.lines {
            let address = self.start.wrapping_add((step * self.lines + line) * LINE);
            fetch_far(address);
        }
    }
}

/// See [`Kernels::linear`](crate::kernels::Kernels::linear).
///
/// # Safety
///
/// The processor has the instructions of `F`, and they are enabled for the caller.
#[inline(always)]
pub(crate) unsafe fn tile<F: Product>(
    args: &Linear<'_>,
    out: &mut Results<'_>,
    scratch: &mut Scratch,
) {
    let cols = out.cols();
    // A gated tile's panels come in pairs.
    let pair = 1 + usize::from(args.weight.layout.gate.is_some());
    let panels = cols.start / LANES * pair..cols.end.div_ceil(LANES) * pair;
    let mut first = panels.start;
    let mut sums = Block::new();
    let is_tall = (F::ALONE + 1..=F::TALL).contains(&out.rows().len());
    let full = if is_tall { TALL_PANELS } else { PANELS };
    while first < panels.end {
        let count = if panels.end - first >= full {
            full
        } else {
            pair
        };
        let strip = Strip {
            args,
            panels: first..first + count,
            // The last strip of a tile does not know what comes next.
            next: (first + count < panels.end).then(|| args.weight.panel(first + count)),
        };
        // SAFETY: promised by the caller.
        unsafe {
            match count {
                TALL_PANELS if is_tall => strip.run_tall::<F, TALL_PANELS>(out, scratch, &mut sums),
                _ if is_tall => strip.run_tall::<F, 1>(out, scratch, &mut sums),
                PANELS => strip.run::<F, PANELS>(out, scratch, &mut sums),
                2 => strip.run::<F, 2>(out, scratch, &mut sums),
                _ => strip.run::<F, 1>(out, scratch, &mut sums),
            }
        }
        first += count;
    }
}

/// Some adjacent panels of a tile, and where the following ones begin.
struct Strip<'a> {
    args: &'a Linear<'a>,
    panels: Range<usize>,
    next: Option<&'a [u8]>,
}

impl Strip<'_> {
    /// All token rows of the tile, in blocks of nearly the same size.
    ///
    /// # Safety
    ///
    /// As [`tile`], and `P` is the number of panels.
    #[inline(always)]
    unsafe fn run<F: Product, const P: usize>(
        &self,
        out: &mut Results<'_>,
        scratch: &mut Scratch,
        sums: &mut Block,
    ) {
        let rows = out.rows();
        let blocks = match rows.len() {
            few if few <= F::ALONE => few.min(1),
            many => many.div_ceil(F::TOKENS),
        };
        for index in 0..blocks {
            let first = rows.start + rows.len() * index / blocks;
            let count = rows.start + rows.len() * (index + 1) / blocks - first;
            let ahead = self.ahead(index, blocks);
            // SAFETY: promised by the caller.
            unsafe {
                match count {
                    1 => self.block::<F, 1, P>(first, ahead, scratch, sums),
                    2 => self.block::<F, 2, P>(first, ahead, scratch, sums),
                    3 => self.block::<F, 3, P>(first, ahead, scratch, sums),
                    4 => self.block::<F, 4, P>(first, ahead, scratch, sums),
                    5 => self.block::<F, 5, P>(first, ahead, scratch, sums),
                    7 if F::ALONE > 6 || F::TOKENS > 6 => {
                        self.block::<F, 7, P>(first, ahead, scratch, sums)
                    }
                    8 if F::TOKENS > 7 => self.block::<F, 8, P>(first, ahead, scratch, sums),
                    _ => self.block::<F, 6, P>(first, ahead, scratch, sums),
                }
            }
            finish(
                self.args,
                self.panels.clone(),
                first,
                &mut sums.0[..count],
                out,
            );
        }
    }

    /// All token rows of the tile, as one tall block.
    ///
    /// # Safety
    ///
    /// As [`tile`], and `P` is the number of panels; there are 7 to 12 rows.
    #[inline(always)]
    unsafe fn run_tall<F: Product, const P: usize>(
        &self,
        out: &mut Results<'_>,
        scratch: &mut Scratch,
        sums: &mut Block,
    ) {
        let first = out.rows().start;
        let ahead = self.next.map_or(Ahead::NONE, |next| Ahead {
            start: next.as_ptr(),
            lines: P,
        });
        // SAFETY: promised by the caller.
        unsafe {
            match out.rows().len() {
                7 => self.block::<F, 7, P>(first, ahead, scratch, sums),
                8 => self.block::<F, 8, P>(first, ahead, scratch, sums),
                9 => self.block::<F, 9, P>(first, ahead, scratch, sums),
                10 => self.block::<F, 10, P>(first, ahead, scratch, sums),
                11 => self.block::<F, 11, P>(first, ahead, scratch, sums),
                _ => self.block::<F, 12, P>(first, ahead, scratch, sums),
            }
        }
        let count = out.rows().len().min(MOST_TOKENS);
        finish(
            self.args,
            self.panels.clone(),
            first,
            &mut sums.0[..count],
            out,
        );
    }

    /// The share of the next panels that token block `index` fetches.
    fn ahead(&self, index: usize, blocks: usize) -> Ahead {
        // A single block reads at the pace of memory anyway.
        let Some(next) = self.next.filter(|_| blocks > 1) else {
            return Ahead::NONE;
        };
        let lines = PANELS.div_ceil(blocks);
        let start = index * lines * next.len();
        if start >= PANELS * next.len() {
            return Ahead::NONE;
        }
        Ahead {
            start: next.as_ptr().wrapping_add(start),
            lines,
        }
    }

    /// The sums of `M` token rows. They are finished where blocks of all sizes meet: code that is inlined here is compiled
    /// once for each size.
    ///
    /// # Safety
    ///
    /// As [`Strip::run`], and `M` rows from `first` on belong to the tile.
    #[inline(always)]
    unsafe fn block<F: Product, const M: usize, const P: usize>(
        &self,
        first: usize,
        ahead: Ahead,
        scratch: &mut Scratch,
        sums: &mut Block,
    ) {
        let Linear { x, weight, .. } = self.args;
        let x = F::prepare(weight.layout, x.rows(first, M), scratch);
        // SAFETY: promised by the caller; the slices are as long as the product expects.
        unsafe { F::block::<M, P>(weight.layout, x, self.bytes(*weight), ahead, sums) };
    }

    fn bytes<'a>(&self, weight: PackedView<'a>) -> &'a [u8] {
        let size = weight.layout.panel_bytes();
        &weight.bytes[self.panels.start * size..self.panels.end * size]
    }
}

/// Writes the results of token rows from `first` on, given their sums with a strip's panels: with the bias, and
/// gated where the weight is.
#[inline(always)]
pub(crate) fn finish(
    args: &Linear<'_>,
    panels: Range<usize>,
    first: usize,
    sums: &mut [[Numbers; PANELS]],
    out: &mut Results<'_>,
) {
    let gate = args.weight.layout.gate;
    let column = panels.start / (1 + usize::from(gate.is_some())) * LANES - out.cols().start;
    match out {
        Results::Floats(rect) => finish_as(args, panels, (first, column), sums, rect),
        Results::Pairs(rect) => finish_as(args, panels, (first, column), sums, rect),
    }
}

/// As [`finish`], from a row and a feature of the rectangle on.
#[inline(always)]
fn finish_as<T: Stored>(
    args: &Linear<'_>,
    panels: Range<usize>,
    (first, column): (usize, usize),
    sums: &mut [[Numbers; PANELS]],
    rect: &mut Rect<'_, T>,
) {
    for (row, sums) in (first..).zip(sums) {
        let sums = &mut sums[..panels.len()];
        if args.bias.is_some() {
            for (sums, panel) in sums.iter_mut().zip(panels.clone()) {
                add_bias(args, panel, &mut sums.0);
            }
        }
        let Some(activation) = args.weight.layout.gate else {
            T::store_row(rect, row, column, sums.iter().map(|sums| &sums.0));
            continue;
        };
        // The results take the places of the gates, which nothing reads afterwards.
        let pairs = sums.as_chunks_mut().0;
        for [gate, up] in &mut *pairs {
            let mut gated = [0.0; LANES];
            gate_mul(activation, &gate.0, &up.0, &mut gated);
            gate.0 = gated;
        }
        T::store_row(rect, row, column, pairs.iter().map(|[gated, _]| &gated.0));
    }
}

/// Adds what there is of a bias: the last panel has lanes without a feature.
#[inline(always)]
fn add_bias(args: &Linear<'_>, panel: usize, sums: &mut [f32; LANES]) {
    let Some(bias) = args.bias else {
        return;
    };
    if let Some(first) = args.weight.layout.feature(panel, 0) {
        for (sum, bias) in sums.iter_mut().zip(&bias[first..]) {
            *sum += bias;
        }
    }
}
