//! What cuBLASLt is told, each freed when it is dropped: the library's handle, the shapes and kinds of
//! operands, what is to be done with them, and what its algorithms may count on.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::ptr;

use cudarc::cublaslt::result as lt;
use cudarc::cublaslt::sys::{
    self, cublasComputeType_t, cublasLtHandle_t, cublasLtMatmulDesc_t,
    cublasLtMatmulDescAttributes_t as DescAttribute, cublasLtMatmulPreference_t,
    cublasLtMatmulPreferenceAttributes_t as PreferenceAttribute, cublasLtMatrixLayout_t,
    cublasLtMatrixLayoutAttribute_t as LayoutAttribute, cudaDataType_t,
};
use cudarc::driver::result as driver;
use cudarc::driver::sys::CUdeviceptr;

use super::failure::{During, failed};
use crate::TensorError;

/// What NVIDIA recommends for Hopper; more than other GPUs need (cuBLAS, "cublasSetWorkspace()").
pub(super) const WORKSPACE_BYTES: usize = 32 << 20;
/// What every operand's address and every row's length is a multiple of, so that vector loads work.
pub(super) const ALIGNMENT: usize = 16;
/// The oldest cuBLASLt that is tried: 12.0, as `cublasLtGetVersion` counts.
const OLDEST_LIBRARY: usize = 120_000;
/// `CUBLAS_OP_T` of `cublas_api.h`, whose bindings are not needed for anything else.
const TRANSPOSED: i32 = 1;

/// A matrix by columns, without gaps between them.
pub(super) struct Layout(cublasLtMatrixLayout_t);

impl Layout {
    pub(super) fn raw(&self) -> cublasLtMatrixLayout_t {
        self.0
    }

    pub(super) fn new(kind: cudaDataType_t, rows: usize, cols: usize) -> Result<Self, TensorError> {
        lt::create_matrix_layout(kind, rows as u64, cols as u64, rows as i64)
            .during("multiply")
            .map(Self)
    }

    pub(super) fn resize(&mut self, cols: usize) -> Result<(), TensorError> {
        let attribute = LayoutAttribute::CUBLASLT_MATRIX_LAYOUT_COLS;
        let cols = cols as u64;
        // SAFETY: the layout is alive; the attribute is a u64.
        unsafe {
            lt::set_matrix_layout_attribute(
                self.0,
                attribute,
                ptr::from_ref(&cols).cast(),
                size_of::<u64>(),
            )
        }
        .during("multiply")
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        // SAFETY: created in `new`, and not used again.
        let _ = unsafe { lt::destroy_matrix_layout(self.0) };
    }
}

/// "Sums and scales in f32, the first operand transposed."
pub(super) struct Description(cublasLtMatmulDesc_t);

impl Description {
    pub(super) fn raw(&self) -> cublasLtMatmulDesc_t {
        self.0
    }

    pub(super) fn new() -> Result<Self, TensorError> {
        let sums = cublasComputeType_t::CUBLAS_COMPUTE_32F;
        let raw = lt::create_matmul_desc(sums, cudaDataType_t::CUDA_R_32F).during("multiply")?;
        let description = Self(raw);
        // SAFETY: the description is alive; the attribute is a 32-bit number.
        unsafe {
            lt::set_matmul_desc_attribute(
                raw,
                DescAttribute::CUBLASLT_MATMUL_DESC_TRANSA,
                ptr::from_ref(&TRANSPOSED).cast(),
                size_of::<i32>(),
            )
        }
        .during("multiply")?;
        Ok(description)
    }
}

impl Drop for Description {
    fn drop(&mut self) {
        // SAFETY: created in `new`, and not used again.
        let _ = unsafe { lt::destroy_matmul_desc(self.0) };
    }
}

/// What algorithms may count on: so much workspace, addresses that are only so much aligned.
pub(super) struct Preference(cublasLtMatmulPreference_t);

impl Preference {
    pub(super) fn raw(&self) -> cublasLtMatmulPreference_t {
        self.0
    }

    pub(super) fn new() -> Result<Self, TensorError> {
        use PreferenceAttribute as Attribute;
        let preference = Self(lt::create_matmul_pref().during("multiply")?);
        let bytes = WORKSPACE_BYTES as u64;
        preference.set(Attribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes)?;
        for operand in [
            Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
            Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
            Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
            Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
        ] {
            preference.set(operand, &(ALIGNMENT as u32))?;
        }
        Ok(preference)
    }

    fn set<T>(&self, attribute: PreferenceAttribute, value: &T) -> Result<(), TensorError> {
        // SAFETY: the preference is alive; the library checks the size, and reads so many bytes.
        unsafe {
            lt::set_matmul_pref_attribute(
                self.0,
                attribute,
                ptr::from_ref(value).cast(),
                size_of::<T>(),
            )
        }
        .during("multiply")
    }
}

impl Drop for Preference {
    fn drop(&mut self) {
        // SAFETY: created in `new`, and not used again.
        let _ = unsafe { lt::destroy_matmul_pref(self.0) };
    }
}

/// Memory for algorithms that need some; taken with the library, as none can be while a graph is recorded.
pub(super) struct Workspace(CUdeviceptr);

impl Workspace {
    pub(super) fn address(&self) -> CUdeviceptr {
        self.0
    }

    pub(super) fn new() -> Result<Self, TensorError> {
        // SAFETY: a context is current: a product was asked for.
        unsafe { driver::malloc_sync(WORKSPACE_BYTES) }
            .during("multiply")
            .map(Self)
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        // SAFETY: allocated in `new`; the stream was drained before.
        let _ = unsafe { driver::free_sync(self.0) };
    }
}

/// The library's handle.
pub(super) struct Library(cublasLtHandle_t);

/// The version of the library that can be loaded, as it counts, 130100 for 13.1; `None` if none can.
pub(super) fn library_version() -> Option<usize> {
    // SAFETY: opening the library runs its initialisers, as any program that links it does. The function
    // is only looked for: calling one that is missing would panic.
    let is_there = unsafe {
        sys::is_culib_present()
            && sys::culib()
                .get::<*const c_void>(b"cublasLtGetVersion")
                .is_ok()
    };
    // SAFETY: it is there, takes nothing, returns a number.
    is_there.then(|| unsafe { sys::cublasLtGetVersion() })
}

impl Library {
    pub(super) fn raw(&self) -> cublasLtHandle_t {
        self.0
    }

    pub(super) fn open() -> Result<Self, TensorError> {
        let Some(version) = library_version() else {
            return Err(failed(
                "multiply",
                "cuBLAS is missing: libcublasLt.so.13 (or .12) cannot be loaded. Install it (it is part of \
                 the CUDA toolkit and of its runtime images), name its folder in LD_LIBRARY_PATH, or stay \
                 in deterministic mode, which does without"
                    .into(),
            ));
        };
        if version < OLDEST_LIBRARY {
            return Err(failed(
                "multiply",
                format!(
                    "cuBLASLt has version {version}, but {OLDEST_LIBRARY} is the oldest that will do"
                ),
            ));
        }
        lt::create_handle().during("multiply").map(Self)
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // SAFETY: created in `open`; its products have run, as the stream was drained before.
        let _ = unsafe { lt::destroy_handle(self.0) };
    }
}
