//! What can be recorded: kernels, products and copies, each with all that it needs to run later.
#![allow(unsafe_code)]

use std::slice;

use half::bf16;

use super::library::Heap;
use crate::TensorError;
use crate::gpu::{Address, Launch, MatrixProduct, RawArg};

/// A [`Launch`] that owns its arguments.
pub(super) struct OwnedLaunch {
    pub(super) kernel: &'static str,
    pub(super) grid: [u32; 3],
    pub(super) threads: u32,
    pub(super) shared_bytes: u32,
    pub(super) args: Vec<RawArg>,
}

impl OwnedLaunch {
    pub(super) fn of(launch: &Launch<'_>) -> Self {
        Self {
            kernel: launch.kernel,
            grid: launch.grid,
            threads: launch.threads,
            shared_bytes: launch.shared_bytes,
            args: launch.args.to_vec(),
        }
    }
}

pub(super) enum Work {
    Launch(OwnedLaunch),
    Multiply(MatrixProduct),
    Copy {
        from: Address,
        to: Address,
        bytes: usize,
    },
}

impl Work {
    /// # Safety
    /// As [`Gpu`](crate::gpu::Gpu) says.
    pub(super) unsafe fn run(&self, heap: &mut Heap, seed: u64) -> Result<(), TensorError> {
        let ran = match self {
            // SAFETY: the caller's promise.
            Self::Launch(launch) => unsafe { heap.launch(launch, seed) },
            Self::Multiply(product) => multiply(product, heap),
            Self::Copy { from, to, bytes } => copy(*from, *to, *bytes, heap),
        };
        ran.map_err(|message| self.failed(message))
    }

    pub(super) fn failed(&self, message: String) -> TensorError {
        TensorError::Device {
            operation: self.operation(),
            message,
        }
    }

    pub(super) fn operation(&self) -> &'static str {
        match self {
            Self::Launch(launch) => launch.kernel,
            Self::Multiply(_) => "multiply",
            Self::Copy { .. } => "copy",
        }
    }
}

fn copy(from: Address, to: Address, bytes: usize, heap: &mut Heap) -> Result<(), String> {
    if !heap.holds(from.0, bytes) || !heap.holds(to.0, bytes) {
        return Err(format!(
            "{bytes} bytes at {:#x} or {:#x} lie in no allocation",
            from.0, to.0
        ));
    }
    if from.0.abs_diff(to.0) < bytes as u64 {
        return Err(format!(
            "{bytes} bytes at {:#x} and {:#x} overlap",
            from.0, to.0
        ));
    }
    // SAFETY: both ranges were checked, and the heap is borrowed alone.
    unsafe { std::ptr::copy_nonoverlapping(from.0 as *const u8, to.0 as *mut u8, bytes) };
    Ok(())
}

/// Stands for a vendor's library. As there, the order of sums depends on the number of rows, so that tests find
/// code that relies on one order.
fn multiply(product: &MatrixProduct, heap: &mut Heap) -> Result<(), String> {
    let &MatrixProduct { x, w, out, m, n, k } = product;
    let operands = [(x, m, k, 2, "x"), (w, n, k, 2, "w"), (out, m, n, 4, "out")];
    for (address, rows, cols, size, name) in operands {
        let bytes = rows.checked_mul(cols).and_then(|len| len.checked_mul(size));
        if !bytes.is_some_and(|bytes| heap.holds(address.0, bytes)) {
            return Err(format!("{name} of [{rows}, {cols}] lies in no allocation"));
        }
        // What a vendor's library asks of its fastest kernels.
        if address.0 % 16 != 0 {
            return Err(format!(
                "{name} begins at {:#x}, no multiple of 16",
                address.0
            ));
        }
    }
    if k == 0 {
        return Err("there is nothing to sum".into());
    }
    // SAFETY: the ranges were checked and are aligned; the heap is borrowed alone, and operators pass as `out`
    // what no operand lies in.
    let (x, w, out) = unsafe {
        (
            slice::from_raw_parts(x.0 as *const bf16, m * k),
            slice::from_raw_parts(w.0 as *const bf16, n * k),
            slice::from_raw_parts_mut(out.0 as *mut f32, m * n),
        )
    };
    let dot = match m % 3 {
        0 => dot::<4>,
        1 => dot::<8>,
        _ => dot::<16>,
    };
    for (row, sums) in x.chunks_exact(k).zip(out.chunks_exact_mut(n.max(1))) {
        for (sum, col) in sums.iter_mut().zip(w.chunks_exact(k)) {
            *sum = dot(row, col);
        }
    }
    Ok(())
}

/// A sum in `PARTS` interleaved parts.
fn dot<const PARTS: usize>(a: &[bf16], b: &[bf16]) -> f32 {
    let mut parts = [0.0; PARTS];
    for (a, b) in a.chunks(PARTS).zip(b.chunks(PARTS)) {
        for (part, (a, b)) in parts.iter_mut().zip(a.iter().zip(b)) {
            *part += a.to_f32() * b.to_f32();
        }
    }
    parts.iter().sum()
}
