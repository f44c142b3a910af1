//! Host memory that a GPU reads and writes by itself.
//!
//! A copy is asynchronous only from memory that the operating system cannot move (*pinned*), and its source
//! must stay as it is until the copy has run. So bytes to be uploaded are first copied here, page after page
//! in a ring, and the caller has its own back at once:
//!
//! ```text
//!      [ being read by the GPU ][ half full of copies queued ][ free ][ free ]
//!        event recorded            ^ filled                     waited for before it is entered again
//! ```
//!
//! An event is recorded when a page is left, behind all copies from it; waiting for it when the ring comes
//! round again is the only time an upload waits. Cost: 8 MiB × 4, and a copy on the host.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::ptr;

use cudarc::driver::result::{self, event};
use cudarc::driver::sys::{self, CUdeviceptr, CUevent, CUevent_flags};

use super::context::Stream;
use super::failure::During;
use crate::TensorError;

const PAGES: usize = 4;
const PAGE_BYTES: usize = 8 << 20;
/// Uploads start at multiples of this, so that no two share a cache line.
const LINE_BYTES: usize = 64;

/// The pages of a device, for both directions.
pub(super) struct Staging {
    outgoing: Vec<Page>,
    /// The page being filled, and how far.
    page: usize,
    filled: usize,
    incoming: Pinned,
}

impl Staging {
    pub(super) fn new() -> Result<Self, TensorError> {
        Ok(Self {
            outgoing: (0..PAGES).map(|_| Page::new()).collect::<Result<_, _>>()?,
            page: 0,
            filled: 0,
            incoming: Pinned::new()?,
        })
    }

    /// Queues a copy of `bytes` to the device.
    ///
    /// # Safety
    /// The bytes from `to` on lie in a live allocation.
    pub(super) unsafe fn upload(
        &mut self,
        stream: &Stream,
        mut to: CUdeviceptr,
        mut bytes: &[u8],
    ) -> Result<(), TensorError> {
        while !bytes.is_empty() {
            if self.filled == PAGE_BYTES {
                self.turn(stream)?;
            }
            let (now, later) = bytes.split_at(bytes.len().min(PAGE_BYTES - self.filled));
            let page = &self.outgoing[self.page].memory;
            // SAFETY: the page has space for `now` behind what was filled, and no queued copy reads that
            // part: the page was waited for when it was entered. The caller vouches for `to`.
            unsafe {
                let from = page.bytes.add(self.filled);
                ptr::copy_nonoverlapping(now.as_ptr(), from, now.len());
                sys::cuMemcpyHtoDAsync_v2(to, from.cast::<c_void>(), now.len(), stream.raw())
            }
            .during("upload")?;
            self.filled = (self.filled + now.len()).next_multiple_of(LINE_BYTES);
            to += now.len() as u64;
            bytes = later;
        }
        Ok(())
    }

    /// Leaves the page, and enters the next when all copies from it have run.
    fn turn(&mut self, stream: &Stream) -> Result<(), TensorError> {
        let next = (self.page + 1) % PAGES;
        // SAFETY: the events and the stream are alive. An event that was never recorded has happened.
        unsafe {
            event::record(self.outgoing[self.page].left, stream.raw()).during("upload")?;
            event::synchronize(self.outgoing[next].left).during("upload")?;
        }
        self.page = next;
        self.filled = 0;
        Ok(())
    }

    /// Waits for everything queued, and copies from the device.
    ///
    /// # Safety
    /// The bytes from `from` on lie in a live allocation.
    pub(super) unsafe fn download(
        &mut self,
        stream: &Stream,
        mut from: CUdeviceptr,
        bytes: &mut [u8],
    ) -> Result<(), TensorError> {
        let page = self.incoming.bytes;
        for part in bytes.chunks_mut(PAGE_BYTES) {
            // SAFETY: the page is at least as large as `part`, and nothing else is queued that touches it.
            // The caller vouches for `from`.
            unsafe {
                sys::cuMemcpyDtoHAsync_v2(page.cast::<c_void>(), from, part.len(), stream.raw())
            }
            .during("download")?;
            stream.wait("download")?;
            // SAFETY: as above; the copy has run.
            unsafe { ptr::copy_nonoverlapping(page, part.as_mut_ptr(), part.len()) };
            from += part.len() as u64;
        }
        if bytes.is_empty() {
            stream.wait("download")?;
        }
        Ok(())
    }
}

/// One page of the ring.
struct Page {
    memory: Pinned,
    /// Recorded behind the last copy from it.
    left: CUevent,
}

impl Page {
    fn new() -> Result<Self, TensorError> {
        let memory = Pinned::new()?;
        let left = event::create(CUevent_flags::CU_EVENT_DISABLE_TIMING).during("open")?;
        Ok(Self { memory, left })
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: created in `new`, and not used again.
        let _ = unsafe { event::destroy(self.left) };
    }
}

/// `PAGE_BYTES` of pinned memory.
struct Pinned {
    bytes: *mut u8,
}

impl Pinned {
    fn new() -> Result<Self, TensorError> {
        // SAFETY: a context is current: the device is being opened.
        let bytes = unsafe { result::malloc_host(PAGE_BYTES, 0) }.during("open")?;
        Ok(Self {
            bytes: bytes.cast(),
        })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: allocated in `new`; the stream was drained before, so that no copy is queued.
        let _ = unsafe { result::free_host(self.bytes.cast()) };
    }
}
