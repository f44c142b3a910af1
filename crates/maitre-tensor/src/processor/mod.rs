//! [`Processor`]: the operators on the processor's vector units.
//!
//! Every operator takes its turn on the compute team, cuts its output into tiles, and has a kernel compute each. The
//! tiles' sizes are chosen for speed alone; no result depends on them.

mod attention;
mod copies;
mod linear;
mod norms;
mod reserve;
mod rope;
mod rows;
mod sampling;

use crate::kernels::Kernels;
use crate::team::{Scratch, Team};
use crate::tiles::Outputs;
use crate::{Buffer, TensorError};

/// Roughly how many numbers a tile of an element-wise operator should touch: a few microseconds of
/// work, several times what handing it out costs.
const ELEMENTS_PER_TILE: usize = 16 * 1024;

/// A compute team, and the kernels chosen for this machine.
pub(crate) struct Processor {
    pub(crate) team: Team,
    pub(crate) kernels: &'static Kernels,
}

impl Processor {
    /// Runs `task` once for each part of `outputs`.
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
        self.team.lead(operator).for_each(outputs, task)
    }
}

/// Rows of `width` numbers that make up one tile of an element-wise operator.
fn rows_per_tile(width: usize) -> usize {
    ELEMENTS_PER_TILE.div_ceil(width.max(1))
}

/// The first `len` numbers of a buffer that was checked to have them.
fn floats(buffer: &Buffer, len: usize) -> Result<&[f32], TensorError> {
    Ok(&buffer.f32s()?[..len])
}

/// The same, to be written.
fn floats_mut(buffer: &mut Buffer, len: usize) -> Result<&mut [f32], TensorError> {
    Ok(&mut buffer.f32s_mut()?[..len])
}
