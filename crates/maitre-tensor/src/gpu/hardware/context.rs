//! The way to a GPU: the driver's library, the GPU's context, the one stream.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};

use cudarc::driver::result::{self, device, primary_ctx, stream::StreamKind};
use cudarc::driver::sys::{self, CUcontext, CUdevice, CUdevice_attribute, CUresult, CUstream};

use super::failure::{During, describe, failed};
use crate::TensorError;
use crate::gpu::GpuInfo;

/// The oldest driver in which every function exists that is called here, as `cuDriverGetVersion` counts.
const OLDEST_DRIVER: i32 = 12_000;
/// The kernels multiply bf16 matrices and copy asynchronously: Ampere and later.
const OLDEST_CAPABILITY: (u32, u32) = (8, 0);

/// A GPU's primary context: the one that other libraries in this process share.
pub(super) struct Context {
    device: CUdevice,
    raw: CUcontext,
}

impl Context {
    /// Finds GPU `ordinal` and makes its context this thread's.
    pub(super) fn open(ordinal: usize) -> Result<(Self, GpuInfo), TensorError> {
        let driver_version = start_driver()?;
        let device = find(ordinal)?;
        let info = describe_device(device, driver_version)?;
        if info.capability < OLDEST_CAPABILITY {
            let ((major, minor), (least, _)) = (info.capability, OLDEST_CAPABILITY);
            return Err(failed(
                "open",
                format!(
                    "{} has compute capability {major}.{minor}, but the kernels need {least}.0; use \
                     --device cpu",
                    info.name
                ),
            ));
        }
        // SAFETY: the driver named the device.
        let raw = unsafe { primary_ctx::retain(device) }.during("open")?;
        let context = Self { device, raw };
        context.bind()?;
        Ok((context, info))
    }

    /// Makes it the context of the calling thread; every call of the driver needs that.
    pub(super) fn bind(&self) -> Result<(), TensorError> {
        // SAFETY: retained in `open`, released in `drop`.
        unsafe { result::ctx::set_current(self.raw) }.during("bind")
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // `drop` cannot return an error, and an error here would change nothing.
        // SAFETY: retained in `open`; nothing of this crate uses it any more.
        let _ = unsafe { primary_ctx::release(self.device) };
    }
}

/// The one queue of a device. It does not wait for the default stream, which this crate does not use.
pub(super) struct Stream(CUstream);

impl Stream {
    pub(super) fn new() -> Result<Self, TensorError> {
        result::stream::create(StreamKind::NonBlocking)
            .during("open")
            .map(Self)
    }

    pub(super) fn raw(&self) -> CUstream {
        self.0
    }

    /// Waits for everything queued.
    pub(super) fn wait(&self, operation: &'static str) -> Result<(), TensorError> {
        // SAFETY: the stream lives as long as `self`.
        unsafe { result::stream::synchronize(self.0) }.during(operation)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: created in `new`, and not used again.
        let _ = unsafe { result::stream::destroy(self.0) };
    }
}

/// Loads the driver's library, and returns the version of its interface.
fn start_driver() -> Result<i32, TensorError> {
    // SAFETY: opening the driver's library runs its initialisers, as any program that links it does. The
    // function is only looked for: a library of that name may be another's, and then calling it would panic.
    let is_there = unsafe {
        sys::is_culib_present()
            && sys::culib()
                .get::<*const c_void>(b"cuDriverGetVersion")
                .is_ok()
    };
    if !is_there {
        return Err(failed(
            "open",
            "there is no NVIDIA driver here: libcuda.so.1 cannot be loaded. Install the driver (then \
             `nvidia-smi` lists the GPU; a container must be started with its GPUs), or use --device cpu"
                .into(),
        ));
    }
    let mut version: c_int = 0;
    // SAFETY: writes one number.
    unsafe { sys::cuDriverGetVersion(&raw mut version) }.during("open")?;
    if version < OLDEST_DRIVER {
        return Err(failed(
            "open",
            format!(
                "the NVIDIA driver is one for CUDA {}, but {} is the oldest that will do; install a newer \
                 driver, or use --device cpu",
                dotted(version),
                dotted(OLDEST_DRIVER)
            ),
        ));
    }
    match result::init() {
        Err(error) if error.0 == CUresult::CUDA_ERROR_NO_DEVICE => Err(nothing_there(0, 0)),
        Err(error) => Err(failed(
            "open",
            format!(
                "the NVIDIA driver does not start: {}. `nvidia-smi` may tell more; --device cpu works \
                 without it",
                describe(error)
            ),
        )),
        Ok(()) => Ok(version),
    }
}

/// `13.0` for 13000.
pub(super) fn dotted(version: i32) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
}

fn find(ordinal: usize) -> Result<CUdevice, TensorError> {
    let count = device::get_count().during("open")?;
    match c_int::try_from(ordinal) {
        Ok(index) if index < count => device::get(index).during("open"),
        _ => Err(nothing_there(ordinal, count)),
    }
}

fn nothing_there(ordinal: usize, count: c_int) -> TensorError {
    let message = if count == 0 {
        "the NVIDIA driver sees no GPU; CUDA_VISIBLE_DEVICES may hide it. --device cpu works without".into()
    } else {
        format!("there is no GPU {ordinal}: the driver sees {count}, counted from 0")
    };
    failed("open", message)
}

fn describe_device(device: CUdevice, driver_version: i32) -> Result<GpuInfo, TensorError> {
    use CUdevice_attribute::{
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR as MAJOR,
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR as MINOR,
        CU_DEVICE_ATTRIBUTE_INTEGRATED as INTEGRATED,
        CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN as SHARED,
        CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT as MULTIPROCESSORS,
    };
    let attribute = |attribute| {
        // SAFETY: the driver named the device.
        let value = unsafe { device::get_attribute(device, attribute) }.during("open")?;
        Ok::<_, TensorError>(value.unsigned_abs())
    };
    // SAFETY: the driver named the device.
    let memory_bytes = unsafe { device::total_mem(device) }.during("open")? as u64;
    Ok(GpuInfo {
        name: device::get_name(device).during("open")?,
        capability: (attribute(MAJOR)?, attribute(MINOR)?),
        multiprocessors: attribute(MULTIPROCESSORS)?,
        shared_bytes_per_block: attribute(SHARED)?,
        memory_bytes,
        is_unified: attribute(INTEGRATED)? != 0,
        driver_version: driver_version.unsigned_abs(),
        library_version: None,
    })
}
