//! A target whose answers are written beforehand: it computes all that the real one does, then says what
//! the script says.
//!
//! The logits that the sampler gets are as many and as large as the real ones, peaks included, so that sampling costs
//! what it costs: all equal but that of the script's token, which is the largest.

use std::hint::black_box;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use maitre_model::{Batch, CacheMoves, Forward, Logits, ModelError};
use maitre_tensor::{Heartbeat, PEAK_BLOCK};

/// The only sequence there is, and what became of it.
#[derive(Debug, Default)]
pub struct Script {
    /// Tokens of its prompt.
    pub prompt_len: usize,
    /// Its answer.
    pub answer: Vec<u32>,
    /// The steps it took so far.
    pub steps: Vec<Step>,
}

/// A step of the target.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// When it began.
    pub began: Instant,
    /// The position of its first token.
    pub position: usize,
    /// Its tokens.
    pub rows: usize,
}

impl Script {
    /// The token at an output position; beyond the end always the same.
    #[must_use]
    pub fn token(&self, output: usize) -> u32 {
        self.answer.get(output).copied().unwrap_or_default()
    }

    /// That which follows a position of the sequence.
    fn token_after(&self, position: usize) -> u32 {
        self.token((position + 1).saturating_sub(self.prompt_len))
    }
}

/// An executor that is overruled.
pub struct Scripted {
    inner: Box<dyn Forward>,
    script: Arc<Mutex<Script>>,
    /// What each output row of the last step has to say.
    wanted: Vec<u32>,
    /// `[tile, vocabulary]`: all zero but for [`Self::said`].
    values: Vec<f32>,
    /// `[tile, blocks of the vocabulary]`: the same.
    peaks: Vec<f32>,
    /// Tokens that are not zero, row by row.
    said: Vec<u32>,
}

impl Scripted {
    /// `inner`, which says what `script` says.
    #[must_use]
    pub fn new(inner: Box<dyn Forward>, script: Arc<Mutex<Script>>) -> Self {
        let (tile, width) = (inner.logits_tile(), inner.vocab_size());
        Self {
            values: vec![0.0; tile * width],
            peaks: vec![0.0; tile * width.div_ceil(PEAK_BLOCK)],
            inner,
            script,
            wanted: Vec::new(),
            said: Vec::new(),
        }
    }

    fn write(&mut self, value: f32) {
        let width = self.inner.vocab_size();
        let blocks = width.div_ceil(PEAK_BLOCK);
        for (row, &token) in self.said.iter().enumerate() {
            let token = token as usize;
            self.values[row * width + token] = value;
            self.peaks[row * blocks + token / PEAK_BLOCK] = value;
        }
    }
}

impl Forward for Scripted {
    fn vocab_size(&self) -> usize {
        self.inner.vocab_size()
    }

    fn logits_tile(&self) -> usize {
        self.inner.logits_tile()
    }

    fn heartbeat(&self) -> Heartbeat {
        self.inner.heartbeat()
    }

    fn move_blocks(&mut self, moves: &CacheMoves<'_>) -> Result<(), ModelError> {
        self.inner.move_blocks(moves)
    }

    fn forward(&mut self, batch: &Batch) -> Result<(), ModelError> {
        let began = Instant::now();
        let mut script = self.script.lock().unwrap_or_else(PoisonError::into_inner);
        script.steps.push(Step {
            began,
            position: batch.positions.first().map_or(0, |&it| it as usize),
            rows: batch.tokens.len(),
        });
        self.wanted.clear();
        let rows = batch.output_rows.iter();
        self.wanted
            .extend(rows.map(|&row| script.token_after(batch.positions[row as usize] as usize)));
        drop(script);
        self.inner.forward(batch)
    }

    fn logits(&mut self, rows: Range<usize>) -> Result<Logits<'_>, ModelError> {
        black_box(self.inner.logits(rows.clone())?);
        self.write(0.0);
        self.said.clear();
        self.said.extend_from_slice(&self.wanted[rows.clone()]);
        self.write(1.0);
        let width = self.inner.vocab_size();
        Ok(Logits {
            values: &self.values[..rows.len() * width],
            peaks: &self.peaks[..rows.len() * width.div_ceil(PEAK_BLOCK)],
        })
    }
}
