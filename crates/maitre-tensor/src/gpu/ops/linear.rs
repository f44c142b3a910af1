//! The matrix product.
//!
//! ```text
//! f32 weights                      linear_f32      one chain of fused multiplications per output
//! bf16 on Hopper                   linear_hopper_* its own tensor cores and copies
//!            not deterministic, 256 rows and more, not gated: the vendor's library
//! deterministic mode               linear_*_RxF    tensor cores; the tile's size changes no bit
//!            up to 16 rows of ints linear_*_split_RxF  the same bits, k split over the warps of a block
//! otherwise  up to 4 rows          linear_*_fewM   a warp per two features: reading the weights is the work
//!            many rows of bf16     the vendor's library, then bias and gates
//!            what is between       linear_*_RxF
//! ```

use std::ops::Range;

use super::linear_hopper::{self, HopperTile};
use super::split::{SPLIT_ROWS, Split};
use super::tile::{TILES, Tile};
use super::{Device, at, bytes, bytes_mut};
use crate::backend::PEAK_BLOCK;
use crate::gpu::device::DeviceTurn;
use crate::gpu::weight::RowLayout;
use crate::gpu::{Arg, DeviceBytes, Grid};
use crate::operators::{Epilogue, Products};
use crate::{
    Activation, Buffer, InputFormat, LinearInput, PackedWeight, TensorError, WeightFormat,
};

/// Most rows for which the kernels that read weights once per two features are the fastest.
const FEW_ROWS: usize = 4;

/// Fewest rows of bf16 for which the vendor's library is asked: below it reading the
/// weights is the work, and the tiles here read them as fast as any.
const LIBRARY_ROWS: usize = 65;

/// The same beside the kernels of Hopper.
const LIBRARY_ROWS_ON_HOPPER: usize = 256;

/// Memory for gates and what they gate between the vendor's library and the kernel that joins them: about what
/// the second-level cache of a large GPU holds.
const JOIN_BYTES: usize = 48 << 20;

/// Rows of such a piece are a multiple of this, a tile of the library's.
const JOIN_ROWS: usize = 128;

/// Threads of a kernel that has a thread per number.
const THREADS: usize = 256;

/// Warps of a block of the kernels for few rows.
const FEW_WARPS: usize = 4;

impl Products for Device {
    fn linear(
        &self,
        x: &LinearInput,
        w: &PackedWeight,
        bias: Option<&Buffer>,
        out: &mut Buffer,
        rows: Range<usize>,
        epilogue: Epilogue<'_>,
    ) -> Result<(), TensorError> {
        let product = Product::of(epilogue.operator(), x, w, bias, rows)?;
        let out = bytes_mut(out)?;
        let mut turn = self.turn();
        product.queue(&mut turn, self.options().deterministic, out)?;
        if let Epilogue::Peaks(peaks) = epilogue {
            let blocks = product.n.div_ceil(PEAK_BLOCK);
            let grid = Grid::of((product.m * blocks).div_ceil(THREADS / 32), THREADS);
            let peaks = at(bytes_mut(peaks)?);
            let args = [at(out), peaks, Arg::U32(product.n), Arg::U32(product.m)];
            turn.queue().launch("logit_peaks", grid, &args)?;
        }
        Ok(())
    }

    fn linear_gated_encoded(
        &self,
        x: &LinearInput,
        w: &PackedWeight,
        bias: Option<&Buffer>,
        outs: (&mut Buffer, &mut LinearInput),
        rows: Range<usize>,
    ) -> Result<(), TensorError> {
        if !self.writes_encoded(w, outs.1) {
            return self.linear_gated_then_encoded(x, w, bias, outs, rows);
        }
        let (_, out) = outs;
        let product = Product::of("linear_gated_encoded", x, w, bias, rows)?;
        let stride = out.shape().words * 2;
        let out = out.memory_mut().checked_mut()?;
        if product.m == 0 || product.n == 0 {
            return Ok(());
        }
        product.queue_hopper(&self.turn(), Output::Encoded { out, stride })
    }
}

impl Device {
    /// Whether a product of `w` can leave its result rounded, in the form of `out`.
    fn writes_encoded(&self, w: &PackedWeight, out: &LinearInput) -> bool {
        self.has_hopper_kernels()
            && w.format() == WeightFormat::Bf16
            && out.format() == InputFormat::Bf16
            && linear_hopper::takes(w.rows(), w.is_gated())
    }
}

/// Where a product goes.
#[derive(Clone, Copy)]
enum Output<'a> {
    /// `[m, n]` of f32.
    Floats(&'a DeviceBytes),
    /// `[m, n]` of bf16, a row every so many numbers.
    Encoded { out: &'a DeviceBytes, stride: usize },
}

/// What a product is computed from.
struct Product<'a> {
    /// Where the first of the rows begins, in bytes.
    x: (&'a DeviceBytes, usize),
    /// Bytes of a row of `x`.
    x_bytes: usize,
    w: &'a DeviceBytes,
    place: RowLayout,
    format: WeightFormat,
    bias: Option<&'a DeviceBytes>,
    /// Token rows.
    m: usize,
    /// Numbers per row of the result.
    n: usize,
    /// Input features.
    k: usize,
    gate: Option<Activation>,
}

impl<'a> Product<'a> {
    fn of(
        operator: &'static str,
        x: &'a LinearInput,
        w: &'a PackedWeight,
        bias: Option<&'a Buffer>,
        rows: Range<usize>,
    ) -> Result<Self, TensorError> {
        let (m, gated) = (rows.len(), w.is_gated());
        let x_bytes = x.shape().words * size_of::<u32>();
        let first = if m == 0 { 0 } else { rows.start };
        Ok(Self {
            x: (x.memory().checked()?, first * x_bytes),
            x_bytes,
            w: w.memory().checked()?,
            place: RowLayout::of(operator, w.layout())?,
            format: w.format(),
            bias: bias.map(bytes).transpose()?,
            m,
            n: if gated { w.rows() / 2 } else { w.rows() },
            k: w.cols(),
            gate: w.layout().gate,
        })
    }

    fn queue(
        &self,
        turn: &mut DeviceTurn<'_>,
        deterministic: bool,
        out: &DeviceBytes,
    ) -> Result<(), TensorError> {
        let multiprocessors = turn.device().info().multiprocessors as usize;
        let is_bf16 = self.format == WeightFormat::Bf16;
        let is_integer = matches!(
            self.format,
            WeightFormat::Int8 { .. } | WeightFormat::Int4 { .. }
        );
        if self.m == 0 || self.n == 0 {
            Ok(())
        } else if self.format == WeightFormat::F32 {
            self.queue_f32(turn, out)
        } else if self.is_for_hopper(turn.device(), deterministic) {
            self.queue_hopper(turn, Output::Floats(out))
        } else if !deterministic && self.m <= FEW_ROWS {
            self.queue_few(turn, out)
        } else if !deterministic && self.m >= LIBRARY_ROWS && is_bf16 && self.gate.is_some() {
            self.queue_library_gated(turn, out)
        } else if !deterministic && self.m >= LIBRARY_ROWS && is_bf16 {
            self.queue_library(turn, out)
        } else if self.m <= SPLIT_ROWS && is_integer {
            self.queue_split(turn, multiprocessors, out)
        } else {
            let tile = Tile::of(self.m, self.n, self.gate.is_some(), multiprocessors);
            self.queue_tile(turn, &TILES[tile], out)
        }
    }

    fn queue_tile(
        &self,
        turn: &DeviceTurn<'_>,
        tile: &Tile,
        out: &DeviceBytes,
    ) -> Result<(), TensorError> {
        let grid = tile.grid(self.m, self.n, self.gate.is_some(), self.format);
        let kernel = tile.kernel(self.format);
        turn.queue().launch(kernel, grid, &self.args(out))
    }

    fn is_for_hopper(&self, device: &Device, deterministic: bool) -> bool {
        let is_for_library =
            !deterministic && self.gate.is_none() && self.m >= LIBRARY_ROWS_ON_HOPPER;
        self.format == WeightFormat::Bf16
            && device.has_hopper_kernels()
            && linear_hopper::takes(self.w_rows(), self.gate.is_some())
            && !is_for_library
    }

    /// Rows of w.
    fn w_rows(&self) -> usize {
        if self.gate.is_some() {
            2 * self.n
        } else {
            self.n
        }
    }

    fn queue_hopper(&self, turn: &DeviceTurn<'_>, out: Output<'_>) -> Result<(), TensorError> {
        let multiprocessors = turn.device().info().multiprocessors as usize;
        let (w_rows, k) = (self.w_rows(), self.x_bytes / 2);
        let tile = HopperTile::of(self.m, w_rows, multiprocessors);
        let (floats, encoded, stride) = match out {
            Output::Floats(out) => (at(out), Arg::Nothing, 0),
            Output::Encoded { out, stride } => (Arg::Nothing, at(out), stride),
        };
        let args = [
            Arg::Matrix(self.w, 0, tile.weights(w_rows, k, self.gate.is_some())),
            Arg::Matrix(self.x.0, self.x.1, tile.tokens(self.m, k)),
            self.bias.map_or(Arg::Nothing, at),
            floats,
            encoded,
            Arg::U32(stride),
            Arg::U32(self.m),
            Arg::U32(self.n),
            Arg::U32(k),
            Arg::U32(gate_code(self.gate)),
        ];
        let grid = tile.grid(self.m, w_rows);
        turn.queue().launch_early(tile.kernel, grid, &args)
    }

    fn queue_split(
        &self,
        turn: &DeviceTurn<'_>,
        multiprocessors: usize,
        out: &DeviceBytes,
    ) -> Result<(), TensorError> {
        let rows = if self.gate.is_some() {
            2 * self.n
        } else {
            self.n
        };
        let split = Split::of(self.m, rows, multiprocessors);
        let grid = split.grid(rows, self.format, &self.place);
        let kernel = split.kernel(self.format);
        turn.queue().launch_early(kernel, grid, &self.args(out))
    }

    fn queue_few(&self, turn: &DeviceTurn<'_>, out: &DeviceBytes) -> Result<(), TensorError> {
        let index = match self.m {
            1 => 0,
            2 => 1,
            _ => 2,
        };
        let kernel = match self.format {
            WeightFormat::Int8 { .. } => {
                ["linear_int8_few1", "linear_int8_few2", "linear_int8_few4"]
            }
            WeightFormat::Int4 { .. } => {
                ["linear_int4_few1", "linear_int4_few2", "linear_int4_few4"]
            }
            _ => ["linear_bf16_few1", "linear_bf16_few2", "linear_bf16_few4"],
        }[index];
        let warps = if self.gate.is_some() {
            self.n
        } else {
            self.n.div_ceil(2)
        };
        let grid = Grid::of(warps.div_ceil(FEW_WARPS), FEW_WARPS * 32);
        turn.queue().launch(kernel, grid, &self.args(out))
    }

    /// The arguments of the kernels that read bf16 rows: `Operands` of `cuda/linear_tile.cuh`.
    fn args(&self, out: &'a DeviceBytes) -> [Arg<'a>; 12] {
        let has_scales = self.place.scale_words > 0;
        [
            Arg::At(self.x.0, self.x.1),
            at(self.w),
            if has_scales {
                Arg::At(self.w, self.place.scales_at())
            } else {
                Arg::Nothing
            },
            self.bias.map_or(Arg::Nothing, at),
            at(out),
            Arg::U32(self.m),
            Arg::U32(self.n),
            Arg::U32(self.x_bytes / 2),
            Arg::U32(self.place.row_bytes),
            Arg::U32(self.place.scale_words),
            Arg::U32(self.place.group_shift()),
            Arg::U32(gate_code(self.gate)),
        ]
    }

    fn queue_f32(&self, turn: &DeviceTurn<'_>, out: &DeviceBytes) -> Result<(), TensorError> {
        // As in cuda/linear_f32.cu.
        const ROWS: usize = 16;
        const FEATURES: usize = 64;
        const PITCH: usize = 33;
        let loaded = ROWS + FEATURES * if self.gate.is_some() { 2 } else { 1 };
        let grid = Grid {
            blocks: [self.m.div_ceil(ROWS), self.n.div_ceil(FEATURES), 1],
            threads: THREADS,
            shared_bytes: loaded * PITCH * size_of::<f32>(),
        };
        let args = [
            Arg::At(self.x.0, self.x.1),
            at(self.w),
            self.bias.map_or(Arg::Nothing, at),
            at(out),
            Arg::U32(self.m),
            Arg::U32(self.n),
            Arg::U32(self.k),
            Arg::U32(gate_code(self.gate)),
        ];
        turn.queue().launch("linear_f32", grid, &args)
    }

    fn queue_library(&self, turn: &DeviceTurn<'_>, out: &DeviceBytes) -> Result<(), TensorError> {
        let queue = turn.queue();
        queue.multiply(self.x, self.w, (out, 0), [self.m, self.n, self.x_bytes / 2])?;
        let Some(bias) = self.bias else {
            return Ok(());
        };
        let grid = Grid::of((self.m * self.n).div_ceil(THREADS), THREADS);
        let args = [at(out), at(bias), Arg::U32(self.n), Arg::U32(self.m)];
        queue.launch("add_bias", grid, &args)
    }

    /// Piece by piece, so that gates and what they gate need not have space for all rows.
    fn queue_library_gated(
        &self,
        turn: &mut DeviceTurn<'_>,
        out: &DeviceBytes,
    ) -> Result<(), TensorError> {
        let both_bytes = 2 * self.n * size_of::<f32>();
        let piece = (JOIN_BYTES / both_bytes / JOIN_ROWS * JOIN_ROWS).max(JOIN_ROWS);
        turn.reserve_scratch(piece.min(self.m) * both_bytes)?;
        let (queue, both) = (turn.queue(), turn.scratch());
        for first in (0..self.m).step_by(piece) {
            let rows = piece.min(self.m - first);
            let x = (self.x.0, self.x.1 + first * self.x_bytes);
            queue.multiply(x, self.w, (both, 0), [rows, 2 * self.n, self.x_bytes / 2])?;
            let grid = Grid::of((rows * self.n).div_ceil(THREADS), THREADS);
            let args = [
                at(both),
                self.bias.map_or(Arg::Nothing, at),
                Arg::At(out, first * self.n * size_of::<f32>()),
                Arg::U32(self.n),
                Arg::U32(rows),
                Arg::U32(gate_code(self.gate)),
            ];
            queue.launch("gate_mul_halves", grid, &args)?;
        }
        Ok(())
    }
}

/// A gate as the kernels are told of it: `gate_mul` of `cuda/linear_weights.cuh`; 0 is none.
pub(super) const fn gate_code(gate: Option<Activation>) -> usize {
    match gate {
        None => 0,
        Some(Activation::Silu) => 1,
        Some(Activation::GeluTanh) => 2,
    }
}
