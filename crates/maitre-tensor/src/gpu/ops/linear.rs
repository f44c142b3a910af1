//! The matrix product, and the embedding, which reads the same matrices.

use std::ops::Range;

use super::Device;
use crate::weight::layout::Layout;
use crate::{Backend, Buffer, LinearInput, PackedWeight, TensorError, WeightView};

/// What becomes of the sums.
#[derive(Debug)]
pub(crate) enum Epilogue<'a> {
    /// They are the result, `[rows, n]`.
    None,
    /// `silu(first half) * second half`, `[rows, n / 2]`.
    SiluMul,
    /// They are the result, and these get the peak of every 64 of them.
    Peaks(&'a mut Buffer),
}

impl Device {
    /// [`Backend::pack`](crate::Backend::pack) and [`Backend::pack_gated`](crate::Backend::pack_gated) of checked parts:
    /// the threads of `backend` convert or quantize on the way.
    pub(crate) fn pack(
        &self,
        _backend: &Backend,
        _parts: &[WeightView<'_>],
        _layout: Layout,
    ) -> Result<PackedWeight, TensorError> {
        Err(super::missing("pack"))
    }

    /// [`Backend::embed`](crate::Backend::embed).
    pub(crate) fn embed(
        &self,
        _table: &PackedWeight,
        _tokens: &[u32],
        _out: &mut Buffer,
    ) -> Result<(), TensorError> {
        Err(super::missing("embed"))
    }

    /// [`Backend::linear`](crate::Backend::linear), [`Backend::linear_silu_mul`](crate::Backend::linear_silu_mul) and
    /// [`Backend::linear_with_peaks`](crate::Backend::linear_with_peaks).
    pub(crate) fn linear(
        &self,
        _operator: &'static str,
        _x: &LinearInput,
        _w: &PackedWeight,
        _bias: Option<&Buffer>,
        _out: &mut Buffer,
        _rows: Range<usize>,
        _epilogue: Epilogue<'_>,
    ) -> Result<(), TensorError> {
        Err(super::missing("linear"))
    }
}
