//! Prefetching rows that lie too far apart for the processor to foresee the next.

use super::isa::fetch_near;

/// Numbers of a cache line.
const LINE: usize = 16;

/// See [`Kernels::fetch`](crate::kernels::Kernels::fetch).
pub(crate) fn fetch(numbers: &[f32]) {
    for line in numbers.chunks(LINE) {
        fetch_near(line.as_ptr().cast());
    }
}
