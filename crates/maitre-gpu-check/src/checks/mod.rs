//! Is every result right? The processor's operators are the specification; a GPU's are compared with them on random
//! ragged batches, and with themselves, bit for bit, where another crowd or another cut must change nothing.

mod attention;
mod attention_case;
mod engine;
mod failures;
mod linear;
mod rows;
mod sampling;
mod soak;
mod tokens;

use anyhow::Result;
use maitre_tensor::{Backend, Buffer};

use super::Options;
use super::item::{Checked, Item, Outcome};
use super::numbers::{equal_bits, relative_error};
use super::site::Site;

/// Adds the checks of operators, which are quick.
pub(super) fn operators(items: &mut Vec<Item>) {
    rows::list(items);
    linear::list(items);
    attention::list(items);
    sampling::list(items);
}

/// Adds the checks of models and engines.
pub(super) fn models(options: &Options, items: &mut Vec<Item>) {
    tokens::list(options, items);
    engine::list(items);
}

/// Adds the check that takes longest.
pub(super) fn soak(items: &mut Vec<Item>) {
    soak::list(items);
}

/// The name of an error between an operator and the processor's.
const RELATIVE_ERROR: &str = "max_relative_error";

/// What f32 results may differ by: sums of thousands of numbers in another order.
const F32_LIMIT: f64 = 2e-5;

/// What a rounding to bf16 may change where the number before it differs in its last bit.
const BF16_LIMIT: f64 = 1.0 / 128.0;

/// Computes the same on the device and on the processor.
fn compare(
    site: &Site,
    limit: f64,
    compute: impl Fn(&Backend) -> Result<Vec<f32>>,
) -> Result<Outcome> {
    let (expected, actual) = (compute(&site.cpu)?, compute(&site.strict)?);
    let error = relative_error(&expected, &actual);
    Ok(Checked::at_most(RELATIVE_ERROR, error, limit).into())
}

/// That both are the same, bit for bit.
fn identical(expected: &[f32], actual: &[f32]) -> Outcome {
    let equal = match expected.len() == actual.len() {
        true => equal_bits(expected, actual),
        false => 0,
    };
    Checked::all("numbers", equal, expected.len()).into()
}

/// All numbers of an f32 buffer.
fn read(backend: &Backend, buffer: &Buffer) -> Result<Vec<f32>> {
    let mut out = vec![0.0; buffer.len()];
    backend.read(buffer, 0..out.len(), &mut out)?;
    Ok(out)
}
