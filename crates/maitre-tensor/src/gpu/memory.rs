//! Memory of a device, owned.
#![allow(unsafe_code)]

use std::fmt;
use std::sync::Arc;

use super::{Address, Gpu};
use crate::TensorError;

/// An owned allocation on a device, zeroed.
pub(crate) struct DeviceBytes {
    gpu: Arc<dyn Gpu>,
    address: Address,
    len: usize,
}

impl DeviceBytes {
    /// Reserves `len` zero bytes.
    pub(crate) fn zeroed(gpu: &Arc<dyn Gpu>, len: usize) -> Result<Self, TensorError> {
        Ok(Self {
            gpu: Arc::clone(gpu),
            // A device has no allocation without bytes.
            address: gpu.allocate(len.max(1))?,
            len,
        })
    }

    pub(crate) fn address(&self) -> Address {
        self.address
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The device it lies on.
    pub(crate) fn gpu(&self) -> &Arc<dyn Gpu> {
        &self.gpu
    }

    /// Overwrites the bytes from `offset` on.
    pub(crate) fn upload(&mut self, offset: usize, bytes: &[u8]) -> Result<(), TensorError> {
        let to = self.range("upload", offset, bytes.len())?;
        // SAFETY: the range lies within this allocation, which lives as long as `self`.
        unsafe { self.gpu.upload(to, bytes) }
    }

    /// Reads the bytes from `offset` on, after everything queued before.
    pub(crate) fn download(&self, offset: usize, bytes: &mut [u8]) -> Result<(), TensorError> {
        let from = self.range("download", offset, bytes.len())?;
        // SAFETY: as in `upload`.
        unsafe { self.gpu.download(from, bytes) }
    }

    /// Overwrites `len` bytes from `to` on with those of `source` from `from` on.
    pub(crate) fn copy_from(
        &mut self,
        to: usize,
        source: &Self,
        from: usize,
        len: usize,
    ) -> Result<(), TensorError> {
        let (to, from) = (
            self.range("copy", to, len)?,
            source.range("copy", from, len)?,
        );
        // SAFETY: both ranges lie within live allocations, which differ as one is borrowed mutably.
        unsafe { self.gpu.copy(from, to, len) }
    }

    /// Copies `len` bytes within the allocation; the ranges must be apart.
    pub(crate) fn copy_within(
        &mut self,
        from: usize,
        to: usize,
        len: usize,
    ) -> Result<(), TensorError> {
        if from.abs_diff(to) < len {
            return Err(TensorError::Device {
                operation: "copy",
                message: format!("{len} bytes at {from} and at {to} overlap"),
            });
        }
        let (from, to) = (self.range("copy", from, len)?, self.range("copy", to, len)?);
        // SAFETY: both ranges lie within this allocation and do not overlap.
        unsafe { self.gpu.copy(from, to, len) }
    }

    fn range(
        &self,
        operation: &'static str,
        offset: usize,
        len: usize,
    ) -> Result<Address, TensorError> {
        let end = offset.checked_add(len);
        if end.is_some_and(|end| end <= self.len) {
            return Ok(Address(self.address.0 + offset as u64));
        }
        Err(TensorError::Device {
            operation,
            message: format!("{len} bytes at {offset} lie outside of {}", self.len),
        })
    }
}

impl Drop for DeviceBytes {
    fn drop(&mut self) {
        // SAFETY: allocated in `zeroed`, and freed only here.
        unsafe { self.gpu.free(self.address) };
    }
}

impl fmt::Debug for DeviceBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceBytes({})", self.len)
    }
}
