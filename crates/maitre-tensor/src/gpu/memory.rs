//! Memory of a device, owned.
#![allow(unsafe_code)]

use std::fmt;
use std::sync::Arc;

use super::{Address, Gpu};
use crate::TensorError;

/// An owned allocation on a device, zeroed.
pub(crate) struct DeviceBytes {
    allocation: Arc<Allocation>,
    len: usize,
}

/// Memory that is freed when neither its owner nor a recorded step that reads or writes it is left.
pub(crate) struct Allocation {
    gpu: Arc<dyn Gpu>,
    address: Address,
}

impl DeviceBytes {
    /// Reserves `len` zero bytes.
    pub(crate) fn zeroed(gpu: &Arc<dyn Gpu>, len: usize) -> Result<Self, TensorError> {
        let _hold = gpu.turns().hold();
        // A device has no allocation without bytes.
        let address = gpu.allocate(len.max(1))?;
        let gpu = Arc::clone(gpu);
        Ok(Self {
            allocation: Arc::new(Allocation { gpu, address }),
            len,
        })
    }

    pub(crate) fn address(&self) -> Address {
        self.allocation.address
    }

    /// A share of the memory, which lives as long.
    pub(crate) fn share(&self) -> Arc<Allocation> {
        Arc::clone(&self.allocation)
    }

    /// Whether it is memory of this GPU, whose kernels alone know its addresses.
    pub(crate) fn is_on(&self, gpu: &Arc<dyn Gpu>) -> bool {
        Arc::ptr_eq(self.gpu(), gpu)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Overwrites the bytes from `offset` on.
    pub(crate) fn upload(&mut self, offset: usize, bytes: &[u8]) -> Result<(), TensorError> {
        let to = self.range("upload", offset, bytes.len())?;
        let _hold = self.gpu().turns().hold();
        // SAFETY: the range lies within this allocation, which lives as long as `self`.
        unsafe { self.gpu().upload(to, bytes) }
    }

    /// Reads the bytes from `offset` on, after everything queued before.
    pub(crate) fn download(&self, offset: usize, bytes: &mut [u8]) -> Result<(), TensorError> {
        let from = self.range("download", offset, bytes.len())?;
        let _hold = self.gpu().turns().hold();
        // SAFETY: as in `upload`.
        unsafe { self.gpu().download(from, bytes) }
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
        if !source.is_on(self.gpu()) {
            return Err(TensorError::Device {
                operation: "copy",
                message: "the source lies on another GPU".to_owned(),
            });
        }
        let _hold = self.gpu().turns().hold();
        let turns = self.gpu().turns();
        for bytes in [&*self, source] {
            turns.keep(bytes);
        }
        // SAFETY: both ranges lie within live allocations of one GPU, which differ as one is borrowed mutably.
        unsafe { self.gpu().copy(from, to, len) }
    }

    fn gpu(&self) -> &Arc<dyn Gpu> {
        &self.allocation.gpu
    }

    fn range(
        &self,
        operation: &'static str,
        offset: usize,
        len: usize,
    ) -> Result<Address, TensorError> {
        let end = offset.checked_add(len);
        if end.is_some_and(|end| end <= self.len) {
            return Ok(Address(self.address().0 + offset as u64));
        }
        Err(TensorError::Device {
            operation,
            message: format!("{len} bytes at {offset} lie outside of {}", self.len),
        })
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        // SAFETY: allocated in `DeviceBytes::zeroed`, and freed only here.
        unsafe { self.gpu.free(self.address) };
    }
}

impl fmt::Debug for DeviceBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceBytes({})", self.len)
    }
}

impl fmt::Debug for Allocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Allocation({:#x})", self.address.0)
    }
}
