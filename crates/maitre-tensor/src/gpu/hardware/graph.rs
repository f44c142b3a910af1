//! Sequences of launches that are recorded once and replayed as one.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::ptr;

use cudarc::driver::result::{graph, stream};
use cudarc::driver::sys::{self, CUdeviceptr, CUgraph, CUgraphExec, CUstreamCaptureMode};

use super::context::Stream;
use super::failure::{During, failed};
use crate::TensorError;
use crate::gpu::GraphId;

/// What was recorded on a device, and whether it is being recorded.
#[derive(Default)]
pub(super) struct Graphs {
    recorded: HashMap<GraphId, Recorded>,
    made: u64,
    is_recording: bool,
    /// What was to be freed while recording, when nothing can be waited for.
    unfreed: Vec<CUdeviceptr>,
}

impl Graphs {
    /// Refuses what cannot be recorded: it would spoil the recording.
    pub(super) fn refuse(&self, operation: &'static str) -> Result<(), TensorError> {
        if self.is_recording {
            return Err(failed(
                operation,
                "not possible while a sequence is recorded; end the recording first".into(),
            ));
        }
        Ok(())
    }

    /// Puts off a free until recording ends; `false` if it need not be put off.
    pub(super) fn put_off_free(&mut self, address: CUdeviceptr) -> bool {
        if self.is_recording {
            self.unfreed.push(address);
        }
        self.is_recording
    }

    /// What was put off, if it can be done now.
    pub(super) fn take_unfreed(&mut self) -> Vec<CUdeviceptr> {
        if self.is_recording {
            return Vec::new();
        }
        std::mem::take(&mut self.unfreed)
    }

    pub(super) fn begin(&mut self, queue: &Stream) -> Result<(), TensorError> {
        self.refuse("begin_capture")?;
        // Relaxed: any thread may go on queueing and end it, and a kernel may be loaded at its first launch.
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        // SAFETY: the stream is alive.
        unsafe { stream::begin_capture(queue.raw(), mode) }.during("begin_capture")?;
        self.is_recording = true;
        Ok(())
    }

    pub(super) fn end(&mut self, queue: &Stream) -> Result<GraphId, TensorError> {
        if !self.is_recording {
            return Err(failed("end_capture", "nothing is being recorded".into()));
        }
        // Whatever the driver says, the stream runs what is queued from here on.
        self.is_recording = false;
        // SAFETY: the stream is alive.
        let raw = unsafe { stream::end_capture(queue.raw()) }.during("end_capture")?;
        let sequence = Sequence(raw);
        let recorded = sequence.instantiate()?;
        let id = GraphId(self.made);
        self.made += 1;
        self.recorded.insert(id, recorded);
        Ok(id)
    }

    /// Queues a recorded sequence.
    ///
    /// # Safety
    /// All that was recorded still stays within live allocations.
    pub(super) unsafe fn replay(&self, id: GraphId, queue: &Stream) -> Result<(), TensorError> {
        self.refuse("replay")?;
        let recorded = self
            .recorded
            .get(&id)
            .ok_or_else(|| failed("replay", format!("nothing was recorded as {id:?}")))?;
        // SAFETY: both are alive; the caller vouches for what was recorded.
        unsafe { graph::launch(recorded.0, queue.raw()) }.during("replay")
    }

    pub(super) fn forget(&mut self, id: GraphId) {
        self.recorded.remove(&id);
    }
}

/// What the driver recorded.
struct Sequence(CUgraph);

impl Sequence {
    fn instantiate(&self) -> Result<Recorded, TensorError> {
        let mut raw = ptr::null_mut();
        // SAFETY: the graph is alive, or null, which the driver refuses; it writes one handle.
        unsafe { sys::cuGraphInstantiateWithFlags(&raw mut raw, self.0, 0) }
            .during("end_capture")?;
        Ok(Recorded(raw))
    }
}

impl Drop for Sequence {
    fn drop(&mut self) {
        // SAFETY: made by the driver, and not used again.
        let _ = unsafe { graph::destroy(self.0) };
    }
}

/// What can be replayed.
struct Recorded(CUgraphExec);

impl Drop for Recorded {
    fn drop(&mut self) {
        // SAFETY: made by the driver, and not used again. If it is running it is freed when it has run
        // (CUDA Driver API, "cuGraphExecDestroy").
        let _ = unsafe { graph::exec_destroy(self.0) };
    }
}
