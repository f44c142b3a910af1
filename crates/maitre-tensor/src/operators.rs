//! [`Operators`]: what a device computes.
//!
//! [`Backend`](crate::Backend) is the front: it checks each call once, and what stands behind it may rely on that. So a
//! new device is one more implementation of this trait, and no operator begins with the question where it runs.

use std::ops::Range;

use crate::{
    Activation, AddNormed, Attention, BlockCopy, Buffer, LargestStep, LayerCache, LayerNorm,
    LinearInput, NormColumns, PackedWeight, RopeStore, SampleRows, TensorError,
};

/// What becomes of the sums of a product.
#[derive(Debug)]
pub(crate) enum Epilogue<'a> {
    /// They are the result, `[rows, n]`.
    None,
    /// `activation(first half) * second half`, `[rows, n / 2]`.
    Gated,
    /// They are the result, and these get the peak of every 64 of them.
    Peaks(&'a mut Buffer),
}

impl Epilogue<'_> {
    /// The operator that ends so.
    pub(crate) fn operator(&self) -> &'static str {
        match self {
            Self::None => "linear",
            Self::Gated => "linear_gated",
            Self::Peaks(_) => "linear_with_peaks",
        }
    }
}

/// The operators of one device, one trait per family, so that each stands whole in a file of its own.
///
/// Arguments have been checked: all memory is the device's, shapes and forms fit, indices are within bounds, and
/// nothing is written before that is known. What remains to be refused is what a device has no kernel for.
pub(crate) trait Operators:
    RowOperators + Norms + Products + Rotation + PagedAttention + BlockCopies + Sampling + Reservation
{
}

impl<T> Operators for T where
    T: RowOperators
        + Norms
        + Products
        + Rotation
        + PagedAttention
        + BlockCopies
        + Sampling
        + Reservation
{
}

/// What makes each row of its result from a single row.
pub(crate) trait RowOperators {
    /// [`Backend::embed`](crate::Backend::embed).
    fn embed(
        &self,
        table: &PackedWeight,
        tokens: &[u32],
        out: &mut Buffer,
    ) -> Result<(), TensorError>;

    /// [`Backend::gather_rows`](crate::Backend::gather_rows).
    fn gather_rows(
        &self,
        x: &Buffer,
        dim: usize,
        rows: &[u32],
        out: &mut Buffer,
    ) -> Result<(), TensorError>;

    /// [`Backend::encode`](crate::Backend::encode).
    fn encode(&self, x: &Buffer, out: &mut LinearInput, rows: usize) -> Result<(), TensorError>;

    /// [`Backend::activate`](crate::Backend::activate).
    fn activate(
        &self,
        x: &Buffer,
        activation: Activation,
        out: &mut LinearInput,
        rows: usize,
    ) -> Result<(), TensorError>;

    /// [`Backend::rms_norm`](crate::Backend::rms_norm).
    fn rms_norm(
        &self,
        x: &Buffer,
        weight: &Buffer,
        eps: f32,
        out: &mut LinearInput,
        rows: usize,
    ) -> Result<(), TensorError>;

    /// [`Backend::add_rms_norm`](crate::Backend::add_rms_norm).
    fn add_rms_norm(
        &self,
        residual: &mut Buffer,
        delta: &Buffer,
        weight: &Buffer,
        eps: f32,
        out: &mut LinearInput,
        rows: usize,
    ) -> Result<(), TensorError>;
}

/// What families need that normalise what a layer adds, whole rows of queries and keys, or by mean and variance.
pub(crate) trait Norms {
    /// [`Backend::add_normed`](crate::Backend::add_normed).
    fn add_normed(&self, args: AddNormed<'_>) -> Result<(), TensorError>;

    /// [`Backend::rms_norm_columns`](crate::Backend::rms_norm_columns).
    fn rms_norm_columns(
        &self,
        x: &mut Buffer,
        columns: NormColumns<'_>,
        rows: usize,
    ) -> Result<(), TensorError>;

    /// [`Backend::layer_norm`](crate::Backend::layer_norm).
    fn layer_norm(&self, args: LayerNorm<'_>) -> Result<(), TensorError>;

    /// [`Backend::add`](crate::Backend::add).
    fn add(&self, sum: &mut Buffer, delta: &Buffer, len: usize) -> Result<(), TensorError>;

    /// [`Backend::bound`](crate::Backend::bound).
    fn bound(&self, x: &mut Buffer, limit: f32, len: usize) -> Result<(), TensorError>;

    /// [`Backend::scale`](crate::Backend::scale).
    fn scale(&self, x: &mut Buffer, factor: f32, len: usize) -> Result<(), TensorError>;
}

/// Products with weights.
pub(crate) trait Products: RowOperators {
    /// [`Backend::linear`](crate::Backend::linear), [`Backend::linear_gated`](crate::Backend::linear_gated) and
    /// [`Backend::linear_with_peaks`](crate::Backend::linear_with_peaks).
    fn linear(
        &self,
        x: &LinearInput,
        w: &PackedWeight,
        bias: Option<&Buffer>,
        out: &mut Buffer,
        rows: Range<usize>,
        epilogue: Epilogue<'_>,
    ) -> Result<(), TensorError>;

    /// [`Backend::linear_gated_encoded`](crate::Backend::linear_gated_encoded).
    fn linear_gated_encoded(
        &self,
        x: &LinearInput,
        w: &PackedWeight,
        bias: Option<&Buffer>,
        outs: (&mut Buffer, &mut LinearInput),
        rows: Range<usize>,
    ) -> Result<(), TensorError> {
        self.linear_gated_then_encoded(x, w, bias, outs, rows)
    }

    /// The same in two operators, by way of `between`: for what a device can't do at once.
    fn linear_gated_then_encoded(
        &self,
        x: &LinearInput,
        w: &PackedWeight,
        bias: Option<&Buffer>,
        (between, out): (&mut Buffer, &mut LinearInput),
        rows: Range<usize>,
    ) -> Result<(), TensorError> {
        let num_rows = rows.len();
        self.linear(x, w, bias, between, rows, Epilogue::Gated)?;
        self.encode(between, out, num_rows)
    }
}

/// Positions, and the write into the cache.
pub(crate) trait Rotation {
    /// [`Backend::rope_and_store`](crate::Backend::rope_and_store).
    fn rope_and_store(&self, args: RopeStore<'_>) -> Result<(), TensorError>;
}

/// What reads the cache.
pub(crate) trait PagedAttention {
    /// [`Backend::paged_attention`](crate::Backend::paged_attention). `rows`: token rows up to the end of the last
    /// span.
    fn paged_attention(&self, args: Attention<'_>, rows: usize) -> Result<(), TensorError>;
}

/// Copies of blocks.
pub(crate) trait BlockCopies {
    /// [`Backend::copy_blocks`](crate::Backend::copy_blocks).
    fn copy_blocks(
        &self,
        cache: &mut LayerCache,
        block_size: usize,
        copies: &[BlockCopy],
    ) -> Result<(), TensorError>;

    /// [`Backend::copy_blocks_from`](crate::Backend::copy_blocks_from). Either cache may be one in host memory that
    /// keeps blocks as the device does.
    fn copy_blocks_from(
        &self,
        source: &LayerCache,
        target: &mut LayerCache,
        block_size: usize,
        copies: &[BlockCopy],
    ) -> Result<(), TensorError>;
}

/// The choice of tokens.
pub(crate) trait Sampling {
    /// [`Backend::sample_rows`](crate::Backend::sample_rows).
    fn sample_rows(&self, args: SampleRows<'_>) -> Result<(), TensorError>;
}

/// Memory that operators work in.
pub(crate) trait Reservation {
    /// [`Backend::reserve`](crate::Backend::reserve).
    fn reserve(&self, largest: LargestStep<'_>) -> Result<(), TensorError>;
}
