//! Steps whose index lists lie where the kernels read them, and steps that are recorded and played again.
//!
//! A decode step of a large model is some hundred kernels of a few microseconds each, and queueing them one by
//! one takes a processor about as long. A GPU can record what is queued and play it again with one call (CUDA
//! graphs). Recorded are addresses and grids, so a step can be played for every batch of the same
//! [`StepShape`]: its numbers of rows and spans are those recorded, its contexts no longer.

use std::collections::HashMap;
use std::sync::Arc;

use super::Backend;
use crate::TensorError;
use crate::gpu::{Device, Gpu, GraphId, StepLists};

/// What must be equal for one recorded step to serve another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StepShape {
    /// Token rows, each a span of its own.
    pub rows: usize,
    /// No context is longer.
    pub context_bound: usize,
}

/// What is known of a shape.
#[derive(Debug, Clone, Copy)]
enum Known {
    /// It ran once, so all it needs is reserved.
    Seen,
    /// What to play, as long as the device's memory is of that generation.
    Recorded(GraphId, u64),
    /// Recording it failed: it is run as it is.
    Unrecordable,
}

/// The recorded steps of one model's runner.
#[derive(Debug, Default)]
pub struct RecordedSteps {
    known: HashMap<StepShape, Known>,
    gpu: Option<Arc<dyn Gpu>>,
    failure: Option<String>,
}

impl RecordedSteps {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        let recorded = |known: &&Known| matches!(known, Known::Recorded(..));
        self.known.values().filter(recorded).count()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes what went wrong when a step was last recorded. Such steps run as they are.
    pub fn take_failure(&mut self) -> Option<String> {
        self.failure.take()
    }
}

impl Drop for RecordedSteps {
    fn drop(&mut self) {
        let Some(gpu) = &self.gpu else {
            return;
        };
        for known in self.known.values() {
            if let Known::Recorded(graph, _) = known {
                gpu.drop_graph(*graph);
            }
        }
    }
}

/// Forgets a step's lists when the step ends, however it ends.
struct Staged<'d>(&'d Device);

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        self.0.turn().forget();
    }
}

impl Backend {
    /// As [`Backend::step`]; on a GPU operators find these lists on the device instead of copying them there one
    /// by one. Steps of several threads take turns; a step must not begin another.
    ///
    /// # Errors
    ///
    /// [`TensorError::Device`] if the lists could not be copied.
    pub fn step_on<R>(
        &self,
        lists: StepLists<'_>,
        f: impl FnOnce() -> R,
    ) -> Result<R, TensorError> {
        let Some(device) = self.device() else {
            return Ok(self.step(f));
        };
        let _step = device.step();
        let _staged = Staged(device);
        device.turn().stage(&lists)?;
        Ok(f())
    }

    /// Runs `f`, or plays again what it queued when a step of this shape was recorded: the first such step
    /// runs as it is, the second is recorded. On the processor as [`Backend::step_on`].
    ///
    /// What `f` queues must depend on nothing but `shape` and the *contents* of buffers and lists.
    ///
    /// # Errors
    ///
    /// Those of `f`, and [`TensorError::Device`]. A step that can't be recorded is no error: it runs as it is.
    pub fn step_recorded(
        &self,
        shape: StepShape,
        lists: StepLists<'_>,
        recorded: &mut RecordedSteps,
        mut f: impl FnMut() -> Result<(), TensorError>,
    ) -> Result<(), TensorError> {
        let Some(device) = self.device() else {
            return self.step(f);
        };
        let _step = device.step();
        let _staged = Staged(device);
        let lists = StepLists {
            context_bound: shape.context_bound,
            ..lists
        };
        let generation = {
            let mut turn = device.turn();
            turn.stage(&lists)?;
            turn.generation()
        };
        match recorded.known.get(&shape) {
            Some(Known::Recorded(graph, at)) if *at == generation => device.replay(*graph),
            Some(Known::Unrecordable) => f(),
            Some(Known::Seen) => recorded.record(device, shape, f),
            outdated => {
                if let Some(Known::Recorded(graph, _)) = outdated {
                    device.gpu().drop_graph(*graph);
                }
                recorded.known.insert(shape, Known::Seen);
                f()
            }
        }
    }
}

impl RecordedSteps {
    fn record(
        &mut self,
        device: &Device,
        shape: StepShape,
        mut f: impl FnMut() -> Result<(), TensorError>,
    ) -> Result<(), TensorError> {
        self.gpu = Some(Arc::clone(device.gpu()));
        match device.record(&mut f) {
            Ok(graph) => {
                let generation = device.turn().generation();
                self.known.insert(shape, Known::Recorded(graph, generation));
                device.replay(graph)
            }
            Err(error) => {
                self.failure = Some(error.to_string());
                self.known.insert(shape, Known::Unrecordable);
                f()
            }
        }
    }
}
