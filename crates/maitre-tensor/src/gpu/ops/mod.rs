//! The operators of [`Backend`](crate::Backend) on a GPU, one file per family: check arguments as the processor's
//! do, choose a grid, queue kernels of `cuda/`.

pub(crate) mod attention;
mod copies;
mod embed;
pub(crate) mod linear;
mod linear_hopper;
mod rope;
mod rows;
pub(super) mod sampling;
mod split;
mod tile;

use std::sync::Arc;

use super::{Arg, Device, DeviceBytes, Gpu};
use crate::memory::Memory;
use crate::{Buffer, DType, LinearInput, TensorError};

/// The operator whose arguments are taken, and where it runs.
#[derive(Clone, Copy)]
pub(super) struct Operands<'d> {
    pub(super) operator: &'static str,
    gpu: &'d Arc<dyn Gpu>,
}

impl Device {
    fn operands(&self, operator: &'static str) -> Operands<'_> {
        Operands {
            operator,
            gpu: self.gpu(),
        }
    }
}

impl Operands<'_> {
    /// Memory on this GPU.
    pub(super) fn bytes<'b>(
        self,
        argument: &'static str,
        memory: &'b Memory,
    ) -> Result<&'b DeviceBytes, TensorError> {
        memory.device(self.operator, argument, self.gpu)
    }

    /// The same, to be written.
    pub(super) fn bytes_mut<'b>(
        self,
        argument: &'static str,
        memory: &'b mut Memory,
    ) -> Result<&'b mut DeviceBytes, TensorError> {
        memory.device_mut(self.operator, argument, self.gpu)
    }

    /// The first `rows * cols` numbers of an f32 buffer on the GPU.
    pub(super) fn matrix<'b>(
        self,
        argument: &'static str,
        buffer: &'b Buffer,
        rows: usize,
        cols: usize,
    ) -> Result<&'b DeviceBytes, TensorError> {
        self.space(argument, buffer, rows, cols)?;
        self.bytes(argument, buffer.memory())
    }

    /// The same, to be written.
    pub(super) fn matrix_mut<'b>(
        self,
        argument: &'static str,
        buffer: &'b mut Buffer,
        rows: usize,
        cols: usize,
    ) -> Result<&'b mut DeviceBytes, TensorError> {
        self.space(argument, buffer, rows, cols)?;
        self.bytes_mut(argument, buffer.memory_mut())
    }

    /// All numbers of an f32 buffer on the GPU, which must be exactly `len`.
    pub(super) fn vector<'b>(
        self,
        argument: &'static str,
        buffer: &'b Buffer,
        len: usize,
    ) -> Result<&'b DeviceBytes, TensorError> {
        let fits = buffer.dtype() == DType::F32 && buffer.len() == len;
        self.rule(fits, argument, format!("{len} f32 elements"), buffer)?;
        self.bytes(argument, buffer.memory())
    }

    /// Activations on the GPU, at least `rows` rows of `cols` features.
    pub(super) fn input_mut<'b>(
        self,
        argument: &'static str,
        input: &'b mut LinearInput,
        cols: usize,
        rows: usize,
    ) -> Result<&'b mut DeviceBytes, TensorError> {
        self.input_space(argument, input, cols, rows)?;
        self.bytes_mut(argument, input.memory_mut())
    }

    /// That activations are at least `rows` rows of `cols` features.
    pub(super) fn input_space(
        self,
        argument: &'static str,
        input: &LinearInput,
        cols: usize,
        rows: usize,
    ) -> Result<(), TensorError> {
        if input.cols() == cols && input.rows() >= rows {
            return Ok(());
        }
        let form = input.format();
        Err(TensorError::Argument {
            operator: self.operator,
            argument,
            expected: format!("at least [{rows}, {cols}] {form} activations"),
            actual: format!("[{}, {}] {form} activations", input.rows(), input.cols()),
        })
    }

    fn space(
        self,
        argument: &'static str,
        buffer: &Buffer,
        rows: usize,
        cols: usize,
    ) -> Result<(), TensorError> {
        let needed = rows.checked_mul(cols);
        let fits =
            needed.is_some_and(|needed| buffer.dtype() == DType::F32 && needed <= buffer.len());
        let expected = format!("at least [{rows}, {cols}] f32 elements");
        self.rule(fits, argument, expected, buffer)
    }

    fn rule(
        self,
        holds: bool,
        argument: &'static str,
        expected: String,
        buffer: &Buffer,
    ) -> Result<(), TensorError> {
        if holds {
            return Ok(());
        }
        Err(TensorError::Argument {
            operator: self.operator,
            argument,
            expected,
            actual: format!("{} {} elements", buffer.len(), buffer.dtype()),
        })
    }
}

/// The first byte of an allocation as an argument.
pub(super) fn at(bytes: &DeviceBytes) -> Arg<'_> {
    Arg::At(bytes, 0)
}
