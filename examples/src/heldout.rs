//! How well a model held in some format predicts text that it was not trained on.

use std::sync::Arc;

use anyhow::{Result, ensure};
use maitre_model::{
    Batch, KvGroup, LOGITS_TILE, LoadOptions, Model, ModelSource, Runner, RunnerConfig,
};
use maitre_tensor::{Backend, BlockTables, Span, WeightFormat};
use maitre_text::Tokenizer;

/// Tokens that are predicted from one beginning.
pub const WINDOW: usize = 512;

/// Windows of the held-out text that are whole.
pub const WINDOWS: usize = 116;

const BLOCK_SIZE: usize = 16;

/// The bundled model with its weights in `format`.
///
/// # Errors
///
/// A model that can't be loaded.
pub fn bundled(format: WeightFormat, backend: &Backend) -> Result<Arc<Model>> {
    let model = &maitre_bundled::TARGET;
    let source = ModelSource::Memory {
        name: model.name,
        files: model.files,
    };
    let options = LoadOptions {
        dtype: Some(format),
        ..LoadOptions::default()
    };
    Ok(Arc::new(Model::load(&source, &options, backend)?))
}

/// The token ids of the held-out text, [`WINDOWS`] times [`WINDOW`] of them.
///
/// # Errors
///
/// A tokenizer that can't be read, or a text that is shorter.
pub fn ids() -> Result<Vec<u32>> {
    let tokenizer = maitre_bundled::TARGET
        .file("tokenizer.json")
        .unwrap_or_default();
    let mut ids = Tokenizer::from_bytes(tokenizer, None, None)?.encode(maitre_bundled::HELDOUT)?;
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
    let blocks = WINDOW.div_ceil(BLOCK_SIZE);
    let config = RunnerConfig::new(blocks as u32, BLOCK_SIZE as u32, WINDOW, 1);
    let mut runner = Runner::new(model.clone(), backend.clone(), config)?;
    let vocab = model.config().vocab_size;
    let (mut surprise, mut predicted) = (0.0, 0);
    for window in windows {
        runner.forward(&whole(window))?;
        for start in (0..window.len()).step_by(LOGITS_TILE) {
            let end = window.len().min(start + LOGITS_TILE);
            let logits = runner.logits(start..end)?.values.chunks_exact(vocab);
            for (row, next) in logits.zip(&window[start + 1..]) {
                surprise += negative_log_probability(row, *next);
                predicted += 1;
            }
        }
    }
    Ok((surprise / f64::from(predicted)).exp())
}

/// One sequence from its first token on, every token with its logits.
fn whole(ids: &[u32]) -> Batch {
    let count = ids.len();
    let positions: Vec<u32> = (0..count as u32).collect();
    Batch {
        tokens: ids.to_vec(),
        spans: vec![Span {
            first_token: 0,
            num_tokens: count,
            context_len: count,
        }],
        groups: vec![KvGroup {
            tables: BlockTables {
                tables: vec![(0..count.div_ceil(BLOCK_SIZE) as u32).collect()],
                block_size: BLOCK_SIZE,
            },
            slots: positions.clone(),
        }],
        output_rows: positions.clone(),
        positions,
    }
}

fn negative_log_probability(logits: &[f32], token: u32) -> f64 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = logits.iter().map(|logit| (logit - most).exp()).sum();
    f64::from(sum.ln() + most - logits[token as usize])
}
