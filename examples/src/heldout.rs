//! How well a model held in some format predicts text that it was not trained on.

use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use maitre_model::Model;
use maitre_tensor::{Backend, WeightFormat};

use crate::reader::{self, Reader};

/// Tokens that are predicted from one beginning.
pub const WINDOW: usize = 512;

/// Windows of the held-out text that are whole.
pub const WINDOWS: usize = 116;

/// What stands between two documents.
const SEPARATOR: &str = "<|endoftext|>";

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

/// The token ids of each document of the held-out text.
///
/// # Errors
///
/// A tokenizer that can't be read.
pub fn documents() -> Result<Vec<Vec<u32>>> {
    let tokenizer = reader::tokenizer()?;
    let documents = maitre_bundled::HELDOUT.split(SEPARATOR);
    documents.map(|it| Ok(tokenizer.encode(it)?)).collect()
}

/// The id of the control token that separates documents.
///
/// # Errors
///
/// A tokenizer that can't be read, or that takes it for several tokens.
pub fn separator() -> Result<u32> {
    match reader::tokenizer()?.encode(SEPARATOR)?[..] {
        [id] => Ok(id),
        ref ids => bail!("{SEPARATOR} is {ids:?}"),
    }
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
        surprise += nats(&mut reader, window, window.len() - 1)?;
        predicted += window.len() - 1;
    }
    Ok((surprise / predicted as f64).exp())
}

/// The surprise at all of `ids`, in nats, where a model sees at most `longest` ids at once: the
/// rolling windows of EleutherAI's lm-evaluation-harness with one token of context. The first
/// window begins with `before`, each other one with the last id of the window before it. The last
/// window begins as early as `longest` allows.
///
/// # Errors
///
/// A step that fails.
pub fn rolling_nats(reader: &mut Reader, before: u32, ids: &[u32], longest: usize) -> Result<f64> {
    let mut all = vec![before];
    all.extend(ids);
    let (mut surprise, mut seen) = (0.0, 1);
    while seen < all.len() {
        let end = all.len().min(seen + longest - 1);
        let window = &all[end.saturating_sub(longest)..end];
        surprise += nats(reader, window, end - seen)?;
        seen = end;
    }
    Ok(surprise)
}

/// The surprise at the last `predicted` ids of a window that is read on its own, in nats.
fn nats(reader: &mut Reader, window: &[u32], predicted: usize) -> Result<f64> {
    reader.keep(0);
    let logits = reader.read(window, predicted + 1)?;
    let next = &window[window.len() - predicted..];
    let pairs = logits.iter().zip(next);
    Ok(pairs
        .map(|(row, next)| negative_log_probability(row, *next))
        .sum())
}

/// In f64: the many small terms of the sum would be lost in f32.
fn negative_log_probability(logits: &[f32], token: u32) -> f64 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits
        .iter()
        .map(|logit| f64::from(logit - most).exp())
        .sum();
    sum.ln() - f64::from(logits[token as usize] - most)
}
