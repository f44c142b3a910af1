//! The matrix product.

use std::ops::Range;

use super::Backend;
use super::check::Check;
use crate::gpu::Epilogue;
use crate::input::LinearInput;
use crate::kernels::Linear;
use crate::tiles::Grid;
use crate::weight::PackedView;
use crate::weight::layout::LANES;
use crate::{Buffer, PackedWeight, TensorError};

/// Output features that a kernel computes side by side: four panels, which at the usual 1,000 to
/// 4,000 input features stay in a second-level cache while all token rows pass.
const FEATURES: usize = 4 * LANES;

/// Weights of a tile when there are few tokens: some ten microseconds of reading.
const TILE_BYTES: usize = 256 * 1024;

/// Tiles per thread below which the token rows are cut too.
const TILES_PER_THREAD: usize = 4;

/// Fewest token rows of a tile where rows are cut: each cut reads the weights once more.
const TILE_ROWS: usize = 96;

/// Logits that share a peak.
pub const PEAK_BLOCK: usize = 64;

// A tile ends where a block of peaks does.
const _: () = assert!(FEATURES.is_multiple_of(PEAK_BLOCK));

impl Backend {
    /// `out = x[rows] * w^T + bias`: `x` is `[.., w.cols()]`, `bias` is `[w.rows()]`, and `out` is
    /// `[rows.len(), w.rows()]`.
    ///
    /// Products and sums are f32 for the floating-point formats. For the integer formats sums are
    /// exact within a group, and scaled and added in f32 across groups, in order.
    ///
    /// # Errors
    ///
    /// As for every operator of [`Backend`]; `x` must be in the form of `w`'s format.
    pub fn linear(
        &self,
        x: &LinearInput,
        w: &PackedWeight,
        bias: Option<&Buffer>,
        out: &mut Buffer,
        rows: Range<usize>,
    ) -> Result<(), TensorError> {
        if let Some(device) = self.device() {
            self.inner.heartbeat.beat();
            return device.linear(x, w, bias, out, rows, Epilogue::None);
        }
        let check = Check("linear");
        check.rule(!w.is_gated(), "w", "packed as it is, not gated", "gated")?;
        let product = Product::checked(check, x, w, bias, rows)?;
        let out = check.matrix_mut("out", out, product.rows, w.rows())?;
        let (block_rows, block_cols) = self.linear_blocks(w.view(), product.rows);
        let grid = Grid::new(out, w.rows(), block_rows, block_cols);
        let kernels = self.kernels();
        self.for_each_tile("linear", grid, |mut rect, scratch| {
            (kernels.linear)(&product.args, &mut rect, scratch);
        })
    }

    /// `out = silu(gate) * up`, where `gate` and `up` are the two halves of `x[rows] * w^T + bias`
    /// and `silu(x) = x / (1 + e^-x)`. `w` is made by [`Backend::pack_gated`], `bias` is
    /// `[w.rows()]`, and `out` is `[rows.len(), w.rows() / 2]`. The halves themselves are never
    /// written to memory.
    ///
    /// # Errors
    ///
    /// As for every operator of [`Backend`].
    pub fn linear_silu_mul(
        &self,
        x: &LinearInput,
        w: &PackedWeight,
        bias: Option<&Buffer>,
        out: &mut Buffer,
        rows: Range<usize>,
    ) -> Result<(), TensorError> {
        if let Some(device) = self.device() {
            self.inner.heartbeat.beat();
            return device.linear(x, w, bias, out, rows, Epilogue::SiluMul);
        }
        let check = Check("linear_silu_mul");
        check.rule(w.is_gated(), "w", "packed as gated", "not")?;
        let product = Product::checked(check, x, w, bias, rows)?;
        let out = check.matrix_mut("out", out, product.rows, w.rows() / 2)?;
        let (block_rows, block_cols) = self.linear_blocks(w.view(), product.rows);
        let grid = Grid::new(out, w.rows() / 2, block_rows, block_cols / 2);
        let kernels = self.kernels();
        self.for_each_tile("linear_silu_mul", grid, |mut rect, scratch| {
            (kernels.linear)(&product.args, &mut rect, scratch);
        })
    }

    /// As [`Backend::linear_silu_mul`] followed by [`Backend::encode`] into `out`: what goes into the next matrix, which
    /// some devices write at once. Others leave the result in `between`, `[rows.len(), w.rows() / 2]`, on its way; what
    /// that holds afterwards is not defined.
    ///
    /// # Errors
    ///
    /// As for every operator of [`Backend`].
    pub fn linear_silu_mul_encoded(
        &self,
        x: &LinearInput,
        w: &PackedWeight,
        bias: Option<&Buffer>,
        (between, out): (&mut Buffer, &mut LinearInput),
        rows: Range<usize>,
    ) -> Result<(), TensorError> {
        if let Some(device) = self.device()
            && device.writes_encoded(w, out)
        {
            self.inner.heartbeat.beat();
            return device.linear_silu_mul_encoded(x, w, bias, out, rows);
        }
        let num_rows = rows.len();
        self.linear_silu_mul(x, w, bias, between, rows)?;
        self.encode(between, out, num_rows)
    }

    /// As [`Backend::linear`] without a bias, for an output layer: beside the logits it writes the
    /// largest of every [`PEAK_BLOCK`] of them while they are at hand, `[rows.len(),
    /// w.rows() / PEAK_BLOCK]` rounded up. A caller that looks for large logits then need not read
    /// the others. The peak of a block with a logit that is NaN or +inf is NaN.
    ///
    /// # Errors
    ///
    /// As for every operator of [`Backend`].
    pub fn linear_with_peaks(
        &self,
        x: &LinearInput,
        w: &PackedWeight,
        out: &mut Buffer,
        peaks: &mut Buffer,
        rows: Range<usize>,
    ) -> Result<(), TensorError> {
        if let Some(device) = self.device() {
            self.inner.heartbeat.beat();
            return device.linear(x, w, None, out, rows, Epilogue::Peaks(peaks));
        }
        let check = Check("linear_with_peaks");
        check.rule(!w.is_gated(), "w", "packed as it is, not gated", "gated")?;
        let product = Product::checked(check, x, w, None, rows)?;
        let out = check.matrix_mut("out", out, product.rows, w.rows())?;
        let blocks = w.rows().div_ceil(PEAK_BLOCK);
        let peaks = check.matrix_mut("peaks", peaks, product.rows, blocks)?;
        let (block_rows, block_cols) = self.linear_blocks(w.view(), product.rows);
        let grids = (
            Grid::new(out, w.rows(), block_rows, block_cols),
            Grid::new(peaks, blocks, block_rows, block_cols / PEAK_BLOCK),
        );
        let kernels = self.kernels();
        self.for_each_tile(
            "linear_with_peaks",
            grids,
            |(mut logits, mut peaks), scratch| {
                (kernels.linear)(&product.args, &mut logits, scratch);
                for row in logits.rows() {
                    (kernels.peaks)(logits.row_mut(row), peaks.row_mut(row));
                }
            },
        )
    }

    /// Token rows and output features of a tile.
    fn linear_blocks(&self, w: PackedView<'_>, rows: usize) -> (usize, usize) {
        let bytes = w.layout.panel_bytes() * (FEATURES / LANES);
        let wanted = self.threads() * TILES_PER_THREAD;
        // Many features per tile while reading them is most of the work, as long as there are
        // tiles enough for all threads.
        let groups = w.layout.panels().div_ceil(FEATURES / LANES);
        let per_tile = (TILE_BYTES / bytes).clamp(1, (groups / wanted).max(1));
        let tiles = groups.div_ceil(per_tile);
        let cuts = wanted.div_ceil(tiles.max(1));
        let block_rows = rows.div_ceil(cuts).max(TILE_ROWS);
        (block_rows, per_tile * FEATURES)
    }
}

/// Checked arguments of a product, and its number of rows.
struct Product<'a> {
    args: Linear<'a>,
    rows: usize,
}

impl<'a> Product<'a> {
    fn checked(
        check: Check,
        x: &'a LinearInput,
        w: &'a PackedWeight,
        bias: Option<&'a Buffer>,
        rows: Range<usize>,
    ) -> Result<Self, TensorError> {
        let count = rows.len();
        let needed = rows.start.saturating_add(count);
        w.memory().require_host(check.0, "w")?;
        check.input("x", x, w.format().input(), w.cols(), needed)?;
        let first = if count == 0 { 0 } else { rows.start };
        Ok(Self {
            args: Linear {
                x: x.view().rows(first, count),
                weight: w.view(),
                bias: bias
                    .map(|bias| check.vector("bias", bias, w.rows()))
                    .transpose()?,
            },
            rows: count,
        })
    }
}
