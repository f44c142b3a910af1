//! An NVIDIA GPU, through its driver.
//!
//! `cudarc` gives the driver's functions their Rust types and opens the libraries when the first GPU is asked
//! for, so that one binary runs with and without a GPU. Its safe layer is not used: that ties memory to
//! owners that record events for each access, which a recorded sequence must not contain, while here one
//! stream orders everything.
//!
//! ```text
//! Context    the GPU's primary context, bound to the calling thread by every call
//! Stream     the one queue; a mutex keeps what several threads put into it apart
//! Kernels    what nvcc made of cuda/*.cu          Products   cuBLASLt
//! Staging    pinned memory for copies             Graphs     recorded sequences
//! ```
#![allow(unsafe_code)]

mod context;
mod cublas;
mod failure;
mod graph;
mod kernels;
mod mailbox;
mod product;
mod staging;
#[cfg(test)]
mod tests;

use std::fmt;
#[cfg(feature = "fault-injection")]
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cudarc::driver::sys::CUresult;
use cudarc::driver::{DriverError, result};

use self::context::{Context, Stream};
use self::failure::{During, failed_by};
use self::graph::Graphs;
use self::kernels::Kernels;
use self::mailbox::Mailboxes;
use self::product::Products;
use self::staging::Staging;
use super::{Address, Gpu, GpuInfo, GpuMemory, GraphId, Launch, MailboxId, MatrixProduct, Turns};
use crate::TensorError;

/// A GPU that is ready to run.
pub(crate) struct Hardware {
    info: GpuInfo,
    turns: Turns,
    /// Whether every call is to fail.
    #[cfg(feature = "fault-injection")]
    is_lost: AtomicBool,
    // Dropped from here on down, the context last.
    state: Mutex<State>,
    stream: Stream,
    context: Context,
}

/// What one thread at a time uses.
struct State {
    graphs: Graphs,
    staging: Staging,
    mailboxes: Mailboxes,
    /// Opened by the first product: where none is asked for, the library need not be installed.
    products: Option<Products>,
    kernels: Kernels,
}

// SAFETY: the driver's handles may be used by any thread in whose context they are (CUDA programming guide,
// "Driver API"), which `enter` sees to; what is changed lies behind the mutex. `stream` and `context` are
// only read.
unsafe impl Send for Hardware {}
// SAFETY: as above.
unsafe impl Sync for Hardware {}

impl Hardware {
    /// Opens GPU `ordinal`, counted from 0 among those that CUDA_VISIBLE_DEVICES shows.
    ///
    /// # Errors
    /// [`TensorError::Device`] if a library, the GPU, or what it must be able to do is missing; the message
    /// says which, and what to do.
    pub(crate) fn open(ordinal: usize) -> Result<Self, TensorError> {
        let (context, mut info) = Context::open(ordinal)?;
        let stream = Stream::new()?;
        let state = State {
            graphs: Graphs::default(),
            kernels: Kernels::load(&info)?,
            products: None,
            staging: Staging::new()?,
            mailboxes: Mailboxes::default(),
        };
        info.library_version = cublas::library_version();
        Ok(Self {
            info,
            turns: Turns::default(),
            #[cfg(feature = "fault-injection")]
            is_lost: AtomicBool::new(false),
            state: Mutex::new(state),
            stream,
            context,
        })
    }

    /// The device, for this thread alone. A thread that panicked left nothing half done that matters here:
    /// the driver's own state is the driver's.
    fn enter(&self) -> Result<MutexGuard<'_, State>, TensorError> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.bind()?;
        Ok(state)
    }

    /// Makes its context the calling thread's.
    fn bind(&self) -> Result<(), TensorError> {
        #[cfg(feature = "fault-injection")]
        if self.is_lost.load(Ordering::Relaxed) {
            return Err(TensorError::DeviceLost {
                operation: "any call",
                message: "it was told to".into(),
            });
        }
        self.context.bind()
    }

    /// Says how much was asked for and how much there is, if that is what is wrong. The context is current.
    fn explain(bytes: usize, error: DriverError) -> TensorError {
        if error.0 != CUresult::CUDA_ERROR_OUT_OF_MEMORY {
            return failed_by("allocate", error, "");
        }
        match result::mem_get_info() {
            Ok((free, total)) => TensorError::DeviceMemory {
                bytes,
                free_bytes: free as u64,
                total_bytes: total as u64,
            },
            Err(_) => failed_by("allocate", error, ""),
        }
    }

    /// Waits, then frees: the memory may be in use by what is queued.
    ///
    /// # Safety
    /// `address` was allocated here and is not used again. The context is current.
    unsafe fn release(&self, address: u64) {
        // What went wrong in the queue is told by the next call that can fail; the memory is free even so.
        let _ = self.stream.wait("free");
        // SAFETY: the caller's promise.
        let _ = unsafe { result::free_sync(address) };
    }
}

impl Gpu for Hardware {
    fn info(&self) -> &GpuInfo {
        &self.info
    }

    fn turns(&self) -> &Turns {
        &self.turns
    }

    fn has_hopper_kernels(&self) -> bool {
        self.enter().is_ok_and(|state| state.kernels.has_hopper())
    }

    fn memory(&self) -> Result<GpuMemory, TensorError> {
        // A thread that waits for a step holds the state meanwhile, and nothing of it is needed here.
        self.bind()?;
        let (free, total) = result::mem_get_info().during("memory")?;
        Ok(GpuMemory {
            free_bytes: free as u64,
            total_bytes: total as u64,
        })
    }

    fn allocate(&self, bytes: usize) -> Result<Address, TensorError> {
        let state = self.enter()?;
        state.graphs.refuse("allocate")?;
        // SAFETY: a context is current. The driver aligns to 256 bytes at least.
        let address =
            unsafe { result::malloc_sync(bytes) }.map_err(|error| Self::explain(bytes, error))?;
        // SAFETY: just allocated, with so many bytes.
        let zeroed = unsafe { result::memset_d8_async(address, 0, bytes, self.stream.raw()) }
            .during("allocate");
        if let Err(error) = zeroed {
            // SAFETY: just allocated, and no other code knows the address.
            unsafe { self.release(address) };
            return Err(error);
        }
        Ok(Address(address))
    }

    unsafe fn free(&self, address: Address) {
        // Without a context there is no memory either.
        let Ok(mut state) = self.enter() else { return };
        if !state.graphs.put_off_free(address.0) {
            // SAFETY: the caller's promise; `enter` made the context current.
            unsafe { self.release(address.0) };
        }
    }

    unsafe fn upload(&self, to: Address, bytes: &[u8]) -> Result<(), TensorError> {
        let mut state = self.enter()?;
        state.graphs.refuse("upload")?;
        // SAFETY: the caller's promise.
        unsafe { state.staging.upload(&self.stream, to.0, bytes) }
    }

    unsafe fn download(&self, from: Address, bytes: &mut [u8]) -> Result<(), TensorError> {
        let mut state = self.enter()?;
        state.graphs.refuse("download")?;
        // SAFETY: the caller's promise.
        unsafe { state.staging.download(&self.stream, from.0, bytes) }
    }

    fn mailbox(&self, bytes: usize) -> Result<MailboxId, TensorError> {
        let mut state = self.enter()?;
        state.graphs.refuse("mailbox")?;
        state.mailboxes.add(bytes)
    }

    unsafe fn send(
        &self,
        from: Address,
        bytes: usize,
        mailbox: MailboxId,
    ) -> Result<(), TensorError> {
        let state = self.enter()?;
        state.graphs.refuse("send")?;
        // SAFETY: the caller's promise.
        unsafe { state.mailboxes.send(&self.stream, from.0, bytes, mailbox) }
    }

    fn receive(&self, mailbox: MailboxId, bytes: &mut [u8]) -> Result<(), TensorError> {
        let state = self.enter()?;
        state.graphs.refuse("receive")?;
        state.mailboxes.receive(mailbox, bytes)
    }

    fn drop_mailbox(&self, mailbox: MailboxId) {
        // Without a context there is no memory either.
        if let Ok(mut state) = self.enter() {
            let _ = self.stream.wait("drop_mailbox");
            state.mailboxes.remove(mailbox);
        }
    }

    unsafe fn copy(&self, from: Address, to: Address, bytes: usize) -> Result<(), TensorError> {
        let _state = self.enter()?;
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: the caller's promise.
        unsafe { result::memcpy_dtod_async(to.0, from.0, bytes, self.stream.raw()) }.during("copy")
    }

    unsafe fn launch(&self, launch: &Launch<'_>) -> Result<(), TensorError> {
        let mut state = self.enter()?;
        // SAFETY: the caller's promise.
        unsafe { state.kernels.launch(&self.stream, launch) }
    }

    unsafe fn multiply(&self, product: &MatrixProduct) -> Result<(), TensorError> {
        let mut state = self.enter()?;
        let State {
            products, graphs, ..
        } = &mut *state;
        let products = match products {
            Some(products) => products,
            none => {
                // It takes memory. The first step of a shape, which is not recorded, has opened it.
                graphs.refuse("opening cuBLASLt")?;
                none.insert(Products::open()?)
            }
        };
        // SAFETY: the caller's promise.
        unsafe { products.multiply(&self.stream, product) }
    }

    fn begin_capture(&self) -> Result<(), TensorError> {
        self.enter()?.graphs.begin(&self.stream)
    }

    fn end_capture(&self) -> Result<GraphId, TensorError> {
        let mut state = self.enter()?;
        let ended = state.graphs.end(&self.stream);
        for address in state.graphs.take_unfreed() {
            // SAFETY: the caller that freed it while recording promised not to use it again.
            unsafe { self.release(address) };
        }
        ended
    }

    unsafe fn replay(&self, graph: GraphId) -> Result<(), TensorError> {
        let state = self.enter()?;
        // SAFETY: the caller's promise.
        unsafe { state.graphs.replay(graph, &self.stream) }
    }

    fn drop_graph(&self, graph: GraphId) {
        if let Ok(mut state) = self.enter() {
            state.graphs.forget(graph);
        }
    }

    fn synchronize(&self) -> Result<(), TensorError> {
        let state = self.enter()?;
        state.graphs.refuse("synchronize")?;
        self.stream.wait("synchronize")
    }

    #[cfg(feature = "fault-injection")]
    fn lose(&self) {
        self.is_lost.store(true, Ordering::Relaxed);
    }
}

impl Drop for Hardware {
    fn drop(&mut self) {
        // The fields are dropped after this: nothing of theirs may be in use by then, and dropping them needs
        // the context.
        if self.context.bind().is_ok() {
            let _ = self.stream.wait("close");
        }
    }
}

impl fmt::Debug for Hardware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hardware").field(&self.info).finish()
    }
}
