//! [`Backend`]: the operators of a transformer on a ragged paged batch.
//!
//! Every operator does the same four things: check its arguments, take its turn on the compute
//! team, cut its output into tiles, and have a kernel compute each. The tiles' sizes are chosen
//! for speed alone; no result depends on them.

mod attention;
mod check;
mod linear;
mod rope;
mod rows;

use std::fmt;
use std::sync::Arc;

use crate::kernels::{self, Kernels};
use crate::team::{Team, Turn};
use crate::{Heartbeat, TensorError};

/// Roughly how many numbers a tile of an element-wise operator should touch: a few microseconds of
/// work, several times what handing it out costs.
const ELEMENTS_PER_TILE: usize = 16 * 1024;

/// The processor as a device: a compute team and the kernels chosen for this machine.
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
    team: Team,
    kernels: &'static Kernels,
    heartbeat: Heartbeat,
}

impl Backend {
    /// A CPU backend whose operators run on `threads` threads, the calling one included.
    ///
    /// # Errors
    ///
    /// [`TensorError::NoThreads`] for 0, [`TensorError::Spawn`] if the system refuses a thread.
    pub fn cpu(threads: usize) -> Result<Self, TensorError> {
        Ok(Self {
            inner: Arc::new(Inner {
                team: Team::start(threads)?,
                kernels: kernels::select(),
                heartbeat: Heartbeat::default(),
            }),
        })
    }

    /// Threads that compute, the calling one included.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.inner.team.threads()
    }

    /// Beats once per operator.
    #[must_use]
    pub fn heartbeat(&self) -> &Heartbeat {
        &self.inner.heartbeat
    }

    /// Name of the kernels in use: `"portable"`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.inner.kernels.name
    }

    /// Runs `f` with the team awake.
    ///
    /// The team is woken once, and between the operators that `f` calls its members wait awake for
    /// some microseconds before they sleep. Operators work outside a step too; each then wakes the
    /// team by itself.
    pub fn step<R>(&self, f: impl FnOnce() -> R) -> R {
        self.inner.team.step(f)
    }

    /// Takes the team for one operator and shows that the caller is alive.
    fn turn(&self, operator: &'static str) -> Turn<'_> {
        let turn = self.inner.team.lead(operator);
        self.inner.heartbeat.beat();
        turn
    }

    fn kernels(&self) -> &'static Kernels {
        self.inner.kernels
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

/// Rows of `width` numbers that make up one tile of an element-wise operator.
fn rows_per_tile(width: usize) -> usize {
    ELEMENTS_PER_TILE.div_ceil(width.max(1))
}
