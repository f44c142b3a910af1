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
unsafe impl Plain for bf16 {}
// SAFETY: as above.
unsafe impl Plain for f16 {}

/// An owned, zero-initialised allocation of `len` bytes.
pub(crate) struct AlignedBytes {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the allocation is owned by this value alone and only reachable through its borrow.
unsafe impl Send for AlignedBytes {}
// SAFETY: a shared borrow only reads.
unsafe impl Sync for AlignedBytes {}

impl AlignedBytes {
    /// Reserves `len` zero bytes without touching them; `None` if the system has no such memory.
    pub(crate) fn zeroed(len: usize) -> Option<Self> {
        // One byte at least: the allocator has no empty blocks.
        let layout = Layout::from_size_align(len.max(1), ALIGNMENT).ok()?;
        // SAFETY: the layout has a size above zero.
        let start = unsafe { alloc_zeroed(layout) };
        NonNull::new(start).map(|start| Self { start, len })
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

impl Drop for AlignedBytes {
    fn drop(&mut self) {
        // SAFETY: the same size and alignment formed a valid layout in `zeroed`.
        let layout = unsafe { Layout::from_size_align_unchecked(self.len.max(1), ALIGNMENT) };
        // SAFETY: allocated in `zeroed` with this layout, and never freed before.
        unsafe { dealloc(self.start.as_ptr(), layout) };
    }
}

impl fmt::Debug for AlignedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBytes({})", self.len)
    }
}
