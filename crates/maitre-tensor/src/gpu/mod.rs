//! The GPU as a device: memory, kernels, and the order in which they run.
//!
//! ```text
//! operators (ops/)   check arguments, choose a grid, name a kernel of `cuda/*.cu`
//!      │
//! Queue              launches in order; the only place that hands addresses to a device
//!      │
//! trait Gpu          ├── Hardware   an NVIDIA GPU through its driver (feature `cuda`)
//!                    └── Emulator   the same kernels, compiled by a C++ compiler, run on the processor
//!                                   (feature `cuda-emulator`: for tests on machines without a GPU)
//! ```
//!
//! Everything is queued on one stream and runs in that order; the host waits only where it reads.
#![cfg_attr(
    not(any(feature = "cuda", feature = "cuda-emulator")),
    allow(dead_code, reason = "what only a device reads")
)]

mod device;
mod draws;
#[cfg(feature = "cuda-emulator")]
mod emulator;
#[cfg(feature = "fault-injection")]
mod faults;
#[cfg(feature = "cuda")]
mod hardware;
mod memory;
mod name;
mod open;
mod ops;
mod probe;
mod queue;
mod turns;
mod weight;

use std::fmt;

pub use device::StepLists;
pub(crate) use device::{Device, RecordedStep};
pub use draws::{DrawRows, DrawnTokens, Draws};
pub(crate) use memory::DeviceBytes;
pub use name::DeviceName;
pub use open::GpuOptions;
pub(crate) use ops::attention::check_cells;
pub use probe::GpuMemoryProbe;
pub(crate) use queue::{Arg, Grid, Queue};
pub(crate) use turns::{Hold, Turns};

use crate::TensorError;

/// A place in a device's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address(pub(crate) u64);

/// Compute capability of Hopper, whose kernels no other generation runs.
pub(crate) const HOPPER: (u32, u32) = (9, 0);

/// What is known of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuInfo {
    /// As the maker calls it.
    pub name: String,
    /// Compute capability: 9, 0 is Hopper.
    pub capability: (u32, u32),
    /// Multiprocessors, each of which runs some blocks of threads at a time.
    pub multiprocessors: u32,
    /// Shared memory that a block of threads may ask for, in bytes.
    pub shared_bytes_per_block: u32,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Whether that is the host's memory too (GB10, Jetson).
    pub is_unified: bool,
    /// Version of the driver's interface, 13000 for 13.0; 0 for the emulator.
    pub driver_version: u32,
    /// Version of cuBLASLt as it counts itself, 130100 for 13.1; none for the emulator.
    pub library_version: Option<usize>,
}

/// Memory of a device at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuMemory {
    /// Bytes that no process uses.
    pub free_bytes: u64,
    /// Bytes there are.
    pub total_bytes: u64,
}

/// A matrix of bf16 of which a kernel takes boxes, by Hopper's copy engine (CUDA driver API, "Tensor Map Object
/// Management"). Dimensions come from the one whose numbers lie together on; those that are not there have size 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BoxedMatrix {
    /// Numbers of each dimension.
    pub(crate) sizes: [u64; 4],
    /// Bytes from one to the next of all dimensions but the first, multiples of 16.
    pub(crate) strides: [u64; 3],
    /// The extents of a box; the first is 64, a row of 128 bytes.
    pub(crate) boxes: [u32; 4],
    /// Dimensions there are: 2 or 4.
    pub(crate) rank: u32,
}

/// One argument of a kernel, by value.
#[derive(Debug, Clone, Copy)]
pub(crate) enum RawArg {
    Address(u64),
    /// Where it begins, and what it is: `Matrix` of `cuda/hopper.cuh`.
    Matrix(u64, BoxedMatrix),
    U32(u32),
    /// What no kernel of ours takes yet, and the devices' tests do.
    #[cfg_attr(not(test), allow(dead_code, reason = "tests alone make one"))]
    I32(i32),
    F32(f32),
}

/// One kernel launch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Launch<'a> {
    /// Name of an `extern "C" __global__` function of `cuda/*.cu`.
    pub(crate) kernel: &'static str,
    pub(crate) grid: [u32; 3],
    /// Threads per block, a multiple of 32.
    pub(crate) threads: u32,
    /// Dynamic shared memory per block.
    pub(crate) shared_bytes: u32,
    /// Whether its blocks may come to the multiprocessors while the kernel before it still runs, if the device can do
    /// that; they wait there until that has ended (`take_turn` in `cuda/device.cuh`).
    #[cfg_attr(
        not(feature = "cuda"),
        allow(dead_code, reason = "the emulator runs one after the other")
    )]
    pub(crate) early: bool,
    pub(crate) args: &'a [RawArg],
}

/// `out[m, n] = x[m, k] · w[n, k]^T`, all row-major: what a vendor's library is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MatrixProduct {
    /// `[m, k]` of bf16.
    pub(crate) x: Address,
    /// `[n, k]` of bf16.
    pub(crate) w: Address,
    /// `[m, n]` of f32.
    pub(crate) out: Address,
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
}

/// A recorded sequence of launches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct GraphId(pub(crate) u64);

/// Where a copy arrives that the host does not wait for at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct MailboxId(pub(crate) u64);

/// A device that runs the kernels of `cuda/*.cu`. All calls are queued in order on one stream, whatever
/// thread they come from; those that say so wait.
///
/// # Safety
///
/// The methods that take addresses are `unsafe`: the caller guarantees that what is read or
/// written, a kernel's own accesses included, lies within live allocations of this device.
pub(crate) trait Gpu: Send + Sync + fmt::Debug {
    fn info(&self) -> &GpuInfo;

    /// The lock on the device. A thread that queues, allocates or waits holds it, because another thread may be
    /// recording.
    fn turns(&self) -> &Turns;

    /// Asks the driver for its memory, without waiting for what is queued.
    fn memory(&self) -> Result<GpuMemory, TensorError>;

    /// Whether it can run the kernels of `cuda/*_hopper.cu`.
    fn has_hopper_kernels(&self) -> bool;

    /// Zeroed memory, aligned to 256 bytes. Never called while a graph is recorded.
    fn allocate(&self, bytes: usize) -> Result<Address, TensorError>;

    /// Gives memory back once everything queued has run.
    ///
    /// # Safety
    /// `address` came from [`allocate`](Self::allocate) and is not used again.
    #[allow(unsafe_code)]
    unsafe fn free(&self, address: Address);

    /// Copies to the device; `bytes` may be changed when this returns.
    ///
    /// # Safety
    /// As the trait says.
    #[allow(unsafe_code)]
    unsafe fn upload(&self, to: Address, bytes: &[u8]) -> Result<(), TensorError>;

    /// Waits for everything queued, and copies from the device.
    ///
    /// # Safety
    /// As the trait says.
    #[allow(unsafe_code)]
    unsafe fn download(&self, from: Address, bytes: &mut [u8]) -> Result<(), TensorError>;

    /// Host memory of so many bytes to which the device copies by itself. Never called while a graph is recorded.
    fn mailbox(&self, bytes: usize) -> Result<MailboxId, TensorError>;

    /// Queues a copy into the beginning of a mailbox, behind everything queued before.
    ///
    /// # Safety
    /// As the trait says.
    #[allow(unsafe_code)]
    unsafe fn send(
        &self,
        from: Address,
        bytes: usize,
        mailbox: MailboxId,
    ) -> Result<(), TensorError>;

    /// Waits for the copy that was sent to the mailbox last, not for what was queued behind it, and copies what has
    /// arrived. Nothing else has arrived behind it.
    fn receive(&self, mailbox: MailboxId, bytes: &mut [u8]) -> Result<(), TensorError>;

    /// Gives a mailbox back once everything queued has run.
    fn drop_mailbox(&self, mailbox: MailboxId);

    /// Copies on the device; the ranges do not overlap.
    ///
    /// # Safety
    /// As the trait says.
    #[allow(unsafe_code)]
    unsafe fn copy(&self, from: Address, to: Address, bytes: usize) -> Result<(), TensorError>;

    /// Runs a kernel.
    ///
    /// # Safety
    /// As the trait says; the arguments are those that the kernel declares.
    #[allow(unsafe_code)]
    unsafe fn launch(&self, launch: &Launch<'_>) -> Result<(), TensorError>;

    /// Multiplies bf16 matrices with a vendor's library. Its sums may be ordered differently at
    /// different `m`.
    ///
    /// # Safety
    /// As the trait says.
    #[allow(unsafe_code)]
    unsafe fn multiply(&self, product: &MatrixProduct) -> Result<(), TensorError>;

    /// From now on what is queued is recorded, not run, until [`end_capture`](Self::end_capture).
    fn begin_capture(&self) -> Result<(), TensorError>;

    /// Ends recording. Called after an error too, so that the device is usable again.
    fn end_capture(&self) -> Result<GraphId, TensorError>;

    /// Runs what was recorded.
    ///
    /// # Safety
    /// As the trait says, for all that was recorded.
    #[allow(unsafe_code)]
    unsafe fn replay(&self, graph: GraphId) -> Result<(), TensorError>;

    /// Forgets what was recorded.
    fn drop_graph(&self, graph: GraphId);

    /// Waits for everything queued, and reports what went wrong in it.
    fn synchronize(&self) -> Result<(), TensorError>;

    /// From now on every call fails as on a GPU that lost what it held, [`TensorError::DeviceLost`].
    #[cfg(feature = "fault-injection")]
    fn lose(&self);
}
