//! The operators whose output rows are made from single input rows: embedding, normalisation,
//! activation, gathering.

use super::Backend;
use crate::input::LinearInput;
use crate::{Activation, Buffer, PackedWeight, TensorError};

impl Backend {
    /// `out[i] = table[tokens[i]]`, widened to f32. `out` is `[tokens.len(), table.cols()]`.
    ///
    /// # Errors
    ///
    /// As for every operator of [`Backend`]; token ids must be below `table.rows()`.
    pub fn embed(
        &self,
        table: &PackedWeight,
        tokens: &[u32],
        out: &mut Buffer,
    ) -> Result<(), TensorError> {
        let check = self.check("embed");
        check.matrix("out", out, tokens.len(), table.cols())?;
        check.indices("tokens", tokens, table.rows())?;
        check.place("table", table.memory())?;
        self.operators().embed(table, tokens, out)
    }

    /// `out[i] = x[rows[i]]`. `x` holds rows of `dim` numbers, `out` is `[rows.len(), dim]`.
    ///
    /// # Errors
    ///
    /// As for every operator of [`Backend`].
    pub fn gather_rows(
        &self,
        x: &Buffer,
        dim: usize,
        rows: &[u32],
        out: &mut Buffer,
    ) -> Result<(), TensorError> {
        let check = self.check("gather_rows");
        check.rule(dim > 0, "dim", "above 0", dim)?;
        check.matrix("out", out, rows.len(), dim)?;
        let x_rows = x.len() / dim;
        check.matrix("x", x, x_rows, dim)?;
        check.indices("rows", rows, x_rows)?;
        self.operators().gather_rows(x, dim, rows, out)
    }

    /// `out = x`, in the form of `out`. `x` is `[rows, out.cols()]`.
    ///
    /// # Errors
    ///
    /// As for every operator of [`Backend`].
    pub fn encode(
        &self,
        x: &Buffer,
        out: &mut LinearInput,
        rows: usize,
    ) -> Result<(), TensorError> {
        let check = self.check("encode");
        let cols = out.cols();
        check.rule(cols > 0, "out", "at least 1 column wide", "empty")?;
        check.matrix("x", x, rows, cols)?;
        check.any_input("out", out, cols, rows)?;
        self.operators().encode(x, out, rows)
    }

    /// `out = activation(x)`, in the form of `out`. `x` is `[rows, out.cols()]`.
    ///
    /// # Errors
    ///
    /// As for every operator of [`Backend`].
    pub fn activate(
        &self,
        x: &Buffer,
        activation: Activation,
        out: &mut LinearInput,
        rows: usize,
    ) -> Result<(), TensorError> {
        let check = self.check("activate");
        let cols = out.cols();
        check.rule(cols > 0, "out", "at least 1 column wide", "empty")?;
        check.matrix("x", x, rows, cols)?;
        check.any_input("out", out, cols, rows)?;
        self.operators().activate(x, activation, out, rows)
    }

    /// `out = x / sqrt(mean(x^2) + eps) * weight`, row by row. `x` and `out` are
    /// `[rows, weight.len()]`.
    ///
    /// # Errors
    ///
    /// As for every operator of [`Backend`].
    pub fn rms_norm(
        &self,
        x: &Buffer,
        weight: &Buffer,
        eps: f32,
        out: &mut LinearInput,
        rows: usize,
    ) -> Result<(), TensorError> {
        let check = self.check("rms_norm");
        let dim = weight.len();
        check.rule(dim > 0, "weight", "at least 1 element", "empty")?;
        check.vector("weight", weight, dim)?;
        check.matrix("x", x, rows, dim)?;
        check.any_input("out", out, dim, rows)?;
        self.operators().rms_norm(x, weight, eps, out, rows)
    }

    /// `residual += delta; out = rms_norm(residual)`, row by row. All are `[rows, weight.len()]`.
    ///
    /// # Errors
    ///
    /// As for every operator of [`Backend`].
    pub fn add_rms_norm(
        &self,
        residual: &mut Buffer,
        delta: &Buffer,
        weight: &Buffer,
        eps: f32,
        out: &mut LinearInput,
        rows: usize,
    ) -> Result<(), TensorError> {
        let check = self.check("add_rms_norm");
        let dim = weight.len();
        check.rule(dim > 0, "weight", "at least 1 element", "empty")?;
        check.vector("weight", weight, dim)?;
        check.matrix("delta", delta, rows, dim)?;
        check.matrix("residual", residual, rows, dim)?;
        check.any_input("out", out, dim, rows)?;
        self.operators()
            .add_rms_norm(residual, delta, weight, eps, out, rows)
    }
}
