//! How well a model held in some format predicts text that it was not trained on.

use std::sync::Arc;

use anyhow::{Result, ensure};
use maitre_model::Model;
use maitre_tensor::{Backend, WeightFormat};

use crate::reader::{self, Reader};

/// Tokens that are predicted from one beginning.
pub const WINDOW: usize = 512;

/// Windows of the held-out text that are whole.
pub const WINDOWS: usize = 116;

/// The bundled model with its weights in `format`.
///
/// # Errors
///
/// A model that can't be loaded.
pub fn bundled(format: WeightFormat, backend: &Backend) -> Result<Arc<Model>> {
    reader::load(&maitre_bundled::TARGET, Some(format), backend)
}

/// The token ids of the held-out text, [`WINDOWS`] times [`WINDOW`] of them.
///
/// # Errors
///
/// A tokenizer that can't be read, or a text that is shorter.
pub fn ids() -> Result<Vec<u32>> {
    let mut ids = reader::tokenizer()?.encode(maitre_bundled::HELDOUT)?;
    ensure!(ids.len() >= WINDOWS * WINDOW, "{} ids", ids.len());
    ids.truncate(WINDOWS * WINDOW);
    Ok(ids)
}

/// The perplexity over windows of [`WINDOW`] ids: the exponential of the mean surprise. Each window
/// is read on its own, and all its ids but the first are predicted.
///
/// # Errors
///
/// A step that fails.
pub fn perplexity<'a>(
    model: &Arc<Model>,
    backend: &Backend,
    windows: impl Iterator<Item = &'a [u32]>,
) -> Result<f64> {
    let mut reader = Reader::new(model.clone(), backend, WINDOW)?;
    let (mut surprise, mut predicted) = (0.0, 0);
    for window in windows {
        reader.keep(0);
        let logits = reader.read(window, window.len())?;
        for (row, next) in logits.iter().zip(&window[1..]) {
            surprise += negative_log_probability(row, *next);
            predicted += 1;
        }
    }
    Ok((surprise / f64::from(predicted)).exp())
}

fn negative_log_probability(logits: &[f32], token: u32) -> f64 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = logits.iter().map(|logit| (logit - most).exp()).sum();
    f64::from(sum.ln() + most - logits[token as usize])
}
