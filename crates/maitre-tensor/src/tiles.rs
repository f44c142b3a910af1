//! How the output of an operator is cut into tiles that are written at the same time.
//!
//! The tiles of a matrix are rarely contiguous (a block of columns is a piece of every row), so
//! `chunks_mut` can't hand them out. The types here cut an exclusively borrowed buffer by a rule
//! that makes its parts disjoint; what a kernel gets is safe to use. All pointer arithmetic of the
//! operators is in this file.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ops::Range;

/// A buffer, or several, cut into parts that do not overlap.
///
/// # Safety
///
/// Parts with different numbers share no memory, and stay within what `self` borrows exclusively.
pub(crate) unsafe trait Outputs: Sync {
    /// What one tile writes.
    type Part;

    /// Number of parts.
    fn tiles(&self) -> usize;

    /// Part `tile`.
    ///
    /// # Safety
    ///
    /// `tile` is below `tiles()`, and was not asked for before.
    unsafe fn part(&self, tile: usize) -> Self::Part;
}

/// An exclusively borrowed slice that is reached through its parts only.
///
/// A value of [`Outputs`] and each of its parts hold a copy; what they may reach through it differs.
struct Base<'a, T> {
    start: *mut T,
    len: usize,
    borrow: PhantomData<&'a mut [T]>,
}

impl<T> Clone for Base<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Base<'_, T> {}

// SAFETY: parts are disjoint, so sharing a `Base` between threads sends them `&mut T`s.
unsafe impl<T: Send> Sync for Base<'_, T> {}

impl<'a, T> Base<'a, T> {
    fn new(slice: &'a mut [T]) -> Self {
        Self {
            start: slice.as_mut_ptr(),
            len: slice.len(),
            borrow: PhantomData,
        }
    }

    /// # Safety
    ///
    /// No other reference to the range is alive.
    unsafe fn slice(&self, range: Range<usize>) -> &'a mut [T] {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "a tile leaves its buffer"
        );
        // SAFETY: in bounds as just checked, borrowed exclusively for `'a`, and unshared as the
        // caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

/// Blocks of whole rows of a row-major matrix.
pub(crate) struct RowBlocks<'a, T> {
    base: Base<'a, T>,
    rows: usize,
    cols: usize,
    block: usize,
}

/// Consecutive rows of a matrix.
pub(crate) struct Rows<'a, T> {
    /// Number of the first row within the matrix.
    pub(crate) first: usize,
    /// The rows.
    pub(crate) data: &'a mut [T],
}

impl<'a, T> RowBlocks<'a, T> {
    /// Cuts `[rows, cols]` into blocks of `block` rows, the last one shorter.
    pub(crate) fn new(data: &'a mut [T], cols: usize, block: usize) -> Self {
        let cols = cols.max(1);
        Self {
            rows: data.len() / cols,
            base: Base::new(data),
            cols,
            block: block.max(1),
        }
    }
}

impl<'a, T> RowBlocks<'a, T> {
    /// Cuts `rows` rows, which may be empty ones, into blocks of `block`.
    pub(crate) fn with_rows(data: &'a mut [T], rows: usize, block: usize) -> Self {
        Self {
            rows,
            cols: data.len().checked_div(rows).unwrap_or(0),
            base: Base::new(data),
            block: block.max(1),
        }
    }
}

// SAFETY: blocks of rows with different numbers are disjoint ranges.
unsafe impl<'a, T: Send> Outputs for RowBlocks<'a, T> {
    type Part = Rows<'a, T>;

    fn tiles(&self) -> usize {
        self.rows.div_ceil(self.block)
    }

    unsafe fn part(&self, tile: usize) -> Rows<'a, T> {
        let first = tile * self.block;
        let last = self.rows.min(first + self.block);
        Rows {
            first,
            // SAFETY: only this part covers these rows, and it is the only one of its number.
            data: unsafe { self.base.slice(first * self.cols..last * self.cols) },
        }
    }
}

/// Rectangles of a row-major matrix.
///
/// ```text
///            block_cols
///          ┌──────┬──────┬───┐
/// block_   │  0   │  2   │ 4 │     consecutive tiles share their columns,
/// rows     ├──────┼──────┼───┤     which is what a kernel reads most of
///          │  1   │  3   │ 5 │
///          └──────┴──────┴───┘
/// ```
pub(crate) struct Grid<'a, T> {
    base: Base<'a, T>,
    rows: usize,
    cols: usize,
    /// Numbers from one row to the next.
    stride: usize,
    block_rows: usize,
    block_cols: usize,
}

/// One rectangle of a [`Grid`].
pub(crate) struct Rect<'a, T> {
    base: Base<'a, T>,
    stride: usize,
    rows: Range<usize>,
    cols: Range<usize>,
    /// The column of the matrix that counts as the first.
    origin: usize,
}

impl<'a, T> Grid<'a, T> {
    /// Cuts `[rows, cols]` into rectangles of `block_rows` by `block_cols`, smaller at the edges.
    pub(crate) fn new(
        data: &'a mut [T],
        cols: usize,
        block_rows: usize,
        block_cols: usize,
    ) -> Self {
        Self::padded(data, cols, cols, block_rows, block_cols)
    }

    /// The same of the first `cols` numbers of rows that are `stride` numbers apart.
    pub(crate) fn padded(
        data: &'a mut [T],
        stride: usize,
        cols: usize,
        block_rows: usize,
        block_cols: usize,
    ) -> Self {
        let stride = stride.max(1);
        Self {
            rows: data.len() / stride,
            base: Base::new(data),
            cols: cols.min(stride),
            stride,
            block_rows: block_rows.max(1),
            block_cols: block_cols.max(1),
        }
    }
}

// SAFETY: rectangles with different numbers are disjoint, and `Rect` gives out only its own cells.
unsafe impl<'a, T: Send> Outputs for Grid<'a, T> {
    type Part = Rect<'a, T>;

    fn tiles(&self) -> usize {
        self.rows.div_ceil(self.block_rows) * self.cols.div_ceil(self.block_cols)
    }

    unsafe fn part(&self, tile: usize) -> Rect<'a, T> {
        let row_blocks = self.rows.div_ceil(self.block_rows);
        let row = (tile % row_blocks) * self.block_rows;
        let col = (tile / row_blocks) * self.block_cols;
        Rect {
            base: self.base,
            stride: self.stride,
            rows: row..self.rows.min(row + self.block_rows),
            cols: col..self.cols.min(col + self.block_cols),
            origin: 0,
        }
    }
}

impl<T> Rect<'_, T> {
    /// Rows of the matrix that the rectangle covers.
    pub(crate) fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    /// Columns of the matrix that the rectangle covers.
    pub(crate) fn cols(&self) -> Range<usize> {
        self.cols.start - self.origin..self.cols.end - self.origin
    }

    /// The rectangle's share of the matrix that `cols` of this one are; none if it covers nothing of them.
    pub(crate) fn within(&mut self, cols: Range<usize>) -> Option<Rect<'_, T>> {
        let (start, end) = (self.origin + cols.start, self.origin + cols.end);
        let shared = self.cols.start.max(start)..self.cols.end.min(end);
        (!shared.is_empty()).then(|| Rect {
            base: self.base,
            stride: self.stride,
            rows: self.rows.clone(),
            cols: shared,
            origin: start,
        })
    }

    /// The rectangle's piece of the matrix's row `row`.
    pub(crate) fn row_mut(&mut self, row: usize) -> &mut [T] {
        assert!(
            self.rows.contains(&row),
            "a tile writes a row of another tile"
        );
        let start = row * self.stride;
        // SAFETY: the cells belong to this rectangle alone, and `&mut self` lends them once.
        unsafe {
            self.base
                .slice(start + self.cols.start..start + self.cols.end)
        }
    }
}

/// The cells of a cache, `[groups, kv_heads, cell]`, dealt out by key head and round-robin by group
/// of slots. Several tokens that name one slot meet in one part, in order, and so do slots that
/// share words.
///
/// Part `share + shares * kv_head` owns the cells of that head in groups that leave the remainder
/// `share`: the numbering of a [`Grid`] of `shares` blocks of rows and `kv_heads` blocks of columns.
pub(crate) struct Cells<'a> {
    base: Base<'a, u32>,
    kv_heads: usize,
    /// Words per cell.
    words: usize,
    shares: usize,
}

/// One part of [`Cells`].
pub(crate) struct CellShare<'a> {
    base: Base<'a, u32>,
    kv_heads: usize,
    words: usize,
    shares: usize,
    share: usize,
    kv_head: usize,
}

impl<'a> Cells<'a> {
    /// Deals out `[groups, kv_heads, words]` to `shares` parts per head.
    pub(crate) fn new(data: &'a mut [u32], kv_heads: usize, words: usize, shares: usize) -> Self {
        Self {
            base: Base::new(data),
            kv_heads,
            words,
            shares: shares.max(1),
        }
    }
}

// SAFETY: a group has one remainder, and `CellShare` gives out only cells of its groups and head.
unsafe impl<'a> Outputs for Cells<'a> {
    type Part = CellShare<'a>;

    fn tiles(&self) -> usize {
        self.shares * self.kv_heads
    }

    unsafe fn part(&self, tile: usize) -> CellShare<'a> {
        CellShare {
            base: self.base,
            kv_heads: self.kv_heads,
            words: self.words,
            shares: self.shares,
            share: tile % self.shares,
            kv_head: tile / self.shares,
        }
    }
}

impl CellShare<'_> {
    /// The key head whose cells these are.
    pub(crate) fn kv_head(&self) -> usize {
        self.kv_head
    }

    /// Whether the group of slots is one of this share's.
    pub(crate) fn owns(&self, group: usize) -> bool {
        group % self.shares == self.share
    }

    /// The head's cell of the group.
    pub(crate) fn cell_mut(&mut self, group: usize) -> &mut [u32] {
        assert!(self.owns(group), "a tile writes a cell of another tile");
        let start = (group * self.kv_heads + self.kv_head) * self.words;
        // SAFETY: the cell belongs to this share alone, and `&mut self` lends it once.
        unsafe { self.base.slice(start..start + self.words) }
    }

    /// Copies the head's cell of one group to that of another.
    pub(crate) fn copy_cell(&mut self, from: usize, to: usize) {
        assert!(
            self.owns(from) && self.owns(to),
            "a tile copies a cell of another tile"
        );
        if from == to {
            return;
        }
        let [from, to] =
            [from, to].map(|group| (group * self.kv_heads + self.kv_head) * self.words);
        // SAFETY: two different cells, which belong to this share alone, and `&mut self` keeps
        // other references to them away.
        let (from, to) = unsafe {
            (
                self.base.slice(from..from + self.words),
                self.base.slice(to..to + self.words),
            )
        };
        to.copy_from_slice(from);
    }
}

// SAFETY: each of the two keeps its own parts apart, and they borrow different buffers.
unsafe impl<A: Outputs, B: Outputs> Outputs for (A, B) {
    type Part = (A::Part, B::Part);

    fn tiles(&self) -> usize {
        self.0.tiles().min(self.1.tiles())
    }

    unsafe fn part(&self, tile: usize) -> Self::Part {
        // SAFETY: `tile` is below the smaller count, and used once as the caller promises.
        unsafe { (self.0.part(tile), self.1.part(tile)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds one to every cell of every part.
    fn touch_all<O: Outputs>(outputs: O, touch: impl Fn(O::Part)) {
        for tile in 0..outputs.tiles() {
            // SAFETY: each tile once, and the part ends with the call.
            touch(unsafe { outputs.part(tile) });
        }
    }

    #[test]
    fn row_blocks_and_grids_cover_each_cell_once() {
        for (rows, cols, block_rows, block_cols) in [
            (0, 3, 2, 2),
            (1, 1, 1, 1),
            (5, 7, 2, 3),
            (4, 6, 2, 3),
            (3, 2, 9, 9),
            (2, 5, 0, 0),
        ] {
            let mut cells = vec![0; rows * cols];
            touch_all(RowBlocks::new(&mut cells, cols, block_rows), |part| {
                part.data.iter_mut().for_each(|cell| *cell += 1);
            });
            touch_all(
                Grid::new(&mut cells, cols, block_rows, block_cols),
                |mut part| {
                    for row in part.rows() {
                        part.row_mut(row).iter_mut().for_each(|cell| *cell += 1);
                    }
                },
            );
            assert_eq!(cells, vec![2; rows * cols]);
        }
    }

    #[test]
    fn a_padded_grid_leaves_out_the_ends_of_rows() {
        let mut cells = vec![0; 4 * 7];
        touch_all(Grid::padded(&mut cells, 7, 5, 3, 2), |mut part| {
            for row in part.rows() {
                part.row_mut(row).iter_mut().for_each(|cell| *cell += 1);
            }
        });
        assert_eq!(cells, [1, 1, 1, 1, 1, 0, 0].repeat(4));
    }

    #[test]
    fn every_cell_has_one_owner() {
        let (groups, kv_heads, words) = (7, 3, 2);
        let mut cells = vec![0; groups * kv_heads * words];
        touch_all(Cells::new(&mut cells, kv_heads, words, 4), |mut part| {
            for group in 0..groups {
                if part.owns(group) {
                    part.cell_mut(group).iter_mut().for_each(|word| *word += 1);
                }
            }
        });
        assert_eq!(cells, vec![1; groups * kv_heads * words]);
    }

    #[test]
    fn a_cell_becomes_the_copy_of_another() {
        // Two groups of two heads of two words.
        let mut cells = [1, 2, 3, 4, 5, 6, 7, 8];
        let shares = Cells::new(&mut cells, 2, 2, 1);
        // SAFETY: each part once.
        let [mut first, mut second] = unsafe { [shares.part(0), shares.part(1)] };
        first.copy_cell(0, 1);
        second.copy_cell(1, 0);
        second.copy_cell(1, 1);
        assert_eq!(cells, [1, 2, 7, 8, 1, 2, 7, 8]);
    }

    #[test]
    #[should_panic(expected = "copies a cell of another tile")]
    fn a_share_does_not_read_the_cells_of_others() {
        let mut cells = vec![0; 4];
        let shares = Cells::new(&mut cells, 1, 1, 2);
        // SAFETY: the only part.
        unsafe { shares.part(0) }.copy_cell(1, 2);
    }

    #[test]
    #[should_panic(expected = "writes a cell of another tile")]
    fn a_share_refuses_the_cells_of_others() {
        let mut cells = vec![0; 4];
        let shares = Cells::new(&mut cells, 1, 1, 2);
        // SAFETY: the only part.
        unsafe { shares.part(0) }.cell_mut(1);
    }
}
