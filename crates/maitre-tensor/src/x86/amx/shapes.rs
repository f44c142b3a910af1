//! What the tile registers are configured to hold.

use std::arch::asm;
use std::marker::PhantomData;

use super::registers::{LINE, ROWS};

/// The shapes of the registers, as the processor reads them.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Shapes {
    /// Of registers with so many rows of so many bytes each.
    pub(crate) fn new(registers: [(usize, usize); 8]) -> Self {
        let mut shapes = Self {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            row_bytes: [0; 16],
            rows: [0; 16],
        };
        for (i, (rows, bytes)) in registers.into_iter().enumerate() {
            (shapes.rows[i], shapes.row_bytes[i]) = (rows as u8, bytes as u16);
        }
        shapes
    }

    /// Of a wide block of `rows` rows, `depth` words deep.
    pub(super) fn wide(rows: usize, depth: usize) -> Self {
        let (sums, panel) = ((rows, LINE), (depth, LINE));
        let a = (rows, depth * size_of::<u32>());
        Self::new([sums, sums, sums, sums, a, panel, panel, panel])
    }

    /// Of a tall block of `rows` rows, more than [`ROWS`].
    pub(super) fn tall(rows: usize, depth: usize) -> Self {
        let (low, bytes) = (rows - ROWS, depth * size_of::<u32>());
        let panel = (depth, LINE);
        Self::new([
            (ROWS, LINE),
            (ROWS, LINE),
            (low, LINE),
            (low, LINE),
            (ROWS, bytes),
            (low, bytes),
            panel,
            panel,
        ])
    }
}

/// The registers of this thread, configured. They are left as they were without tiles when this is dropped; nothing that is
/// called until then may use tiles of its own.
pub(super) struct Tiles(PhantomData<*mut ()>);

impl Tiles {
    /// # Safety
    ///
    /// [`is_granted`](super::is_granted), and no other [`Tiles`] of this thread are there.
    #[inline]
    pub(super) unsafe fn configure(shapes: &Shapes) -> Self {
        // SAFETY: promised by the caller.
        unsafe { load(shapes) };
        Self(PhantomData)
    }

    /// Other shapes; what the registers held is gone.
    #[inline]
    pub(super) fn reshape(&mut self, shapes: &Shapes) {
        // SAFETY: the caller of `configure` promised that the registers may be used.
        unsafe { load(shapes) };
    }
}

impl Drop for Tiles {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: as in `reshape`.
        unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) };
    }
}

/// # Safety
///
/// The registers may be used.
#[inline]
unsafe fn load(shapes: &Shapes) {
    // SAFETY: promised by the caller; the shapes are of the size and form that the processor reads.
    unsafe {
        asm!("ldtilecfg [{}]", in(reg) shapes, options(readonly, nostack, preserves_flags));
    }
}
