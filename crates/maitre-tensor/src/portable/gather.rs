//! Rows of a table, widened.

use crate::buffer::View;
use crate::element::Element;

/// See [`Kernels::widen`](crate::kernels::Kernels::widen).
pub(super) fn widen(table: View<'_>, start: usize, out: &mut [f32]) {
    match table {
        View::F32(table) => widen_from(&table[start..], out),
        View::Bf16(table) => widen_from(&table[start..], out),
        View::F16(table) => widen_from(&table[start..], out),
    }
}

pub(super) fn widen_from<T: Element>(values: &[T], out: &mut [f32]) {
    for (out, value) in out.iter_mut().zip(values) {
        *out = value.widen();
    }
}
