//! The [`Operators`](crate::operators::Operators) of a GPU, one file per family: choose a grid, queue kernels of
//! `cuda/`.

pub(crate) mod attention;
mod copies;
mod embed;
pub(crate) mod linear;
mod linear_hopper;
mod norms;
mod reserve;
mod rope;
mod rows;
pub(super) mod sampling;
mod split;
mod tile;

use super::{Arg, Device, DeviceBytes};
use crate::{Buffer, TensorError};

/// The bytes of a buffer that was checked to be the device's.
fn bytes(buffer: &Buffer) -> Result<&DeviceBytes, TensorError> {
    buffer.memory().checked()
}

/// The same, to be written.
fn bytes_mut(buffer: &mut Buffer) -> Result<&mut DeviceBytes, TensorError> {
    buffer.memory_mut().checked_mut()
}

/// The same of a buffer that there may be, as an argument.
fn maybe(buffer: Option<&Buffer>) -> Result<Arg<'_>, TensorError> {
    buffer.map_or(Ok(Arg::Nothing), |buffer| Ok(at(bytes(buffer)?)))
}

/// The first byte of an allocation as an argument.
pub(super) fn at(bytes: &DeviceBytes) -> Arg<'_> {
    Arg::At(bytes, 0)
}
