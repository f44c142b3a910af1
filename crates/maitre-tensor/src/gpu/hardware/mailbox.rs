//! Copies to the host that are waited for later.
//!
//! A mailbox is a piece of pinned memory and an event that is recorded behind each copy to it: waiting for the event
//! does not wait for what was queued behind the copy.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr;

use cudarc::driver::result::{self, event};
use cudarc::driver::sys::{self, CUdeviceptr, CUevent, CUevent_flags};

use super::context::Stream;
use super::failure::{During, failed};
use crate::TensorError;
use crate::gpu::MailboxId;

/// The mailboxes of a device.
#[derive(Default)]
pub(super) struct Mailboxes {
    open: HashMap<MailboxId, Mailbox>,
    made: u64,
}

struct Mailbox {
    bytes: *mut u8,
    len: usize,
    /// Recorded behind the last copy.
    arrived: CUevent,
}

impl Mailboxes {
    /// The context is current.
    pub(super) fn add(&mut self, len: usize) -> Result<MailboxId, TensorError> {
        let mailbox = Mailbox::new(len)?;
        let id = MailboxId(self.made);
        self.made += 1;
        self.open.insert(id, mailbox);
        Ok(id)
    }

    /// Queues a copy of `len` bytes.
    ///
    /// # Safety
    /// The bytes from `from` on lie in a live allocation.
    pub(super) unsafe fn send(
        &self,
        stream: &Stream,
        from: CUdeviceptr,
        len: usize,
        id: MailboxId,
    ) -> Result<(), TensorError> {
        let mailbox = self.at(id, len)?;
        // SAFETY: the mailbox holds `len` bytes and lives until the queue is empty. The caller vouches for `from`.
        unsafe {
            if len > 0 {
                sys::cuMemcpyDtoHAsync_v2(mailbox.bytes.cast::<c_void>(), from, len, stream.raw())
                    .during("send")?;
            }
            event::record(mailbox.arrived, stream.raw()).during("send")
        }
    }

    /// Waits for the last copy and takes `bytes` from it.
    pub(super) fn receive(&self, id: MailboxId, bytes: &mut [u8]) -> Result<(), TensorError> {
        let mailbox = self.at(id, bytes.len())?;
        // SAFETY: the event is alive; one that was never recorded has happened.
        unsafe { event::synchronize(mailbox.arrived) }.during("receive")?;
        // SAFETY: the mailbox holds as many bytes, and the copy to it has run.
        unsafe { ptr::copy_nonoverlapping(mailbox.bytes, bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }

    /// The queue is empty.
    pub(super) fn remove(&mut self, id: MailboxId) {
        self.open.remove(&id);
    }

    fn at(&self, id: MailboxId, len: usize) -> Result<&Mailbox, TensorError> {
        let mailbox = self.open.get(&id).filter(|mailbox| len <= mailbox.len);
        mailbox.ok_or_else(|| failed("send", format!("no mailbox holds {len} bytes")))
    }
}

impl Mailbox {
    fn new(len: usize) -> Result<Self, TensorError> {
        let arrived = event::create(CUevent_flags::CU_EVENT_DISABLE_TIMING).during("mailbox")?;
        // SAFETY: a context is current.
        match unsafe { result::malloc_host(len.max(1), 0) }.during("mailbox") {
            Ok(bytes) => Ok(Self {
                bytes: bytes.cast(),
                len,
                arrived,
            }),
            Err(error) => {
                // SAFETY: created above, and not used again.
                let _ = unsafe { event::destroy(arrived) };
                Err(error)
            }
        }
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        // SAFETY: made in `new` and not used again: no copy is queued.
        let _ = unsafe { event::destroy(self.arrived) };
        // SAFETY: as above.
        let _ = unsafe { result::free_host(self.bytes.cast()) };
    }
}
