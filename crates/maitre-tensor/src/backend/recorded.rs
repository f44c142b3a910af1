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
use crate::gpu::{Device, RecordedStep, StepLists};

/// What must be equal for one recorded step to serve another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StepShape {
    /// Token rows, each a span of its own.
    pub rows: usize,
    /// No context is longer.
    pub context_bound: usize,
}

/// Recordings of a shape that may fail in a row. What fails once may be a passing thing.
const MOST_FAILURES: u8 = 2;

/// What is known of a shape.
#[derive(Debug)]
enum Known {
    /// It ran once, so all it needs is reserved; recording it has failed so often in a row.
    Seen { failures: u8 },
    /// What to play.
    Recorded(RecordedStep),
    /// Recording it failed too often: it is run as it is.
    Unrecordable,
}

/// The recorded steps of one model's runner, of one closure on one backend.
///
/// They belong to the backend that recorded them: where another is given them, they are forgotten and begun anew. The
/// memory of buffers that a step was recorded with lives as long as the recording, even if its owner drops it; but
/// a closure that comes with other buffers plays into the old ones, so it takes a `RecordedSteps` of its own.
#[derive(Debug, Default)]
pub struct RecordedSteps {
    known: HashMap<StepShape, Known>,
    /// Which device recorded them, and when its memory last moved: what was recorded before reads the old one.
    device: Option<(Arc<()>, u64)>,
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
    /// The contract: what `f` queues depends only on `shape` and on the *contents* of buffers and lists. The buffers
    /// are the same each time for one `recorded`, and `f` calls only operators of this backend. When a step is
    /// played, `f` is not called and no operator checks indices: those in `lists` must be within the bounds that
    /// operators would hold them to (tokens, positions and slots below their limits, tables as long as contexts).
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
        recorded.belong_to(device, generation);
        match recorded.known.get(&shape) {
            Some(Known::Recorded(step)) => device.replay(step),
            Some(Known::Unrecordable) => f(),
            Some(&Known::Seen { failures }) => recorded.record(device, shape, failures, f),
            None => {
                f()?;
                recorded.known.insert(shape, Known::Seen { failures: 0 });
                Ok(())
            }
        }
    }
}

impl RecordedSteps {
    /// Forgets what another device recorded, and what this one did before its memory moved.
    fn belong_to(&mut self, device: &Device, generation: u64) {
        let is_of = |known: &Arc<()>| Arc::ptr_eq(known, device.identity());
        match &self.device {
            Some((of, at)) if is_of(of) && *at == generation => return,
            Some((of, _)) if is_of(of) => {
                self.known
                    .retain(|_, known| !matches!(known, Known::Recorded(_)));
            }
            _ => self.known.clear(),
        }
        self.device = Some((Arc::clone(device.identity()), generation));
    }

    fn record(
        &mut self,
        device: &Device,
        shape: StepShape,
        failures: u8,
        mut f: impl FnMut() -> Result<(), TensorError>,
    ) -> Result<(), TensorError> {
        match device.record(&mut f) {
            Ok(step) => {
                let played = device.replay(&step);
                self.known.insert(shape, Known::Recorded(step));
                played
            }
            Err(error) if error.is_device_lost() => Err(error),
            Err(error) => {
                self.failure = Some(error.to_string());
                let failures = failures + 1;
                let known = if failures < MOST_FAILURES {
                    Known::Seen { failures }
                } else {
                    Known::Unrecordable
                };
                self.known.insert(shape, known);
                f()
            }
        }
    }
}
