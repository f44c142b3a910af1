//! What operators put in a device's queue.
#![allow(unsafe_code)]

use std::sync::Arc;

#[cfg(feature = "fault-injection")]
use super::faults::LaunchFailure;
use super::{Address, BoxedMatrix, DeviceBytes, Gpu, Launch, MatrixProduct, RawArg};
use crate::TensorError;

/// One argument of a kernel. Memory is named by its owner, so that it lives while the launch is queued.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Arg<'a> {
    /// The first byte of an allocation and so many beyond.
    At(&'a DeviceBytes, usize),
    /// A matrix that begins there.
    Matrix(&'a DeviceBytes, usize, BoxedMatrix),
    /// A null pointer: an optional operand that is not there.
    Nothing,
    U32(usize),
    F32(f32),
}

/// How many blocks of how many threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grid {
    pub(crate) blocks: [usize; 3],
    /// Threads per block, a multiple of 32.
    pub(crate) threads: usize,
    /// Dynamic shared memory per block.
    pub(crate) shared_bytes: usize,
}

impl Grid {
    /// `x` blocks of `threads` threads.
    pub(crate) fn of(x: usize, threads: usize) -> Self {
        Self {
            blocks: [x, 1, 1],
            threads,
            shared_bytes: 0,
        }
    }
}

/// Launches in order.
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    gpu: Arc<dyn Gpu>,
    #[cfg(feature = "fault-injection")]
    failure: LaunchFailure,
}

impl Queue {
    pub(crate) fn new(gpu: Arc<dyn Gpu>) -> Self {
        Self {
            gpu,
            #[cfg(feature = "fault-injection")]
            failure: LaunchFailure::default(),
        }
    }

    #[cfg(feature = "fault-injection")]
    pub(crate) fn failure(&self) -> &LaunchFailure {
        &self.failure
    }

    pub(crate) fn gpu(&self) -> &Arc<dyn Gpu> {
        &self.gpu
    }

    /// Queues a kernel. A grid without blocks is no work. Every operator has checked that the kernel stays
    /// within its arguments: extents against buffers, indices against extents.
    pub(crate) fn launch(
        &self,
        kernel: &'static str,
        grid: Grid,
        args: &[Arg<'_>],
    ) -> Result<(), TensorError> {
        self.launch_when(false, kernel, grid, args)
    }

    /// The same for a kernel whose blocks take their places while the one before it still runs. That saves a launch,
    /// but places are then given as they become free: a kernel of few long blocks would have several on one
    /// multiprocessor and none on others.
    pub(crate) fn launch_early(
        &self,
        kernel: &'static str,
        grid: Grid,
        args: &[Arg<'_>],
    ) -> Result<(), TensorError> {
        self.launch_when(true, kernel, grid, args)
    }

    fn launch_when(
        &self,
        early: bool,
        kernel: &'static str,
        grid: Grid,
        args: &[Arg<'_>],
    ) -> Result<(), TensorError> {
        if grid.blocks.contains(&0) {
            return Ok(());
        }
        #[cfg(feature = "fault-injection")]
        self.failure.count(kernel)?;
        let too_large = |what: &str, value: usize| TensorError::Device {
            operation: kernel,
            message: format!("{what} of {value} is beyond what a kernel can be told"),
        };
        let narrow = |what, value: usize| u32::try_from(value).map_err(|_| too_large(what, value));
        let mut raw = Vec::with_capacity(args.len());
        for arg in args {
            raw.push(match *arg {
                Arg::At(bytes, offset) => {
                    self.gpu.turns().keep(bytes);
                    RawArg::Address(bytes.address().0 + offset as u64)
                }
                Arg::Matrix(bytes, offset, matrix) => {
                    self.gpu.turns().keep(bytes);
                    RawArg::Matrix(bytes.address().0 + offset as u64, matrix)
                }
                Arg::Nothing => RawArg::Address(0),
                Arg::U32(value) => RawArg::U32(narrow("an argument", value)?),
                Arg::F32(value) => RawArg::F32(value),
            });
        }
        let mut blocks = [0; 3];
        for (narrowed, wide) in blocks.iter_mut().zip(grid.blocks) {
            *narrowed = narrow("a grid", wide)?;
        }
        let launch = Launch {
            kernel,
            grid: blocks,
            threads: narrow("a block", grid.threads)?,
            shared_bytes: narrow("shared memory", grid.shared_bytes)?,
            early,
            args: &raw,
        };
        // SAFETY: operators check extents and indices before they come here, and pass what the kernel
        // declares (each kernel is launched by one operator, beside which its tests stand).
        unsafe { self.gpu.launch(&launch) }
    }

    /// Queues a product of bf16 matrices, `[m, k]` by `[n, k]`, into `[m, n]` of f32.
    pub(crate) fn multiply(
        &self,
        (x, x_offset): (&DeviceBytes, usize),
        w: &DeviceBytes,
        (out, out_offset): (&DeviceBytes, usize),
        [m, n, k]: [usize; 3],
    ) -> Result<(), TensorError> {
        let fits = x_offset + m * k * 2 <= x.len()
            && n * k * 2 <= w.len()
            && out_offset + m * n * 4 <= out.len();
        if !fits {
            return Err(TensorError::Device {
                operation: "multiply",
                message: format!("operands are smaller than [{m}, {n}, {k}]"),
            });
        }
        for bytes in [x, w, out] {
            self.gpu.turns().keep(bytes);
        }
        let product = MatrixProduct {
            x: Address(x.address().0 + x_offset as u64),
            w: w.address(),
            out: Address(out.address().0 + out_offset as u64),
            m,
            n,
            k,
        };
        // SAFETY: the extents were checked above.
        unsafe { self.gpu.multiply(&product) }
    }
}
