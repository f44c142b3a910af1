//! The dispatch table: what an instruction-set path implements, and which one is used.
//!
//! An operator of [`Backend`](crate::Backend) checks its arguments and cuts its output into tiles;
//! a kernel computes one tile. Every kernel must give a token row the same bits whatever the rest
//! of its tile is. The portable kernels are the specification; a path for a newer instruction set
//! is one more table of the same shape, chosen by [`CpuPath`](crate::CpuPath).

use crate::buffer::View;
use crate::input::{Group, InputRows, InputShape};
use crate::team::Scratch;
use crate::tiles::Rect;
use crate::weight::PackedView;
use crate::{BlockTables, Span};

/// The kernels of one instruction-set path.
#[derive(Debug)]
pub(crate) struct Kernels {
    /// Name shown to users.
    pub(crate) name: &'static str,
    /// Brings a row of activations into the form that the products read.
    pub(crate) encode:
        fn(values: &[f32], shape: &InputShape, words: &mut [u32], groups: &mut [Group]),
    /// One row of a packed table, widened.
    pub(crate) embed: fn(table: PackedView<'_>, row: usize, out: &mut [f32]),
    /// A rectangle of `x * w^T + bias`.
    pub(crate) linear: fn(&Linear<'_>, Rect<'_, f32>, &mut Scratch),
    /// `x / sqrt(mean(x^2) + eps) * weight`.
    pub(crate) rms_norm: fn(input: &[f32], weight: &[f32], eps: f32, out: &mut [f32]),
    /// `sum += delta`.
    pub(crate) add: fn(sum: &mut [f32], delta: &[f32]),
    /// Rotates the pairs `(i, i + len / 2)` of a head.
    pub(crate) rotate: fn(head: &mut [f32], cos: &[f32], sin: &[f32]),
    /// Some token rows of the query heads that share one key head.
    pub(crate) attend: fn(&Attend<'_>, Rect<'_, f32>, &mut Scratch),
    /// `gate * sigmoid(gate) * up`.
    pub(crate) silu_mul: fn(gate: &[f32], up: &[f32], out: &mut [f32]),
}

/// What [`Kernels::linear`] reads. The tile's columns start at a multiple of
/// [`LANES`](crate::weight::layout::LANES).
pub(crate) struct Linear<'a> {
    /// Token rows, as the weight's format wants them; row 0 is the tile matrix's row 0.
    pub(crate) x: InputRows<'a>,
    pub(crate) weight: PackedView<'a>,
    /// `[out]`.
    pub(crate) bias: Option<&'a [f32]>,
}

/// What [`Kernels::attend`] reads; shapes as in [`Attention`](crate::Attention). The tile's columns
/// are the query heads that share one key head.
pub(crate) struct Attend<'a> {
    pub(crate) q: &'a [f32],
    pub(crate) k: View<'a>,
    pub(crate) v: View<'a>,
    pub(crate) spans: &'a [Span],
    pub(crate) tables: &'a BlockTables,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) scale: f32,
}
