//! A GPU that is not there: the kernels of `cuda/*.cu`, compiled by a C++ compiler and run on the processor.
//!
//! Everything runs at once, in the calling thread; an error is that of the call. What it costs and what it
//! can't see is in `emulator/emulator.h` of `maitre-gpu-emulator`, which compiles the kernels and what runs them. It is
//! more severe than hardware where hardware is merely undefined, and answers to each launch with an error that names
//! the kernel.
//!
//! This half stays in this crate because calls into that library are `unsafe`.
#![allow(unsafe_code)]

#[cfg_attr(not(emulator_built), path = "absent.rs")]
mod library;
#[cfg(test)]
#[cfg(emulator_built)]
mod tests;
mod work;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use library::Heap;
use work::{OwnedLaunch, Work};

use super::{
    Address, Gpu, GpuInfo, GpuMemory, GraphId, HOPPER, Launch, MailboxId, MatrixProduct, RawArg,
    Turns,
};
use crate::TensorError;

/// The emulator as a device.
///
/// # Errors
/// As [`Emulator::new`].
pub(crate) fn open(capability: (u32, u32)) -> Result<Arc<dyn Gpu>, TensorError> {
    Ok(Emulator::with(capability, MEMORY_BYTES)?)
}

/// Memory that the emulator claims to have, unless told otherwise.
const MEMORY_BYTES: u64 = 2 << 30;

/// Shared memory that a block of a generation may ask for (CUDA C++ Programming Guide, "Technical Specifications per
/// Compute Capability").
fn shared_bytes(capability: (u32, u32)) -> u32 {
    let kilobytes = match capability {
        (8, 0 | 7) => 163,
        (8, _) | (12, _) => 99,
        (0..=7, _) => 64,
        _ => 227,
    };
    kilobytes << 10
}

/// The emulated device.
pub(crate) struct Emulator {
    info: GpuInfo,
    turns: Turns,
    state: Mutex<State>,
}

struct State {
    heap: Heap,
    /// Bytes of each live allocation.
    live: HashMap<u64, u64>,
    used_bytes: u64,
    seed: u64,
    /// Launches until one fails.
    fails_after: Option<u64>,
    /// Whether every call fails.
    is_lost: bool,
    recording: Option<Vec<Work>>,
    graphs: HashMap<GraphId, Arc<[Work]>>,
    graphs_made: u64,
    /// What was sent to each mailbox, and how much it holds.
    mailboxes: HashMap<MailboxId, (Vec<u8>, usize)>,
    mailboxes_made: u64,
}

impl Emulator {
    /// A GPU of Hopper with 2 GiB of memory, of which only what is touched is taken from the host.
    ///
    /// # Errors
    /// [`TensorError::NoDevice`] if there was no C++ compiler when this crate was built.
    #[cfg(test)]
    pub(crate) fn new() -> Result<Arc<Self>, TensorError> {
        Self::with(HOPPER, MEMORY_BYTES)
    }

    /// A GPU of some generation that refuses to allocate more than so many bytes.
    pub(crate) fn with(
        capability: (u32, u32),
        memory_bytes: u64,
    ) -> Result<Arc<Self>, TensorError> {
        Ok(Arc::new(Self {
            info: GpuInfo {
                name: "emulator".into(),
                capability,
                multiprocessors: 8,
                shared_bytes_per_block: shared_bytes(capability),
                memory_bytes,
                is_unified: true,
                driver_version: 0,
                library_version: None,
            },
            turns: Turns::default(),
            state: Mutex::new(State {
                heap: Heap::new()?,
                live: HashMap::new(),
                used_bytes: 0,
                seed: 0,
                fails_after: None,
                is_lost: false,
                recording: None,
                graphs: HashMap::new(),
                graphs_made: 0,
                mailboxes: HashMap::new(),
                mailboxes_made: 0,
            }),
        }))
    }

    /// Chooses the order in which threads, blocks and copies run that no synchronisation orders. 0 is the one
    /// at first: that of the environment's `MAITRE_EMULATOR_SEED`, or of 1.
    #[cfg(test)]
    pub(crate) fn set_seed(&self, seed: u64) {
        self.state().seed = seed;
    }

    /// Makes the `n`-th launch from now fail, counted from 1, once: kernels and products, whether they run
    /// alone, are recorded, or run with a graph.
    #[cfg(test)]
    pub(crate) fn fail_launch_after(&self, n: u64) {
        self.state().fails_after = Some(n);
    }

    /// What the generation can't do: the kernels are compiled for all of them here.
    fn check_generation(&self, launch: &Launch<'_>) -> Result<(), String> {
        let (name, (major, minor)) = (launch.kernel, self.info.capability);
        let takes_boxes = launch
            .args
            .iter()
            .any(|arg| matches!(arg, RawArg::Matrix(..)));
        if takes_boxes && !self.has_hopper_kernels() {
            return Err(format!(
                "kernel {name} is Hopper's alone; this is a GPU of capability {major}.{minor}"
            ));
        }
        let (most, asked) = (self.info.shared_bytes_per_block, launch.shared_bytes);
        if asked > most {
            return Err(format!(
                "kernel {name}: a block has at most {most} bytes of shared memory, but {asked} were asked for"
            ));
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A thread that panicked did so between two changes, each of which is complete.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Records the work, or runs it.
    ///
    /// # Safety
    /// As [`Gpu`] says.
    unsafe fn submit(&mut self, work: Work) -> Result<(), TensorError> {
        self.not_lost(work.operation())?;
        self.count_down(&work)?;
        if let Some(recording) = &mut self.recording {
            recording.push(work);
            return Ok(());
        }
        // SAFETY: the caller's promise.
        unsafe { work.run(&mut self.heap, self.seed) }
    }

    /// Fails if this is the launch that was chosen to.
    fn count_down(&mut self, work: &Work) -> Result<(), TensorError> {
        let Some(left) = self.fails_after else {
            return Ok(());
        };
        if matches!(work, Work::Copy { .. }) {
            return Ok(());
        }
        self.fails_after = (left > 1).then_some(left - 1);
        if left > 1 {
            return Ok(());
        }
        Err(work.failed("this launch was chosen to fail".into()))
    }

    fn not_lost(&self, operation: &'static str) -> Result<(), TensorError> {
        if !self.is_lost {
            return Ok(());
        }
        Err(TensorError::DeviceLost {
            operation,
            message: "the emulator was told to".into(),
        })
    }

    /// That the call can be answered at all, and is none that can't be recorded.
    fn not_recording(&self, operation: &'static str) -> Result<(), TensorError> {
        self.not_lost(operation)?;
        if self.recording.is_none() {
            return Ok(());
        }
        Err(TensorError::Device {
            operation,
            message: "not while a graph is recorded".into(),
        })
    }

    fn holds(
        &self,
        operation: &'static str,
        address: Address,
        bytes: usize,
    ) -> Result<(), TensorError> {
        if self.heap.holds(address.0, bytes) {
            return Ok(());
        }
        Err(TensorError::Device {
            operation,
            message: format!("{bytes} bytes at {:#x} lie in no allocation", address.0),
        })
    }
}

fn mailbox_too_small(operation: &'static str, asked: usize, there: usize) -> TensorError {
    TensorError::Device {
        operation,
        message: format!("{asked} bytes of a mailbox of {there}"),
    }
}

impl Gpu for Emulator {
    fn info(&self) -> &GpuInfo {
        &self.info
    }

    fn turns(&self) -> &Turns {
        &self.turns
    }

    fn has_hopper_kernels(&self) -> bool {
        self.info.capability == HOPPER
    }

    fn memory(&self) -> Result<GpuMemory, TensorError> {
        let state = self.state();
        state.not_lost("memory")?;
        let total_bytes = self.info.memory_bytes;
        Ok(GpuMemory {
            free_bytes: total_bytes.saturating_sub(state.used_bytes),
            total_bytes,
        })
    }

    fn allocate(&self, bytes: usize) -> Result<Address, TensorError> {
        let mut state = self.state();
        state.not_recording("allocate")?;
        let total_bytes = self.info.memory_bytes;
        let free_bytes = total_bytes.saturating_sub(state.used_bytes);
        let address = if bytes as u64 <= free_bytes {
            state.heap.allocate(bytes)
        } else {
            None
        };
        let address = address.ok_or(TensorError::DeviceMemory {
            bytes,
            free_bytes,
            total_bytes,
        })?;
        state.used_bytes += bytes as u64;
        state.live.insert(address, bytes as u64);
        Ok(Address(address))
    }

    unsafe fn free(&self, address: Address) {
        let mut state = self.state();
        if let Some(bytes) = state.live.remove(&address.0) {
            state.used_bytes -= bytes;
            state.heap.free(address.0);
        }
    }

    unsafe fn upload(&self, to: Address, bytes: &[u8]) -> Result<(), TensorError> {
        let state = self.state();
        state.not_recording("upload")?;
        state.holds("upload", to, bytes.len())?;
        // SAFETY: the range was checked, and the lock keeps kernels from running.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to.0 as *mut u8, bytes.len());
        }
        Ok(())
    }

    unsafe fn download(&self, from: Address, bytes: &mut [u8]) -> Result<(), TensorError> {
        let state = self.state();
        state.not_recording("download")?;
        state.holds("download", from, bytes.len())?;
        // SAFETY: as in `upload`.
        unsafe {
            std::ptr::copy_nonoverlapping(from.0 as *const u8, bytes.as_mut_ptr(), bytes.len());
        }
        Ok(())
    }

    fn mailbox(&self, bytes: usize) -> Result<MailboxId, TensorError> {
        let mut state = self.state();
        state.not_recording("mailbox")?;
        let id = MailboxId(state.mailboxes_made);
        state.mailboxes_made += 1;
        state.mailboxes.insert(id, (Vec::new(), bytes));
        Ok(id)
    }

    unsafe fn send(
        &self,
        from: Address,
        bytes: usize,
        mailbox: MailboxId,
    ) -> Result<(), TensorError> {
        let mut state = self.state();
        state.not_recording("send")?;
        state.holds("send", from, bytes)?;
        let (sent, space) = state.mailboxes.entry(mailbox).or_default();
        if bytes > *space {
            return Err(mailbox_too_small("send", bytes, *space));
        }
        sent.clear();
        // SAFETY: as in `upload`.
        sent.extend_from_slice(unsafe { std::slice::from_raw_parts(from.0 as *const u8, bytes) });
        Ok(())
    }

    fn receive(&self, mailbox: MailboxId, bytes: &mut [u8]) -> Result<(), TensorError> {
        let state = self.state();
        state.not_recording("receive")?;
        let sent = state
            .mailboxes
            .get(&mailbox)
            .map_or(&[][..], |(sent, _)| sent);
        match sent.get(..bytes.len()) {
            Some(sent) => bytes.copy_from_slice(sent),
            None => return Err(mailbox_too_small("receive", bytes.len(), sent.len())),
        }
        Ok(())
    }

    fn drop_mailbox(&self, mailbox: MailboxId) {
        self.state().mailboxes.remove(&mailbox);
    }

    unsafe fn copy(&self, from: Address, to: Address, bytes: usize) -> Result<(), TensorError> {
        // SAFETY: the caller's promise.
        unsafe { self.state().submit(Work::Copy { from, to, bytes }) }
    }

    unsafe fn launch(&self, launch: &Launch<'_>) -> Result<(), TensorError> {
        let work = Work::Launch(OwnedLaunch::of(launch));
        self.check_generation(launch)
            .map_err(|message| work.failed(message))?;
        // SAFETY: the caller's promise.
        unsafe { self.state().submit(work) }
    }

    unsafe fn multiply(&self, product: &MatrixProduct) -> Result<(), TensorError> {
        // SAFETY: the caller's promise.
        unsafe { self.state().submit(Work::Multiply(*product)) }
    }

    fn begin_capture(&self) -> Result<(), TensorError> {
        let mut state = self.state();
        state.not_recording("begin capture")?;
        state.recording = Some(Vec::new());
        Ok(())
    }

    fn end_capture(&self) -> Result<GraphId, TensorError> {
        let mut state = self.state();
        let Some(recorded) = state.recording.take() else {
            return Err(TensorError::Device {
                operation: "end capture",
                message: "no graph is recorded".into(),
            });
        };
        state.graphs_made += 1;
        let graph = GraphId(state.graphs_made);
        state.graphs.insert(graph, recorded.into());
        Ok(graph)
    }

    unsafe fn replay(&self, graph: GraphId) -> Result<(), TensorError> {
        let mut state = self.state();
        state.not_recording("replay")?;
        let Some(recorded) = state.graphs.get(&graph).cloned() else {
            return Err(TensorError::Device {
                operation: "replay",
                message: format!("there is no graph {}", graph.0),
            });
        };
        for work in recorded.iter() {
            state.count_down(work)?;
            let State { heap, seed, .. } = &mut *state;
            // SAFETY: the caller's promise.
            unsafe { work.run(heap, *seed)? };
        }
        Ok(())
    }

    fn drop_graph(&self, graph: GraphId) {
        self.state().graphs.remove(&graph);
    }

    fn synchronize(&self) -> Result<(), TensorError> {
        self.state().not_recording("synchronize")
    }

    fn lose(&self) {
        self.state().is_lost = true;
    }
}

impl fmt::Debug for Emulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Emulator")
    }
}
