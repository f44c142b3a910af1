//! Normalisation of what a layer adds, of parts of rows, and by mean and variance: what families need that norm after their
//! layers, whole rows of queries and keys, or as the first transformers did.

use super::Backend;
use super::attention::check_bound;
use crate::{Buffer, LinearInput, TensorError};

/// Arguments of [`Backend::add_normed`].
#[derive(Debug)]
pub struct AddNormed<'a> {
    /// The residual stream, `[rows, after.len()]`.
    pub residual: &'a mut Buffer,
    /// What a layer adds to it, before it is normalised; as large.
    pub delta: &'a Buffer,
    /// Weight of the norm of `delta`.
    pub after: &'a Buffer,
    /// Weight of the norm of the sum; without it the sum goes on as it is.
    pub before: Option<&'a Buffer>,
    /// Added to the mean squares.
    pub eps: f32,
    /// What the next matrix reads; as large.
    pub out: &'a mut LinearInput,
    /// Token rows.
    pub rows: usize,
}

/// Arguments of [`Backend::layer_norm`].
#[derive(Debug)]
pub struct LayerNorm<'a> {
    /// The residual stream, `[rows, weight.len()]`.
    pub residual: &'a mut Buffer,
    /// What a layer adds to it, as large; without it the stream stays as it is.
    pub delta: Option<&'a Buffer>,
    /// A factor for each column.
    pub weight: &'a Buffer,
    /// What is added to each column, as long as `weight`.
    pub bias: Option<&'a Buffer>,
    /// Added to the variance.
    pub eps: f32,
    /// What the next matrix reads; as large.
    pub out: &'a mut LinearInput,
    /// Token rows.
    pub rows: usize,
}

/// The columns that [`Backend::rms_norm_columns`] normalises.
#[derive(Debug, Clone, Copy)]
pub struct NormColumns<'a> {
    /// Numbers per row.
    pub width: usize,
    /// The first column.
    pub first: usize,
    /// A factor for each column.
    pub weight: &'a Buffer,
    /// Added to the mean square.
    pub eps: f32,
}

impl Backend {
    /// `residual += rms_norm(delta)`, then `out = rms_norm(residual)` or `residual`, row by row.
    ///
    /// # Errors
    ///
    /// As for every operator of [`Backend`].
    pub fn add_normed(&self, args: AddNormed<'_>) -> Result<(), TensorError> {
        let check = self.check("add_normed");
        let (dim, rows) = (args.after.len(), args.rows);
        check.rule(dim > 0, "after", "at least 1 element", "empty")?;
        check.vector("after", args.after, dim)?;
        args.before
            .map_or(Ok(()), |before| check.vector("before", before, dim))?;
        check.matrix("delta", args.delta, rows, dim)?;
        check.matrix("residual", args.residual, rows, dim)?;
        check.any_input("out", args.out, dim, rows)?;
        self.operators().add_normed(args)
    }

    /// Normalises columns of each row, in place: `x` is `[rows, columns.width]`, and each row's columns are one vector to
    /// the norm.
    ///
    /// # Errors
    ///
    /// As for every operator of [`Backend`].
    pub fn rms_norm_columns(
        &self,
        x: &mut Buffer,
        columns: NormColumns<'_>,
        rows: usize,
    ) -> Result<(), TensorError> {
        let check = self.check("rms_norm_columns");
        let (dim, width) = (columns.weight.len(), columns.width);
        check.rule(dim > 0, "weight", "at least 1 element", "empty")?;
        let end = columns.first.saturating_add(dim);
        let expected = format_args!("at least {end}, where the last column ends");
        check.rule(end <= width, "width", expected, width)?;
        check.vector("weight", columns.weight, dim)?;
        check.matrix("x", x, rows, width)?;
        self.operators().rms_norm_columns(x, columns, rows)
    }

    /// `residual += delta`, then `out = (residual - mean) / sqrt(variance + eps) * weight + bias`, row by row (Ba, Kiros and
    /// Hinton 2016, arXiv 1607.06450). The variance is the mean square of what the mean is taken from, in a pass of its own.
    ///
    /// # Errors
    ///
    /// As for every operator of [`Backend`].
    pub fn layer_norm(&self, args: LayerNorm<'_>) -> Result<(), TensorError> {
        let check = self.check("layer_norm");
        let (dim, rows) = (args.weight.len(), args.rows);
        check.rule(dim > 0, "weight", "at least 1 element", "empty")?;
        check.vector("weight", args.weight, dim)?;
        args.bias
            .map_or(Ok(()), |bias| check.vector("bias", bias, dim))?;
        args.delta
            .map_or(Ok(()), |delta| check.matrix("delta", delta, rows, dim))?;
        check.matrix("residual", args.residual, rows, dim)?;
        check.any_input("out", args.out, dim, rows)?;
        self.operators().layer_norm(args)
    }

    /// `sum += delta`, for the first `len` numbers.
    ///
    /// # Errors
    ///
    /// As for every operator of [`Backend`].
    pub fn add(&self, sum: &mut Buffer, delta: &Buffer, len: usize) -> Result<(), TensorError> {
        let check = self.check("add");
        check.matrix("delta", delta, len, 1)?;
        check.matrix("sum", sum, len, 1)?;
        self.operators().add(sum, delta, len)
    }

    /// `x = limit * tanh(x / limit)`, for the first `len` numbers: of a GPU's [`TensorError::NotOnGpu`].
    ///
    /// # Errors
    ///
    /// As for every operator of [`Backend`].
    pub fn bound(&self, x: &mut Buffer, limit: f32, len: usize) -> Result<(), TensorError> {
        let check = self.check("bound");
        check_bound(check, "limit", limit)?;
        check.matrix("x", x, len, 1)?;
        self.operators().bound(x, limit, len)
    }

    /// `x *= factor`, for the first `len` numbers.
    ///
    /// # Errors
    ///
    /// As for every operator of [`Backend`].
    pub fn scale(&self, x: &mut Buffer, factor: f32, len: usize) -> Result<(), TensorError> {
        self.check("scale").matrix("x", x, len, 1)?;
        self.operators().scale(x, factor, len)
    }
}
