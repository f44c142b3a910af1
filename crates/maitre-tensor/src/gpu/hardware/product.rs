//! Products of bf16 matrices by cuBLASLt.
//!
//! The library thinks in columns. A row-major `[rows, cols]` is, read by columns, its transpose:
//!
//! ```text
//! wanted, row-major          out[m, n]  =  x[m, k] · w[n, k]^T
//! the same, column-major     D (n x m)  =  A^T (n x k) · B (k x m)      A = w (k x n), B = x (k x m)
//! leading dimensions         n             k             k
//! ```
//!
//! Which of its algorithms to run is asked once per shape, with `m` rounded up to a power of two, as asking
//! takes far longer than launching (cuBLAS, "cublasLtMatmulAlgoGetHeuristic()").
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr;

use cudarc::cublaslt::result as lt;
use cudarc::cublaslt::sys::{
    self, cublasLtMatmulAlgo_t, cublasLtMatrixLayout_t, cublasStatus_t, cudaDataType_t,
};

use super::context::Stream;
use super::cublas::{
    ALIGNMENT, Description, Layout, Library, Preference, WORKSPACE_BYTES, Workspace,
};
use super::failure::{During, failed};
use crate::TensorError;
use crate::gpu::MatrixProduct;

/// The library, its memory, and what it was found to do best.
pub(super) struct Products {
    /// By `m` (a power of two, or the exact one where that plan does not do), `n`, `k`.
    plans: HashMap<[usize; 3], Plan>,
    preference: Preference,
    description: Description,
    workspace: Workspace,
    library: Library,
}

impl Products {
    /// Opens the library on the GPU whose context is current.
    pub(super) fn open() -> Result<Self, TensorError> {
        let library = Library::open()?;
        Ok(Self {
            plans: HashMap::new(),
            preference: Preference::new()?,
            description: Description::new()?,
            workspace: Workspace::new()?,
            library,
        })
    }

    /// Queues a product.
    ///
    /// # Safety
    /// The operands lie in live allocations.
    pub(super) unsafe fn multiply(
        &mut self,
        stream: &Stream,
        product: &MatrixProduct,
    ) -> Result<(), TensorError> {
        let &MatrixProduct { x, w, out, m, n, k } = product;
        if m == 0 || n == 0 {
            return Ok(());
        }
        check(product)?;
        let plan = self.plan(m, n, k)?;
        let (algorithm, layouts) = (plan.algorithm, plan.layouts());
        let (one, zero) = (1.0_f32, 0.0_f32);
        let operand = |address: u64| address as *mut c_void;
        let [w_layout, x_layout, out_layout] = layouts;
        // SAFETY: the handles live as long as `self`; the layouts describe the operands, for which the
        // caller vouches; the workspace is used by one product at a time, as they share a stream.
        unsafe {
            lt::matmul(
                self.library.raw(),
                self.description.raw(),
                ptr::from_ref(&one).cast(),
                ptr::from_ref(&zero).cast(),
                operand(w.0),
                w_layout,
                operand(x.0),
                x_layout,
                operand(out.0),
                out_layout,
                operand(out.0),
                out_layout,
                &raw const algorithm,
                operand(self.workspace.address()),
                WORKSPACE_BYTES,
                stream.raw().cast(),
            )
        }
        .during("multiply")
    }

    /// What to run for this shape, its layouts set to `m`.
    fn plan(&mut self, m: usize, n: usize, k: usize) -> Result<&Plan, TensorError> {
        let mut key = [m.next_power_of_two(), n, k];
        self.ensure(key)?;
        if !self.fits(key, m)? {
            // What is best for the power of two cannot do this `m`: ask for it alone.
            key[0] = m;
            self.ensure(key)?;
        }
        self.plans
            .get(&key)
            .ok_or_else(|| failed("multiply", "a plan was lost".into()))
    }

    fn ensure(&mut self, key: [usize; 3]) -> Result<(), TensorError> {
        if let Entry::Vacant(place) = self.plans.entry(key) {
            let plan = Plan::new(&self.library, &self.description, &self.preference, key)?;
            place.insert(plan);
        }
        Ok(())
    }

    /// Sets a plan to `m` rows, and asks whether its algorithm can do them; once, if `m` does not change.
    fn fits(&mut self, key: [usize; 3], m: usize) -> Result<bool, TensorError> {
        let Some(plan) = self.plans.get_mut(&key) else {
            return Ok(false);
        };
        if plan.m == m {
            return Ok(true);
        }
        plan.resize(m)?;
        let [w, x, out] = plan.layouts();
        let mut answer = MaybeUninit::<sys::cublasLtMatmulHeuristicResult_t>::zeroed();
        // SAFETY: all handles are alive; the library writes one answer. Zeroes are a valid one: a success
        // that needs no workspace.
        let (status, answer) = unsafe {
            let status = sys::cublasLtMatmulAlgoCheck(
                self.library.raw(),
                self.description.raw(),
                w,
                x,
                out,
                out,
                &raw const plan.algorithm,
                answer.as_mut_ptr(),
            );
            (status, answer.assume_init())
        };
        let fits = status == cublasStatus_t::CUBLAS_STATUS_SUCCESS
            && answer.workspaceSize <= WORKSPACE_BYTES;
        if !fits {
            // So that the next call asks again.
            plan.m = 0;
        }
        Ok(fits)
    }
}

fn check(product: &MatrixProduct) -> Result<(), TensorError> {
    let &MatrixProduct { x, w, out, m, n, k } = product;
    let row_bytes = k * size_of::<u16>();
    if k == 0 || !row_bytes.is_multiple_of(ALIGNMENT) {
        return Err(failed(
            "multiply",
            format!(
                "rows of {k} bf16 numbers; they must be a multiple of {} long",
                ALIGNMENT / 2
            ),
        ));
    }
    for (name, address) in [("x", x), ("w", w), ("out", out)] {
        if !address.0.is_multiple_of(ALIGNMENT as u64) {
            return Err(failed(
                "multiply",
                format!(
                    "`{name}` of [{m}, {n}, {k}] starts at {:#x}, no multiple of {ALIGNMENT}",
                    address.0
                ),
            ));
        }
    }
    Ok(())
}

/// How one shape is multiplied.
struct Plan {
    /// Rows that the layouts are set to.
    m: usize,
    w: Layout,
    x: Layout,
    out: Layout,
    algorithm: cublasLtMatmulAlgo_t,
}

impl Plan {
    fn new(
        library: &Library,
        description: &Description,
        preference: &Preference,
        [m, n, k]: [usize; 3],
    ) -> Result<Self, TensorError> {
        let bf16 = cudaDataType_t::CUDA_R_16BF;
        let w = Layout::new(bf16, k, n)?;
        let x = Layout::new(bf16, k, m)?;
        let out = Layout::new(cudaDataType_t::CUDA_R_32F, n, m)?;
        // SAFETY: all handles are alive.
        let best = unsafe {
            lt::get_matmul_algo_heuristic(
                library.raw(),
                description.raw(),
                w.raw(),
                x.raw(),
                out.raw(),
                out.raw(),
                preference.raw(),
            )
        };
        let best = best.map_err(|error| {
            failed(
                "multiply",
                format!("cuBLASLt has no algorithm for [{m}, {n}, {k}] of bf16: {error}"),
            )
        })?;
        Ok(Self {
            m,
            w,
            x,
            out,
            algorithm: best.algo,
        })
    }

    fn layouts(&self) -> [cublasLtMatrixLayout_t; 3] {
        [self.w.raw(), self.x.raw(), self.out.raw()]
    }

    fn resize(&mut self, m: usize) -> Result<(), TensorError> {
        // Until both are changed, neither counts.
        self.m = 0;
        self.x.resize(m)?;
        self.out.resize(m)?;
        self.m = m;
        Ok(())
    }
}
