//! The dispatch table: what an instruction-set path implements, and which one is used.
//!
//! An operator of [`Backend`](crate::Backend) checks its arguments and cuts its output into tiles;
//! a kernel computes one tile. Every kernel must give a token row the same bits whatever the rest
//! of its tile is. The portable kernels are the specification; a path for a newer instruction set
//! is one more table of the same shape, chosen in [`select`].

use crate::attend::{Queries, Room, Seen, States, Tile};
use crate::buffer::View;
use crate::cache::CellShape;
use crate::portable;
use crate::team::Scratch;
use crate::tiles::Rect;

/// The kernels of one instruction-set path.
#[derive(Debug)]
pub(crate) struct Kernels {
    /// Name shown to users.
    pub(crate) name: &'static str,
    /// Rounds a row of activations to the format of the weights it will meet.
    pub(crate) round: fn(input: &[f32], like: View<'_>, out: &mut [f32]),
    /// Widens one row of a table.
    pub(crate) widen: fn(table: View<'_>, start: usize, out: &mut [f32]),
    /// A rectangle of `x * w^T + bias`.
    pub(crate) linear: fn(&Linear<'_>, Rect<'_, f32>, &mut Scratch),
    /// `x / sqrt(mean(x^2) + eps) * weight`.
    pub(crate) rms_norm: fn(input: &[f32], weight: &[f32], eps: f32, out: &mut [f32]),
    /// `sum += delta`.
    pub(crate) add: fn(sum: &mut [f32], delta: &[f32]),
    /// Normalises a head if it has a norm, and rotates its pairs `(i, i + len / 2)`.
    pub(crate) rope: fn(&RopeHead<'_>, out: &mut [f32]),
    /// Rounds a key into its place in a cell.
    pub(crate) store_key: fn(CellShape, cell: &mut [u32], slot: usize, key: &[f32]),
    /// Rounds a value into its place in a cell; the other slots keep theirs.
    pub(crate) store_value: fn(CellShape, cell: &mut [u32], slot: usize, value: &[f32]),
    /// Rounds a query to meet keys of a format; returns the factor of its scores, less the scale.
    pub(crate) load_query: fn(CellShape, query: &[f32], words: &mut [u32], sums: &mut [i32]) -> f32,
    /// Merges a tile of the cache into what queries know.
    pub(crate) attend: fn(&Tile<'_>, &Queries<'_>, Seen, &mut Room<'_>, &mut States<'_>),
    /// `gate * sigmoid(gate) * up`.
    pub(crate) silu_mul: fn(gate: &[f32], up: &[f32], out: &mut [f32]),
}

/// What [`Kernels::linear`] reads.
pub(crate) struct Linear<'a> {
    /// `[rows, cols]`, rounded to the weight's format.
    pub(crate) x: &'a [f32],
    /// `[out, cols]`.
    pub(crate) weight: View<'a>,
    /// Input features.
    pub(crate) cols: usize,
    /// `[out]`.
    pub(crate) bias: Option<&'a [f32]>,
}

/// What [`Kernels::rope`] reads.
pub(crate) struct RopeHead<'a> {
    /// The head as projected.
    pub(crate) input: &'a [f32],
    /// Weight of its RMS normalisation, as long as the head.
    pub(crate) norm: Option<&'a [f32]>,
    /// Added to the mean square.
    pub(crate) eps: f32,
    /// Cosines of the position, half as many.
    pub(crate) cos: &'a [f32],
    /// Sines of the position.
    pub(crate) sin: &'a [f32],
}

/// The best kernels for this machine.
pub(crate) fn select() -> &'static Kernels {
    #[cfg(target_arch = "x86_64")]
    if let Some(kernels) = crate::x86::best() {
        return kernels;
    }
    &portable::KERNELS
}
