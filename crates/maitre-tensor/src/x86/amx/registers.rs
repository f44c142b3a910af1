//! Blocks of products in tile registers.
//!
//! ```text
//!                 panel 0   panel 1   panel 2   panel 3       a panel: rows of 64 bytes,
//!               [ 16 x 64 ][ 16 x 64 ][ 16 x 64 ][ 16 x 64 ]  sixteen of them a tile
//! wide   16 rows [ sums    ][         ][         ][         ]
//!
//! tall   16 rows [ sums    ][         ]
//!        16 rows [         ][         ]
//! ```
//!
//! Four tiles of sums, and four for operands: that is all there are. A wide block loads five tiles for
//! four products, a tall one four.
//!
//! A product takes sixteen cycles, however few rows a tile has. A sum is that of the products of even
//! numbers, in order, plus that of odd ones, for each sixteen words of a row (of bytes, exact); then
//! the tiles' sums are added in order. So it does not depend on the rows beside it.

use std::arch::asm;

use super::shapes::{Shapes, Tiles};
use crate::vector::strips::Ahead;

/// Words of a row in a tile, and rows of a panel.
pub(super) const DEPTH: usize = 16;

/// Rows of a tile.
pub(super) const ROWS: usize = 16;

/// Bytes of a row of a panel.
pub(super) const LINE: usize = 64;

/// Panels of a wide block.
pub(super) const WIDE_PANELS: usize = 4;

/// Panels of a tall block.
pub(super) const TALL_PANELS: usize = 2;

/// Rows of a tall block.
pub(super) const TALL_ROWS: usize = 2 * ROWS;

/// What a block reads and writes.
#[derive(Clone, Copy)]
pub(super) struct Operands<const PANELS: usize> {
    /// Rows, at least one.
    pub(super) rows: usize,
    /// Words of a row, and rows of a panel.
    pub(super) depth: usize,
    /// The first word of the first row; rows are `a_stride` bytes apart.
    pub(super) a: *const u32,
    pub(super) a_stride: usize,
    /// The first row of each panel.
    pub(super) panels: [*const u8; PANELS],
    /// Where the sums of the first row with the first panel go, 64 bytes. Those with the next panel lie
    /// behind them, those of the next row `sums_stride` bytes on.
    pub(super) sums: *mut u8,
    pub(super) sums_stride: usize,
    /// What a tall block asks for on the way; a step is a tile of depth.
    pub(super) ahead: Ahead,
}

/// The instruction that multiplies two tiles. What its blocks need of [`Shapes`] is configured before.
pub(super) trait TileDot {
    /// The sums of up to [`ROWS`] rows with four panels, over `steps` whole tiles, or the shapes'
    /// part of one. They are added to what is there if `resumes`.
    ///
    /// # Safety
    ///
    /// [`Shapes::wide`] of these rows are configured; all that `operands` names is readable, the sums writable.
    unsafe fn wide(operands: &Operands<WIDE_PANELS>, steps: usize, resumes: bool);

    /// The sums of up to [`TALL_ROWS`] rows with two panels.
    ///
    /// # Safety
    ///
    /// As [`TileDot::wide`], with [`Shapes::tall`].
    unsafe fn tall(operands: &Operands<TALL_PANELS>, steps: usize, resumes: bool);
}

/// Pairs of bf16, summed in f32. Subnormal numbers count as zero.
pub(super) struct Bf16;

/// Quads of signed bytes in rows and unsigned ones in panels, summed in i32.
pub(super) struct Int8;

/// Quads of signed bytes in both, of panels that are in the first-level cache.
pub(super) struct Signed;

/// Asks for the tile of a panel after the next: with one block of rows, panels come from memory.
macro_rules! fetch_ahead {
    ($panel:literal) => {
        concat!(
            fetch_ahead!($panel, "2048", "2112", "2176", "2240"),
            fetch_ahead!($panel, "2304", "2368", "2432", "2496"),
            fetch_ahead!($panel, "2560", "2624", "2688", "2752"),
            fetch_ahead!($panel, "2816", "2880", "2944", "3008"),
        )
    };
    ($panel:literal, $($line:literal),*) => {
        concat!($("prefetcht0 [{", $panel, "} + ", $line, "]\n"),*)
    };
}

/// Nothing to ask for.
macro_rules! fetched {
    ($panel:literal) => {
        ""
    };
}

macro_rules! tile_dot {
    ($name:ident, $dot:literal, $ahead:ident) => {
        impl TileDot for $name {
            #[inline]
            unsafe fn wide(operands: &Operands<WIDE_PANELS>, steps: usize, resumes: bool) {
                let [b0, b1, b2, b3] = operands.panels;
                // SAFETY: the caller promises the memory, and that the registers are configured.
                unsafe {
                    asm!(
                        "tilezero tmm0",
                        "tilezero tmm1",
                        "tilezero tmm2",
                        "tilezero tmm3",
                        "test {resumes:e}, {resumes:e}",
                        "jz 2f",
                        "tileloadd tmm0, [{c} + 1*{c_stride}]",
                        "tileloadd tmm1, [{c} + 1*{c_stride} + 64]",
                        "tileloadd tmm2, [{c} + 1*{c_stride} + 128]",
                        "tileloadd tmm3, [{c} + 1*{c_stride} + 192]",
                        "2:",
                        $ahead!("b0"),
                        $ahead!("b1"),
                        $ahead!("b2"),
                        $ahead!("b3"),
                        "tileloadd tmm4, [{a} + 1*{a_stride}]",
                        "tileloadd tmm5, [{b0} + 1*{line}]",
                        "tileloadd tmm6, [{b1} + 1*{line}]",
                        "tileloadd tmm7, [{b2} + 1*{line}]",
                        concat!($dot, " tmm0, tmm4, tmm5"),
                        "tileloadd tmm5, [{b3} + 1*{line}]",
                        concat!($dot, " tmm1, tmm4, tmm6"),
                        concat!($dot, " tmm2, tmm4, tmm7"),
                        concat!($dot, " tmm3, tmm4, tmm5"),
                        "add {a}, 64",
                        "add {b0}, 1024",
                        "add {b1}, 1024",
                        "add {b2}, 1024",
                        "add {b3}, 1024",
                        "dec {steps}",
                        "jnz 2b",
                        "tilestored [{c} + 1*{c_stride}], tmm0",
                        "tilestored [{c} + 1*{c_stride} + 64], tmm1",
                        "tilestored [{c} + 1*{c_stride} + 128], tmm2",
                        "tilestored [{c} + 1*{c_stride} + 192], tmm3",
                        resumes = in(reg) u32::from(resumes),
                        a = inout(reg) operands.a => _,
                        a_stride = in(reg) operands.a_stride,
                        b0 = inout(reg) b0 => _,
                        b1 = inout(reg) b1 => _,
                        b2 = inout(reg) b2 => _,
                        b3 = inout(reg) b3 => _,
                        line = in(reg) LINE,
                        c = in(reg) operands.sums,
                        c_stride = in(reg) operands.sums_stride,
                        steps = inout(reg) steps => _,
                        out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                        out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                        options(nostack),
                    );
                }
            }

            #[inline]
            unsafe fn tall(operands: &Operands<TALL_PANELS>, steps: usize, resumes: bool) {
                let [b0, b1] = operands.panels;
                let Ahead { start, lines } = operands.ahead;
                // SAFETY: as above; the second tiles begin sixteen rows on.
                unsafe {
                    asm!(
                        "tilezero tmm0",
                        "tilezero tmm1",
                        "tilezero tmm2",
                        "tilezero tmm3",
                        "mov {c1}, {c_stride}",
                        "shl {c1}, 4",
                        "add {c1}, {c0}",
                        "test {left:e}, {left:e}",
                        "jz 2f",
                        "tileloadd tmm0, [{c0} + 1*{c_stride}]",
                        "tileloadd tmm1, [{c0} + 1*{c_stride} + 64]",
                        "tileloadd tmm2, [{c1} + 1*{c_stride}]",
                        "tileloadd tmm3, [{c1} + 1*{c_stride} + 64]",
                        "2:",
                        "mov {left}, {lines}",
                        "test {left}, {left}",
                        "jz 4f",
                        "3:",
                        "prefetcht1 [{next}]",
                        "add {next}, {line}",
                        "dec {left}",
                        "jnz 3b",
                        "4:",
                        "tileloadd tmm4, [{a0} + 1*{a_stride}]",
                        "tileloadd tmm6, [{b0} + 1*{line}]",
                        "tileloadd tmm5, [{a1} + 1*{a_stride}]",
                        "tileloadd tmm7, [{b1} + 1*{line}]",
                        concat!($dot, " tmm0, tmm4, tmm6"),
                        concat!($dot, " tmm2, tmm5, tmm6"),
                        concat!($dot, " tmm1, tmm4, tmm7"),
                        concat!($dot, " tmm3, tmm5, tmm7"),
                        "add {a0}, 64",
                        "add {a1}, 64",
                        "add {b0}, 1024",
                        "add {b1}, 1024",
                        "dec {steps}",
                        "jnz 2b",
                        "tilestored [{c0} + 1*{c_stride}], tmm0",
                        "tilestored [{c0} + 1*{c_stride} + 64], tmm1",
                        "tilestored [{c1} + 1*{c_stride}], tmm2",
                        "tilestored [{c1} + 1*{c_stride} + 64], tmm3",
                        // Where the lower rows' sums are.
                        c1 = out(reg) _,
                        // First whether to resume, then the lines left to ask for.
                        left = inout(reg) usize::from(resumes) => _,
                        a0 = inout(reg) operands.a => _,
                        a1 = inout(reg) operands.a.byte_add(ROWS * operands.a_stride) => _,
                        a_stride = in(reg) operands.a_stride,
                        b0 = inout(reg) b0 => _,
                        b1 = inout(reg) b1 => _,
                        line = in(reg) LINE,
                        c0 = in(reg) operands.sums,
                        c_stride = in(reg) operands.sums_stride,
                        steps = inout(reg) steps => _,
                        next = inout(reg) start => _,
                        lines = in(reg) lines,
                        out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                        out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                        options(nostack),
                    );
                }
            }
        }
    };
}

tile_dot!(Bf16, "tdpbf16ps", fetch_ahead);
tile_dot!(Int8, "tdpbsud", fetch_ahead);
tile_dot!(Signed, "tdpbssd", fetched);

impl<const PANELS: usize> Operands<PANELS> {
    /// Calls `part` with the whole tiles of the block and with what is left behind them: the words of a tile, how many tiles, and
    /// whether there are sums already.
    pub(super) fn in_parts(mut self, mut part: impl FnMut(&Self, usize, usize, bool)) {
        let (a, panels, whole) = (self.a, self.panels, self.depth / DEPTH);
        let left = self.depth % DEPTH;
        for (depth, steps, start) in [(DEPTH, whole, 0), (left, left.min(1), whole * DEPTH)] {
            if steps > 0 {
                self.a = a.wrapping_add(start);
                self.panels = panels.map(|panel| panel.wrapping_add(start * LINE));
                part(&self, depth, steps, start > 0);
                self.ahead = Ahead::NONE;
            }
        }
    }
}

impl Operands<WIDE_PANELS> {
    /// The sums of up to [`ROWS`] rows with four panels.
    ///
    /// # Safety
    ///
    /// [`is_granted`](super::is_granted), and no [`Tiles`] of this thread are there; all that this names is readable, the
    /// sums writable.
    #[inline]
    pub(super) unsafe fn run<D: TileDot>(self) {
        self.in_parts(|part, depth, steps, resumes| {
            // SAFETY: promised by the caller.
            unsafe {
                let _tiles = Tiles::configure(&Shapes::wide(part.rows, depth));
                D::wide(part, steps, resumes);
            }
        });
    }
}

impl Operands<TALL_PANELS> {
    /// The sums of more than [`ROWS`], up to [`TALL_ROWS`] rows with two panels.
    ///
    /// # Safety
    ///
    /// As for a wide block.
    #[inline]
    pub(super) unsafe fn run<D: TileDot>(self) {
        self.in_parts(|part, depth, steps, resumes| {
            // SAFETY: promised by the caller.
            unsafe {
                let _tiles = Tiles::configure(&Shapes::tall(part.rows, depth));
                D::tall(part, steps, resumes);
            }
        });
    }
}
