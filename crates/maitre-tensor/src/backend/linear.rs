//! The matrix product.

use std::ops::Range;

use super::Backend;
use super::check::Check;
use crate::input::LinearInput;
use crate::operators::Epilogue;
use crate::{Buffer, PackedWeight, TensorError};

/// Logits that share a peak.
pub const PEAK_BLOCK: usize = 64;

impl Backend {
    /// `out = x[rows] * w^T + bias`: `x` is `[.., w.cols()]`, `bias` is `[w.rows()]`, and `out` is
    /// `[rows.len(), w.rows()]`.
    ///
    /// Products and sums are f32 for the floating-point formats. For the integer formats sums are
    /// exact within a group, and scaled and added in f32 across groups, in order.
    ///
    /// # Errors
    ///
    /// As for every operator of [`Backend`]; `x` must be in the form of `w`'s format.
    pub fn linear(
        &self,
        x: &LinearInput,
        w: &PackedWeight,
        bias: Option<&Buffer>,
        out: &mut Buffer,
        rows: Range<usize>,
    ) -> Result<(), TensorError> {
        let check = self.check("linear");
        check_product(check, x, w, bias, &rows, false)?;
        check.matrix("out", out, rows.len(), w.rows())?;
        self.operators()
            .linear(x, w, bias, out, rows, Epilogue::None)
    }

    /// `out = activation(gate) * up`, where `gate` and `up` are the two halves of `x[rows] * w^T + bias`.
    /// `w` is made by [`Backend::pack_gated`], which names the activation, `bias` is
    /// `[w.rows()]`, and `out` is `[rows.len(), w.rows() / 2]`. The halves themselves are never
    /// written to memory.
    ///
    /// # Errors
    ///
    /// As for every operator of [`Backend`].
    pub fn linear_gated(
        &self,
        x: &LinearInput,
        w: &PackedWeight,
        bias: Option<&Buffer>,
        out: &mut Buffer,
        rows: Range<usize>,
    ) -> Result<(), TensorError> {
        let check = self.check("linear_gated");
        check_product(check, x, w, bias, &rows, true)?;
        check.matrix("out", out, rows.len(), w.rows() / 2)?;
        let operators = self.operators();
        operators.linear(x, w, bias, out, rows, Epilogue::Gated)
    }

    /// As [`Backend::linear_gated`] followed by [`Backend::encode`] into `out`: what goes into the next matrix, which
    /// some devices write at once. Others leave the result in `between`, `[rows.len(), w.rows() / 2]`, on its way; what
    /// that holds afterwards is not defined.
    ///
    /// # Errors
    ///
    /// As for every operator of [`Backend`].
    pub fn linear_gated_encoded(
        &self,
        x: &LinearInput,
        w: &PackedWeight,
        bias: Option<&Buffer>,
        (between, out): (&mut Buffer, &mut LinearInput),
        rows: Range<usize>,
    ) -> Result<(), TensorError> {
        let (check, width) = (self.check("linear_gated_encoded"), w.rows() / 2);
        check_product(check, x, w, bias, &rows, true)?;
        check.matrix("between", between, rows.len(), width)?;
        check.any_input("out", out, width, rows.len())?;
        let outs = (between, out);
        self.operators()
            .linear_gated_encoded(x, w, bias, outs, rows)
    }

    /// As [`Backend::linear`] without a bias, for an output layer: beside the logits it writes the
    /// largest of every [`PEAK_BLOCK`] of them while they are at hand, `[rows.len(),
    /// w.rows() / PEAK_BLOCK]` rounded up. A caller that looks for large logits then need not read
    /// the others. The peak of a block with a logit that is NaN or +inf is NaN.
    ///
    /// # Errors
    ///
    /// As for every operator of [`Backend`].
    pub fn linear_with_peaks(
        &self,
        x: &LinearInput,
        w: &PackedWeight,
        out: &mut Buffer,
        peaks: &mut Buffer,
        rows: Range<usize>,
    ) -> Result<(), TensorError> {
        let check = self.check("linear_with_peaks");
        check_product(check, x, w, None, &rows, false)?;
        check.matrix("out", out, rows.len(), w.rows())?;
        check.matrix("peaks", peaks, rows.len(), w.rows().div_ceil(PEAK_BLOCK))?;
        let operators = self.operators();
        operators.linear(x, w, None, out, rows, Epilogue::Peaks(peaks))
    }
}

/// The rules of a product's operands; whether its name says that it gates.
fn check_product(
    check: Check<'_>,
    x: &LinearInput,
    w: &PackedWeight,
    bias: Option<&Buffer>,
    rows: &Range<usize>,
    gates: bool,
) -> Result<(), TensorError> {
    let (expected, actual) = match gates {
        true => ("packed as gated", "not"),
        false => ("packed as it is, not gated", "gated"),
    };
    check.rule(w.is_gated() == gates, "w", expected, actual)?;
    let needed = rows.start.saturating_add(rows.len());
    check.place("w", w.memory())?;
    check.input("x", x, w.input(), w.cols(), needed)?;
    bias.map_or(Ok(()), |bias| check.vector("bias", bias, w.rows()))
}
