//! The dispatch table: what an instruction-set path implements, and which one is used.
//!
//! An operator of [`Backend`](crate::Backend) checks its arguments and cuts its output into tiles;
//! a kernel computes one tile. Every kernel must give a token row the same bits whatever the rest
//! of its tile is. The portable kernels are the specification; a path for a newer instruction set
//! is one more table of the same shape, chosen by [`CpuPath`](crate::CpuPath).

use crate::Activation;
use crate::attend::{Queries, Seen, States, Tile, TileBuffers};
use crate::cache::CellShape;
use crate::format::WeightFormat;
use crate::input::{Group, InputRows, InputShape};
use crate::results::Results;
use crate::team::Scratch;
use crate::weight::{Int4Row, PackedView};

/// The kernels of one instruction-set path.
#[derive(Debug)]
pub(crate) struct Kernels {
    /// Name shown to users.
    pub(crate) name: &'static str,
    /// Brings a row of activations into the form that the products read.
    pub(crate) encode:
        fn(values: &[f32], shape: &InputShape, words: &mut [u32], groups: &mut [Group]),
    /// Rounds weights of an output feature to int8, four per word, and returns their scale.
    pub(crate) quantize_int8: fn(values: &[f32], words: &mut [u32]) -> f32,
    /// Rounds weights of an output feature and group to int4, eight per word.
    pub(crate) quantize_int4: fn(values: &[f32], words: &mut [u32]) -> Int4Row,
    /// One row of a packed table, widened.
    pub(crate) embed: fn(table: PackedView<'_>, row: usize, out: &mut [f32]),
    /// A rectangle of `x * w^T + bias`; of a gated weight, of `activation(gate) * up`.
    pub(crate) linear: fn(&Linear<'_>, &mut Results<'_>, &mut Scratch),
    /// How `linear` wants its output cut for weights of a format.
    pub(crate) tiling: fn(WeightFormat) -> Tiling,
    /// Most token rows that `linear` keeps widened in scratch, two words for each of theirs.
    pub(crate) widened_rows: usize,
    /// The largest of every 64 logits; NaN for 64 of which one is NaN or +inf.
    pub(crate) peaks: fn(logits: &[f32], out: &mut [f32]),
    /// `x / sqrt(mean(x^2) + eps) * weight`.
    pub(crate) rms_norm: fn(input: &[f32], weight: &[f32], eps: f32, out: &mut [f32]),
    /// `(x - mean) / sqrt(variance + eps) * weight + bias`.
    pub(crate) layer_norm: fn(input: &[f32], Affine<'_>, eps: f32, out: &mut [f32]),
    /// `activation(x)`, number by number.
    pub(crate) activate: fn(Activation, input: &[f32], out: &mut [f32]),
    /// `sum += delta`.
    pub(crate) add: fn(sum: &mut [f32], delta: &[f32]),
    /// Prefetches numbers into the first-level cache.
    pub(crate) fetch: fn(&[f32]),
    /// Normalises a head if it has a norm, and rotates its pairs `(i, i + n)`, where n is the number of angles; what
    /// lies behind `2 * n` is not rotated.
    pub(crate) rope: fn(&RopeHead<'_>, out: &mut [f32]),
    /// Rounds a key into its place in a cell.
    pub(crate) store_key: fn(CellShape, cell: &mut [u32], slot: usize, key: &[f32]),
    /// Rounds a value into its place in a cell; the other slots keep theirs.
    pub(crate) store_value: fn(CellShape, cell: &mut [u32], slot: usize, value: &[f32]),
    /// Queries of a work item of attention that make full use of a loaded key: work is cut into smaller items only where a
    /// thread would have none.
    pub(crate) full_queries: usize,
    /// Most queries of a work item of attention: enough to use a loaded key often, few enough that what they know stays in
    /// the second-level cache.
    pub(crate) queries: usize,
    /// Words of a rounded query.
    pub(crate) query_words: fn(CellShape) -> usize,
    /// Words of one query's weights for a tile.
    pub(crate) weight_words: fn(CellShape) -> usize,
    /// Rounds a query to meet keys of a format; returns the factor of its scores, less the scale.
    pub(crate) load_query: fn(CellShape, query: &[f32], words: &mut [u32], sums: &mut [i32]) -> f32,
    /// Merges a tile of the cache into what queries know.
    pub(crate) attend: fn(&Tile<'_>, &Queries<'_>, Seen, &mut TileBuffers<'_>, &mut States<'_>),
}

/// The size of the tiles of [`Kernels::linear`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tiling {
    /// Bytes of weights, where there are tiles enough for all threads.
    pub(crate) weights: usize,
    /// Bytes of token rows beyond which the rows are cut, as they pass anew for each few panels. Each part keeps so many rows that
    /// reading the weights once more does not matter.
    pub(crate) inputs: usize,
    /// What the rows of a part are a multiple of.
    pub(crate) rows: usize,
}

impl Tiling {
    /// Some ten microseconds of reading, and all rows.
    pub(crate) const STREAMED: Self = Self {
        weights: 256 * 1024,
        inputs: usize::MAX,
        rows: 1,
    };
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

/// What [`Kernels::layer_norm`] multiplies by and adds, as long as a row.
#[derive(Clone, Copy)]
pub(crate) struct Affine<'a> {
    pub(crate) weight: &'a [f32],
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
    /// Cosines of the position, at most half as many.
    pub(crate) cos: &'a [f32],
    /// Sines of the position.
    pub(crate) sin: &'a [f32],
}
