//! A model without an engine: one sequence in its cache, read as far as one likes.
//!
//! Who verifies drafted tokens wants the logits behind several tokens at once, and forgets those tokens again that
//! turned out to be wrong. To forget is to read on from an earlier position: what the cache holds beyond is
//! overwritten.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use maitre_bundled::BundledModel;
use maitre_model::{
    Batch, KvGroup, LOGITS_TILE, LoadOptions, Model, ModelSource, Runner, RunnerConfig,
};
use maitre_tensor::{Backend, BlockTables, Span, WeightFormat};
use maitre_text::Tokenizer;

const BLOCK_SIZE: usize = 16;

/// A bundled model with its weights in `format`, or in the file's own.
///
/// # Errors
///
/// A model that can't be loaded.
pub fn load(
    model: &BundledModel,
    format: Option<WeightFormat>,
    backend: &Backend,
) -> Result<Arc<Model>> {
    let source = ModelSource::Memory {
        name: model.name,
        files: model.files,
    };
    load_from(&source, format, backend)
}

/// A model with its weights in `format`, or as its files store them.
///
/// # Errors
///
/// A model that can't be loaded.
pub fn load_from(
    source: &ModelSource,
    format: Option<WeightFormat>,
    backend: &Backend,
) -> Result<Arc<Model>> {
    let options = LoadOptions {
        dtype: format,
        ..LoadOptions::default()
    };
    Ok(Arc::new(Model::load(source, &options, backend)?))
}

/// The tokenizer of both bundled models.
///
/// # Errors
///
/// One that can't be read.
pub fn tokenizer() -> Result<Tokenizer> {
    let file = maitre_bundled::TARGET.file("tokenizer.json");
    let file = file.context("the bundled model has no tokenizer.json")?;
    Ok(Tokenizer::from_bytes(file, None, None)?)
}

/// A model and the one sequence that it reads.
pub struct Reader {
    runner: Runner,
    longest: usize,
    /// Tokens whose keys and values are in the cache.
    known: usize,
}

impl Reader {
    /// A reader of sequences of up to `longest` tokens that has read nothing.
    ///
    /// # Errors
    ///
    /// No memory for the cache.
    pub fn new(model: Arc<Model>, backend: &Backend, longest: usize) -> Result<Self> {
        let blocks = longest.div_ceil(BLOCK_SIZE);
        let config = RunnerConfig::new(blocks as u32, BLOCK_SIZE as u32, longest, 1);
        Ok(Self {
            runner: Runner::new(model, backend.clone(), config)?,
            longest,
            known: 0,
        })
    }

    /// Forgets what was read from position `kept` on.
    pub fn keep(&mut self, kept: usize) {
        self.known = self.known.min(kept);
    }

    /// Reads `text`, which begins with what was read before, to its end in one step. Returns the logits behind
    /// each of its last `rows` tokens, `[rows][vocabulary]`; they are computed again if they were read before.
    ///
    /// # Errors
    ///
    /// A text that is too long, or shorter than `rows`; a step that fails.
    pub fn read(&mut self, text: &[u32], rows: usize) -> Result<Vec<Vec<f32>>> {
        let end = text.len();
        ensure!(
            (1..=end).contains(&rows) && end <= self.longest,
            "{rows} rows of {end} tokens, with space for {}",
            self.longest
        );
        let start = self.known.min(end - rows);
        self.runner.forward(&batch(text, start, rows))?;
        self.known = end;
        let width = self.runner.model().config().vocab_size;
        let mut logits = Vec::with_capacity(rows);
        for first in (0..rows).step_by(LOGITS_TILE) {
            let tile = self.runner.logits(first..rows.min(first + LOGITS_TILE))?;
            logits.extend(tile.values.chunks_exact(width).map(<[f32]>::to_vec));
        }
        Ok(logits)
    }
}

/// One span: `text` from `start` on, the last `rows` tokens with their logits.
fn batch(text: &[u32], start: usize, rows: usize) -> Batch {
    let (count, context_len) = (text.len() - start, text.len());
    let positions: Vec<u32> = (start as u32..context_len as u32).collect();
    let blocks = context_len.div_ceil(BLOCK_SIZE) as u32;
    Batch {
        tokens: text[start..].to_vec(),
        spans: vec![Span {
            first_token: 0,
            num_tokens: count,
            context_len,
        }],
        groups: vec![KvGroup {
            tables: BlockTables {
                first_blocks: Vec::new(),
                tables: vec![(0..blocks).collect()],
                block_size: BLOCK_SIZE,
            },
            slots: positions.clone(),
        }],
        positions,
        output_rows: ((count - rows) as u32..count as u32).collect(),
    }
}
