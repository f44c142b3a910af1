//! The choice of tokens where their logits are.

use std::fmt::Display;

use super::Backend;
use super::check::Check;
use crate::sampling::MOST_CHOOSABLE;
use crate::{SampleRow, SampleRows, TensorError};

impl Backend {
    /// Chooses a token for each row of logits and tells how probable it was ([`SampleRow`]), so that of a GPU's
    /// logits nothing else need be read. Waits for the result.
    ///
    /// Both devices weigh what decides about tokens in the same fixed point, and their logarithms agree to the last
    /// bit or nearly; so the tokens are the same but for scores that are equal to seven digits. Log-probabilities are
    /// the same within 10⁻⁶ or their last bit.
    ///
    /// # Errors
    ///
    /// As for every operator of [`Backend`]; what [`SampleRow`] says of its numbers must hold.
    pub fn sample_rows(&self, args: SampleRows<'_>) -> Result<(), TensorError> {
        let check = self.check("sample_rows");
        check_requests(check, &args)?;
        check.matrix("logits", args.logits, args.rows.len(), args.vocab)?;
        self.operators().sample_rows(args)
    }
}

fn check_requests(check: Check<'_>, args: &SampleRows<'_>) -> Result<(), TensorError> {
    let count = args.rows.len();
    check_choosable(check, args.vocab, args.choosable)?;
    let expected = format_args!("as many as `rows` ({count})");
    check.rule(args.out.len() == count, "out", expected, args.out.len())?;
    for request in args.rows.iter().flatten() {
        check_request(check, request)?;
    }
    Ok(())
}

pub(super) fn check_choosable(
    check: Check<'_>,
    vocab: usize,
    choosable: usize,
) -> Result<(), TensorError> {
    check.rule(vocab > 0, "vocab", "above 0", vocab)?;
    let most = vocab.min(MOST_CHOOSABLE);
    let expected = format_args!("at most {most}");
    check.rule(choosable <= most, "choosable", expected, choosable)
}

pub(super) fn check_request(check: Check<'_>, request: &SampleRow) -> Result<(), TensorError> {
    let SampleRow {
        temperature,
        top_p,
        min_p,
        ..
    } = *request;
    let rules: [(bool, &str, &dyn Display, f32); 3] = [
        (
            temperature.is_finite() && temperature >= 0.0,
            "rows.temperature",
            &"finite and at least 0",
            temperature,
        ),
        (
            top_p > 0.0 && top_p <= 1.0,
            "rows.top_p",
            &"above 0 and at most 1",
            top_p,
        ),
        (
            (0.0..=1.0).contains(&min_p),
            "rows.min_p",
            &"from 0 to 1",
            min_p,
        ),
    ];
    rules
        .into_iter()
        .try_for_each(|(holds, argument, expected, actual)| {
            check.rule(holds, argument, expected, actual)
        })
}
