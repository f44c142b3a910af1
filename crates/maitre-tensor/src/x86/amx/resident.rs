//! Many rows that meet a few tiles which stay in registers: what attention is made of.
//!
//! ```text
//! registers   0, 1  sums of sixteen rows      4, 5  the first tiles
//!             2, 3  the rows                  6, 7  the second tiles
//! ```
//!
//! Where another thread runs on the same core, a processor overlaps few loads of tiles with anything. Here each block loads
//! half as many tiles as it has products, and as many where it resumes sums. Up to sixteen rows are one block of four panels,
//! which loads fewer; one or two rows of bf16 are multiplied [without tiles](super::few).

use std::arch::asm;
use std::mem::MaybeUninit;

use super::few::{FEW_ROWS, few};
use super::registers::{Bf16, DEPTH, Int8, LINE, Operands, ROWS, TileDot, WIDE_PANELS};
use super::shapes::{Shapes, Tiles};
use crate::attend::CELLS;
use crate::cache::GROUP;
use crate::vector::strips::Ahead;

/// Blocks of [`ROWS`] rows and of those that are left: where the first begins, how many there are, and the rows of each.
pub(super) fn blocks(rows: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    let (whole, left) = (rows / ROWS, rows % ROWS);
    let all = [(0, whole, ROWS), (whole * ROWS, left.min(1), left)];
    all.into_iter().filter(|(_, count, _)| *count > 0)
}

/// Shapes of blocks of some rows.
pub(super) fn shapes(rows: usize) -> Shapes {
    let (row, tile) = ((rows, LINE), (DEPTH, LINE));
    Shapes::new([row, row, row, row, tile, tile, tile, tile])
}

/// Blocks of rows, each of two tiles, and the two times two tiles that they meet.
pub(super) struct Blocks {
    /// At least one.
    count: usize,
    /// Rows are `stride` bytes apart, and blocks sixteen times as far.
    a: *const u8,
    stride: usize,
    /// Of each of two panels the first of two tiles.
    tiles: [*const u8; 2],
    /// Where the sums of the first row go, 64 bytes of each panel.
    sums: *mut u8,
    sums_stride: usize,
    /// Whether they are added to what is there.
    resumes: bool,
}

/// An instruction that multiplies blocks of rows with tiles that stay in registers.
pub(super) trait Resident: TileDot {
    /// The sums of all blocks. Within a sum the first tile's products come first.
    ///
    /// # Safety
    ///
    /// [`shapes`] are configured; all that this names is readable, the sums writable.
    unsafe fn multiply(blocks: &Blocks);
}

macro_rules! resident {
    ($name:ident, $dot:literal) => {
        impl Resident for $name {
            #[inline]
            unsafe fn multiply(blocks: &Blocks) {
                // SAFETY: the caller promises the memory, and that the registers are configured.
                unsafe {
                    asm!(
                        "tileloadd tmm4, [{b0} + 1*{line}]",
                        "tileloadd tmm5, [{b0} + 1*{line} + 1024]",
                        "tileloadd tmm6, [{b1} + 1*{line}]",
                        "tileloadd tmm7, [{b1} + 1*{line} + 1024]",
                        "2:",
                        "tilezero tmm0",
                        "tilezero tmm1",
                        "test {resumes:e}, {resumes:e}",
                        "jz 3f",
                        "tileloadd tmm0, [{c} + 1*{c_stride}]",
                        "tileloadd tmm1, [{c} + 1*{c_stride} + 64]",
                        "3:",
                        "tileloadd tmm2, [{a} + 1*{a_stride}]",
                        "tileloadd tmm3, [{a} + 1*{a_stride} + 64]",
                        concat!($dot, " tmm0, tmm2, tmm4"),
                        concat!($dot, " tmm1, tmm2, tmm6"),
                        concat!($dot, " tmm0, tmm3, tmm5"),
                        concat!($dot, " tmm1, tmm3, tmm7"),
                        "tilestored [{c} + 1*{c_stride}], tmm0",
                        "tilestored [{c} + 1*{c_stride} + 64], tmm1",
                        "add {a}, {a_block}",
                        "add {c}, {c_block}",
                        "dec {left}",
                        "jnz 2b",
                        b0 = in(reg) blocks.tiles[0],
                        b1 = in(reg) blocks.tiles[1],
                        line = in(reg) LINE,
                        resumes = in(reg) u32::from(blocks.resumes),
                        a = inout(reg) blocks.a => _,
                        a_stride = in(reg) blocks.stride,
                        a_block = in(reg) ROWS * blocks.stride,
                        c = inout(reg) blocks.sums => _,
                        c_stride = in(reg) blocks.sums_stride,
                        c_block = in(reg) ROWS * blocks.sums_stride,
                        left = inout(reg) blocks.count => _,
                        out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                        out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                        options(nostack),
                    );
                }
            }
        }
    };
}

resident!(Bf16, "tdpbf16ps");
resident!(Int8, "tdpbsud");

impl Operands<WIDE_PANELS> {
    /// The sums of any number of rows of bf16 with four panels: as [`Operands::run`], bit for bit.
    ///
    /// # Safety
    ///
    /// As for [`Operands::run_many`].
    pub(super) unsafe fn run_rows(self) {
        // SAFETY: promised by the caller; processors with tiles have AVX-512.
        unsafe {
            if self.rows <= FEW_ROWS {
                return few(&self);
            }
            self.run_many::<Bf16>();
        }
    }

    /// The sums of any number of rows with four panels: as [`Operands::run`], bit for bit.
    ///
    /// # Safety
    ///
    /// As for [`Operands::run`], with at least one row and one word of depth; sums of a row follow those of the row before it
    /// at once.
    pub(super) unsafe fn run_many<D: Resident>(self) {
        if self.rows <= ROWS {
            // SAFETY: promised by the caller.
            return unsafe { self.run::<D>() };
        }
        let pairs = self.depth / (2 * DEPTH);
        for (first, count, rows) in blocks(self.rows).filter(|_| pairs > 0) {
            let (a, sums) = self.row(first);
            // SAFETY: promised by the caller; the rows are within those that the caller passed.
            unsafe {
                let _tiles = Tiles::configure(&shapes(rows));
                for pair in 0..pairs {
                    for panel in (0..WIDE_PANELS).step_by(2) {
                        let tile =
                            |panel: usize| self.panels[panel].wrapping_add(pair * 2 * DEPTH * LINE);
                        D::multiply(&Blocks {
                            count,
                            a: a.wrapping_add(pair * 2 * DEPTH).cast(),
                            stride: self.a_stride,
                            tiles: [tile(panel), tile(panel + 1)],
                            sums: sums.wrapping_add(panel * LINE),
                            sums_stride: self.sums_stride,
                            resumes: pair > 0,
                        });
                    }
                }
            }
        }
        let done = pairs * 2 * DEPTH;
        for first in (0..self.rows).step_by(ROWS) {
            let (a, sums) = self.row(first);
            let rest = Self {
                rows: ROWS.min(self.rows - first),
                depth: self.depth - done,
                a: a.wrapping_add(done),
                panels: self.panels.map(|panel| panel.wrapping_add(done * LINE)),
                sums,
                ahead: Ahead::NONE,
                ..self
            };
            rest.in_parts(|part, depth, steps, resumes| {
                // SAFETY: as above.
                unsafe {
                    let _tiles = Tiles::configure(&Shapes::wide(part.rows, depth));
                    D::wide(part, steps, resumes || done > 0);
                }
            });
        }
    }

    /// Where a row and its sums begin.
    fn row(&self, row: usize) -> (*const u32, *mut u8) {
        let a = self.a.wrapping_byte_add(row * self.a_stride);
        (a, self.sums.wrapping_add(row * self.sums_stride))
    }
}

/// Elements of values that are multiplied at a time.
pub(super) const COLUMNS: usize = 2 * GROUP;

/// Blocks of rows whose products with values are kept at a time.
pub(super) const MOST_BLOCKS: usize = 4;

/// Weighted sums of values, `[rows, COLUMNS]`. Those of rows that were never weighed mean nothing.
#[repr(align(64))]
pub(super) struct Products(MaybeUninit<[[f32; COLUMNS]; MOST_BLOCKS * ROWS]>);

impl Products {
    /// Zeros would take as long as a block's products.
    pub(super) fn new() -> Self {
        Self(MaybeUninit::uninit())
    }

    /// The first number of a row, below [`MOST_BLOCKS`] times [`ROWS`].
    pub(super) fn row(&self, row: usize) -> *const f32 {
        self.0.as_ptr().cast::<f32>().wrapping_add(row * COLUMNS)
    }
}

/// Elements of values that few rows meet at a time.
pub(super) const FEW_COLUMNS: usize = WIDE_PANELS * GROUP;

/// [`COLUMNS`] or [`FEW_COLUMNS`] elements of the values of four cells as tiles: of each sixteen elements two, of 32 slots
/// each.
#[repr(align(64))]
pub(super) struct Packed(MaybeUninit<[[[u32; GROUP]; 2 * DEPTH]; WIDE_PANELS]>);

impl Packed {
    /// Means nothing before it is filled.
    pub(super) fn new() -> Self {
        Self(MaybeUninit::uninit())
    }

    /// The first tile of each sixteen elements.
    fn tiles<const N: usize>(&self) -> [*const u8; N] {
        let first = self.0.as_ptr().cast::<u8>();
        std::array::from_fn(|index| first.wrapping_add(index * 2 * DEPTH * LINE))
    }

    /// Copies the values of `columns` elements, up to [`FEW_COLUMNS`]: of each cell the word of the first element and of the
    /// first two slots; words of the next two are `stride` words on.
    ///
    /// # Safety
    ///
    /// The processor has AVX-512; eight rows of so many words of each cell are readable.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn fill(
        &mut self,
        cells: [*const u32; CELLS],
        stride: usize,
        columns: usize,
    ) {
        let tiles = columns.min(FEW_COLUMNS) / GROUP;
        let place = self.0.as_mut_ptr().cast::<[u32; GROUP]>();
        for (cell, values) in cells.into_iter().enumerate() {
            for pair in 0..GROUP / 2 {
                let row = cell * GROUP / 2 + pair;
                let words = values.wrapping_add(pair * stride).cast::<[u32; GROUP]>();
                for tile in 0..tiles {
                    // SAFETY: promised by the caller; each sixteen elements have 2 * DEPTH rows.
                    unsafe {
                        let place = place.add(tile * 2 * DEPTH + row);
                        place.write(words.add(tile).read());
                    }
                }
            }
        }
    }

    /// The weighted sums of some blocks of rows, [`MOST_BLOCKS`] at most. Each row has a word for two slots.
    ///
    /// # Safety
    ///
    /// [`shapes`] are configured, and this is filled; as many rows of 32 words, `stride` bytes apart, are readable.
    #[inline]
    pub(super) unsafe fn weigh(
        &self,
        count: usize,
        weights: *const u32,
        stride: usize,
        out: &mut Products,
    ) {
        debug_assert!((1..=MOST_BLOCKS).contains(&count));
        let blocks = Blocks {
            count,
            a: weights.cast(),
            stride,
            tiles: self.tiles(),
            sums: out.0.as_mut_ptr().cast(),
            sums_stride: COLUMNS * size_of::<f32>(),
            resumes: false,
        };
        // SAFETY: promised by the caller; there is space for as many blocks.
        unsafe { Bf16::multiply(&blocks) };
    }

    /// The same of up to [`FEW_ROWS`] rows with the `columns` elements that are filled, without tiles. Sums of others mean
    /// nothing.
    ///
    /// # Safety
    ///
    /// The processor has AVX-512; as many rows of 32 words are readable, and as many rows of
    /// sums are writable.
    #[inline]
    pub(super) unsafe fn weigh_few(
        &self,
        (rows, columns): (usize, usize),
        weights: *const u32,
        stride: usize,
        sums: &mut [[f32; FEW_COLUMNS]; FEW_ROWS],
    ) {
        debug_assert!((1..=FEW_ROWS).contains(&rows));
        let tiles = self.tiles::<WIDE_PANELS>();
        let last = columns / GROUP - 1;
        let operands = Operands {
            rows,
            depth: 2 * DEPTH,
            a: weights,
            a_stride: stride,
            panels: std::array::from_fn(|index| tiles[index.min(last)]),
            sums: sums.as_mut_ptr().cast(),
            sums_stride: FEW_COLUMNS * size_of::<f32>(),
            ahead: Ahead::NONE,
        };
        // SAFETY: promised by the caller.
        unsafe { few(&operands) };
    }
}
