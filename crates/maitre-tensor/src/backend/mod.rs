//! [`Backend`]: the operators of a transformer on a ragged paged batch.
//!
//! This is the front of every device: it checks a call's arguments once and hands them to the device's
//! [`Operators`]. What they compute stands in `processor/` and `gpu/ops/`.

mod attention;
mod check;
mod copies;
mod draws;
mod linear;
mod memory;
mod norms;
mod recorded;
mod reserve;
mod rope;
mod rows;
mod sampling;

use std::fmt;
use std::sync::Arc;

pub use copies::BlockCopy;
pub use linear::PEAK_BLOCK;
pub use norms::{AddNormed, LayerNorm, NormColumns};
pub use recorded::{RecordedSteps, StepShape};
pub use reserve::{LargestAttention, LargestStep};

use crate::gpu::Device;
use crate::kernels::Kernels;
use crate::operators::Operators;
use crate::processor::Processor;
use crate::team::{Scratch, Team};
use crate::tiles::Outputs;
use crate::{CpuPath, Heartbeat, TensorError};

/// A device: the processor, with a compute team and the kernels chosen for this machine, or a GPU.
///
/// Cloning is cheap and shares the team; dropping the last clone ends its threads. Operators called
/// from several threads at once take turns.
///
/// Activations are `f32`, row-major, in buffers that may be larger than what is used: `rows` (or
/// the length of an index list) says how many token rows count. What an operator writes for a row
/// depends on that row alone, bit for bit, not on the other rows or the number of threads.
///
/// # Errors
///
/// Every operator checks its arguments before it writes anything and returns
/// [`TensorError::Argument`] or [`TensorError::Index`]. A panic inside a kernel is returned as
/// [`TensorError::Panicked`]; the outputs are then unspecified and the backend remains usable.
#[derive(Clone)]
pub struct Backend {
    inner: Arc<Inner>,
}

struct Inner {
    processor: Processor,
    heartbeat: Heartbeat,
    /// Where operators run, unless that is the processor.
    device: Option<Device>,
}

impl Backend {
    /// A CPU backend whose operators run on `threads` threads, the calling one included.
    ///
    /// # Errors
    ///
    /// [`TensorError::NoThreads`] for 0, [`TensorError::Spawn`] if the system refuses a thread; as
    /// [`CpuPath::from_env`].
    pub fn cpu(threads: usize) -> Result<Self, TensorError> {
        Self::with_path(threads, CpuPath::from_env()?)
    }

    /// A CPU backend with the kernels of `path`.
    ///
    /// # Errors
    ///
    /// As [`Backend::cpu`]; [`TensorError::UnavailablePath`] if the processor lacks them.
    pub fn with_path(threads: usize, path: CpuPath) -> Result<Self, TensorError> {
        Self::with_kernels(threads, path.require()?, None)
    }

    /// A backend whose operators run on `device`.
    pub(crate) fn with_device(threads: usize, device: Device) -> Result<Self, TensorError> {
        Self::with_kernels(threads, CpuPath::from_env()?.require()?, Some(device))
    }

    pub(crate) fn with_kernels(
        threads: usize,
        kernels: &'static Kernels,
        device: Option<Device>,
    ) -> Result<Self, TensorError> {
        Ok(Self {
            inner: Arc::new(Inner {
                processor: Processor {
                    team: Team::start(threads)?,
                    kernels,
                },
                heartbeat: Heartbeat::default(),
                device,
            }),
        })
    }

    /// Threads that compute, the calling one included.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.inner.processor.team.threads()
    }

    /// Beats once per operator.
    #[must_use]
    pub fn heartbeat(&self) -> &Heartbeat {
        &self.inner.heartbeat
    }

    /// Name of the kernels in use, that of a [`CpuPath`], or of the GPU.
    #[must_use]
    pub fn name(&self) -> &str {
        self.device()
            .map_or(self.inner.processor.kernels.name, |device| {
                device.info().name.as_str()
            })
    }

    /// What a user should know of these kernels; see also [`CpuPath::caveat`].
    #[must_use]
    pub fn caveat(&self) -> Option<&'static str> {
        if let Some(info) = self.gpu_info() {
            return match info.driver_version {
                0 => Some("the emulator is for tests: it is some thousand times slower than a GPU"),
                _ if self.device().is_some_and(Device::has_hopper_kernels) => None,
                _ => Some(
                    "of these kernels those for Hopper were verified, on an H100, and no others; let \
                     `maitre gpu-check` verify them here before anything depends on them",
                ),
            };
        }
        self.name().parse::<CpuPath>().ok()?.caveat()
    }

    /// Runs `f` with the team awake.
    ///
    /// The team is woken once, and between the operators that `f` calls its members wait awake for
    /// some microseconds before they sleep. Operators work outside a step too; each then wakes the
    /// team by itself. It sleeps beside a GPU, which is the calling thread's until `f` returns: other threads'
    /// operators wait.
    pub fn step<R>(&self, f: impl FnOnce() -> R) -> R {
        match self.device() {
            Some(device) => {
                let _step = device.step();
                f()
            }
            None => self.inner.processor.team.step(f),
        }
    }

    /// Where operators run, once their arguments are checked. Shows that the caller is alive.
    fn operators(&self) -> &dyn Operators {
        self.inner.heartbeat.beat();
        match self.device() {
            Some(device) => device,
            None => &self.inner.processor,
        }
    }

    /// Runs `task` on the processor once for each part of `outputs`, as an operator of its own.
    pub(crate) fn for_each_tile<O, F>(
        &self,
        operator: &'static str,
        outputs: O,
        task: F,
    ) -> Result<(), TensorError>
    where
        O: Outputs,
        F: Fn(O::Part, &mut Scratch) + Sync,
    {
        self.inner.heartbeat.beat();
        let processor = &self.inner.processor;
        processor.for_each_tile(operator, outputs, task)
    }

    pub(crate) fn kernels(&self) -> &'static Kernels {
        self.inner.processor.kernels
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend")
            .field("name", &self.name())
            .field("threads", &self.threads())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::portable;
    use crate::{Buffer, InputFormat, LinearInput};

    /// Normalises like the portable kernel, but can't bear a negative number in front.
    fn fragile(input: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        assert!(input[0] >= 0.0, "a negative number");
        (portable::KERNELS.rms_norm)(input, weight, eps, out);
    }

    static FRAGILE: Kernels = Kernels {
        name: "fragile",
        rms_norm: fragile,
        ..portable::KERNELS
    };

    #[test]
    fn a_panicking_kernel_fails_its_operator_alone() {
        let (rows, dim) = (64, 4096);
        let weight = Buffer::from_f32s(&vec![1.0; dim]).unwrap();
        let mut x = Buffer::from_f32s(&vec![2.0; rows * dim]).unwrap();
        let mut out = LinearInput::new(InputFormat::F32, dim, rows).unwrap();
        for threads in [1, 3] {
            let backend = Backend::with_kernels(threads, &FRAGILE, None).unwrap();
            for bad_row in [0, 17, rows - 1] {
                x.f32s_mut().unwrap()[bad_row * dim] = -1.0;
                let result = backend.step(|| backend.rms_norm(&x, &weight, 0.0, &mut out, rows));
                let message = result.unwrap_err().to_string();
                assert_eq!(message, "rms_norm panicked: a negative number");
                x.f32s_mut().unwrap()[bad_row * dim] = 2.0;
                backend
                    .step(|| backend.rms_norm(&x, &weight, 0.0, &mut out, rows))
                    .unwrap();
                assert_eq!(
                    out.decode(rows).unwrap().f32s().unwrap(),
                    vec![1.0; rows * dim]
                );
            }
        }
    }
}
