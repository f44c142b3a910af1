//! Zeroed host memory aligned to a cache line, and its views as slices of numbers.
//!
//! `Vec<f32>` is aligned to four bytes only; kernels want whole cache lines (and 512-bit loads that
//! never split one). This is the one module that allocates by hand.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::fmt;
use std::ptr::NonNull;

use half::{bf16, f16};

/// Alignment of every buffer in bytes: one cache line, one AVX-512 register.
pub(crate) const ALIGNMENT: usize = 64;

/// A type of which every bit pattern is a value, aligned to at most [`ALIGNMENT`].
///
/// # Safety
///
/// Implementors have no padding, no invalid bit patterns and no destructor.
pub(crate) unsafe trait Plain: Copy + Send + Sync + 'static {}

// SAFETY: primitive numbers, or `repr(transparent)` wrappers of `u16`.
unsafe impl Plain for f32 {}
// SAFETY: as above.
unsafe impl Plain for u32 {}
// SAFETY: as above.
unsafe impl Plain for bf16 {}
// SAFETY: as above.
unsafe impl Plain for f16 {}
// SAFETY: as above.
unsafe impl Plain for u8 {}
/// Alignment asked of the allocator. More than it gives to every block would make the standard
/// library zero the memory by writing to it; up to this much, fresh pages come zeroed from the
/// system and stay untouched, so that a KV pool of gigabytes costs nothing until it fills.
const ALLOCATED_ALIGNMENT: usize = 16;

/// What the memory unit can translate at once where the system grants it.
const LARGE_PAGE: usize = 2 << 20;

/// An owned, zero-initialised allocation of `len` bytes.
///
/// ```text
/// allocated            start (a multiple of the alignment)
/// |<- up to it ------->|<------------ len ------------>|...|
/// ```
pub(crate) struct AlignedBytes {
    allocated: NonNull<u8>,
    start: NonNull<u8>,
    len: usize,
    /// Of `start`.
    alignment: usize,
}

// SAFETY: the allocation is owned by this value alone and only reachable through its borrow.
unsafe impl Send for AlignedBytes {}
// SAFETY: a shared borrow only reads.
unsafe impl Sync for AlignedBytes {}

impl AlignedBytes {
    /// Reserves `len` zero bytes without touching them; `None` if the system has no such memory.
    pub(crate) fn zeroed(len: usize) -> Option<Self> {
        Self::aligned_to(len, ALIGNMENT)
    }

    fn aligned_to(len: usize, alignment: usize) -> Option<Self> {
        let layout = Self::layout(len, alignment)?;
        // SAFETY: the layout has a size above zero.
        let allocated = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        let offset = allocated.as_ptr().align_offset(alignment);
        // SAFETY: the allocation is `alignment` bytes longer than `len`, and the offset to the
        // next multiple of `alignment` is less than that.
        let start = unsafe { allocated.add(offset) };
        Some(Self {
            allocated,
            start,
            len,
            alignment,
        })
    }

    /// Like [`AlignedBytes::zeroed`], in pages of 2 MiB where the system has them: a kernel that
    /// streams through gigabytes then waits for address translation 512 times less often.
    pub(crate) fn in_large_pages(len: usize) -> Option<Self> {
        if len < LARGE_PAGE {
            return Self::zeroed(len);
        }
        let bytes = Self::aligned_to(len, LARGE_PAGE)?;
        advise_large_pages(&bytes);
        Some(bytes)
    }

    /// What is allocated for `len` bytes; `None` if there is no such amount of memory.
    fn layout(len: usize, alignment: usize) -> Option<Layout> {
        Layout::from_size_align(len.checked_add(alignment)?, ALLOCATED_ALIGNMENT).ok()
    }

    /// Size in bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The memory as numbers; bytes after the last whole one are left out.
    pub(crate) fn as_slice<T: Plain>(&self) -> &[T] {
        // SAFETY: the range is allocated and initialised (zeroed, then only written as `Plain`
        // values), aligned for `T`, every bit pattern is a `T`, and `&self` keeps writers away.
        unsafe {
            std::slice::from_raw_parts(self.start.as_ptr().cast::<T>(), self.len / size_of::<T>())
        }
    }

    /// The memory as numbers to be written.
    pub(crate) fn as_mut_slice<T: Plain>(&mut self) -> &mut [T] {
        // SAFETY: as in `as_slice`, and `&mut self` makes this the only reference.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.start.as_ptr().cast::<T>(),
                self.len / size_of::<T>(),
            )
        }
    }
}

/// Asks the system for large pages; it may refuse, and nothing but speed depends on it.
#[cfg(target_os = "linux")]
fn advise_large_pages(bytes: &AlignedBytes) {
    let whole_pages = bytes.len / LARGE_PAGE * LARGE_PAGE;
    let start = bytes.start.as_ptr().cast();
    // SAFETY: the range is allocated, and the advice changes no contents.
    let _ = unsafe { libc::madvise(start, whole_pages, libc::MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
fn advise_large_pages(_: &AlignedBytes) {}

impl Drop for AlignedBytes {
    fn drop(&mut self) {
        // The same numbers gave a layout in `zeroed`.
        if let Some(layout) = Self::layout(self.len, self.alignment) {
            // SAFETY: allocated in `zeroed` with this layout, and never freed before.
            unsafe { dealloc(self.allocated.as_ptr(), layout) };
        }
    }
}

impl fmt::Debug for AlignedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBytes({})", self.len)
    }
}
