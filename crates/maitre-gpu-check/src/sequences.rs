//! Sequences that a runner computes without an engine: batches by hand, tokens from the device.

use std::sync::Arc;

use anyhow::Result;
use maitre_model::{
    Batch, BlockTables, CacheMove, CacheMoves, Draw, KvGroup, Model, Runner, RunnerConfig, Span,
};
use maitre_tensor::Backend;

/// Tokens per block, as the engine has them.
const BLOCK_SIZE: usize = 16;

/// Sequences of one runner, each with blocks of its own.
pub(super) struct Sequences {
    runner: Runner,
    /// Block `b` of sequence `s` of `n` is `b * n + s`: neighbours in a sequence lie apart.
    tables: Vec<Vec<u32>>,
    lengths: Vec<usize>,
    /// The next token of each.
    next: Vec<u32>,
}

/// What a runner is sized for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Capacity {
    pub(super) sequences: usize,
    /// Positions of each.
    pub(super) positions: usize,
    /// Tokens of a step.
    pub(super) step_tokens: usize,
    /// Whether decodes are recorded and played.
    pub(super) record_steps: bool,
}

impl Sequences {
    pub(super) fn new(model: Arc<Model>, backend: &Backend, capacity: Capacity) -> Result<Self> {
        let blocks = capacity.positions.div_ceil(BLOCK_SIZE);
        let narrow = |size: usize| u32::try_from(size);
        let rows = capacity.step_tokens.max(capacity.sequences);
        let config = RunnerConfig {
            max_output_rows_per_step: capacity.sequences.max(1),
            record_steps: capacity.record_steps,
            ..RunnerConfig::new(
                narrow(blocks * capacity.sequences)?,
                narrow(BLOCK_SIZE)?,
                rows,
                capacity.sequences,
            )
        };
        let runner = Runner::new(model, backend.clone(), config)?;
        let table = |s: usize| (0..blocks).map(move |b| (b * capacity.sequences + s) as u32);
        Ok(Self {
            runner,
            tables: (0..capacity.sequences)
                .map(|s| table(s).collect())
                .collect(),
            lengths: vec![0; capacity.sequences],
            next: vec![0; capacity.sequences],
        })
    }

    pub(super) fn runner(&mut self) -> &mut Runner {
        &mut self.runner
    }

    /// The next token of each sequence.
    pub(super) fn next_tokens(&self) -> &[u32] {
        &self.next
    }

    /// A batch in which sequence `s` goes on with `tokens`, for each of `work`, and the logits of each last token
    /// are wanted.
    fn batch(&self, work: &[(usize, &[u32])]) -> Batch {
        let mut batch = Batch {
            tokens: Vec::new(),
            positions: Vec::new(),
            spans: Vec::new(),
            groups: Vec::new(),
            output_rows: Vec::new(),
        };
        let (mut slots, mut tables) = (Vec::new(), Vec::new());
        for &(s, tokens) in work {
            let first_token = batch.tokens.len();
            let positions = self.lengths[s]..self.lengths[s] + tokens.len();
            let table = &self.tables[s];
            slots.extend(positions.clone().map(|position| {
                table[position / BLOCK_SIZE] * BLOCK_SIZE as u32 + (position % BLOCK_SIZE) as u32
            }));
            batch.spans.push(Span {
                first_token,
                num_tokens: tokens.len(),
                context_len: positions.end,
            });
            tables.push(table[..positions.end.div_ceil(BLOCK_SIZE)].to_vec());
            batch.positions.extend(positions.map(|it| it as u32));
            batch.tokens.extend_from_slice(tokens);
            batch.output_rows.push(batch.tokens.len() as u32 - 1);
        }
        batch.groups.push(KvGroup {
            tables: BlockTables {
                first_blocks: Vec::new(),
                tables,
                block_size: BLOCK_SIZE,
            },
            slots,
        });
        batch
    }

    /// Computes tokens of some sequences; they are that much longer then, and their next tokens the likeliest.
    pub(super) fn extend(&mut self, work: &[(usize, &[u32])]) -> Result<()> {
        let batch = self.batch(work);
        self.runner.forward(&batch)?;
        let chosen = self.choose(work.len())?;
        for (&(s, tokens), token) in work.iter().zip(chosen) {
            self.lengths[s] += tokens.len();
            self.next[s] = token;
        }
        Ok(())
    }

    /// Computes tokens of a sequence without choosing the next one, as in the middle of a prompt.
    pub(super) fn prefill(&mut self, s: usize, tokens: &[u32]) -> Result<()> {
        let mut batch = self.batch(&[(s, tokens)]);
        batch.output_rows.clear();
        self.runner.forward(&batch)?;
        self.lengths[s] += tokens.len();
        Ok(())
    }

    /// Takes the last `count` tokens of a sequence back.
    pub(super) fn rewind(&mut self, s: usize, count: usize) {
        self.lengths[s] -= count;
    }

    /// One more token for each sequence.
    pub(super) fn decode(&mut self) -> Result<()> {
        self.decode_first(self.next.len())
    }

    /// One more token for each of the first `count` sequences.
    pub(super) fn decode_first(&mut self, count: usize) -> Result<()> {
        let next = self.next[..count].to_vec();
        let work: Vec<(usize, &[u32])> = next.chunks(1).enumerate().collect();
        self.extend(&work)
    }

    /// The logits of each sequence's next token, which is computed once more for them.
    pub(super) fn logits(&mut self, work: &[(usize, &[u32])]) -> Result<Vec<Vec<f32>>> {
        let batch = self.batch(work);
        self.runner.forward(&batch)?;
        let mut rows = Vec::with_capacity(work.len());
        for row in 0..work.len() {
            rows.push(self.runner.logits(row..row + 1)?.values.to_vec());
        }
        Ok(rows)
    }

    /// By how much the largest logit is above the next, for each row of the last step.
    pub(super) fn margins(&mut self) -> Result<Vec<f32>> {
        let mut margins = Vec::with_capacity(self.next.len());
        for row in 0..self.next.len() {
            let (mut best, mut second) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
            for &logit in self.runner.logits(row..row + 1)?.values {
                second = second.max(logit.min(best));
                best = best.max(logit);
            }
            margins.push(best - second);
        }
        Ok(margins)
    }

    /// Gives every sequence what the first one has computed, and a next token of its own.
    pub(super) fn share_first(&mut self) -> Result<()> {
        let length = self.lengths[0];
        let blocks = length.div_ceil(BLOCK_SIZE);
        let first = &self.tables[0][..blocks];
        let mut copies = Vec::new();
        for table in &self.tables[1..] {
            let pairs = first.iter().zip(table);
            copies.extend(pairs.map(|(&from, &to)| CacheMove { from, to }));
        }
        self.runner.move_blocks(&CacheMoves {
            swap_out: &[],
            swap_in: &[],
            copies: &copies,
        })?;
        self.lengths.fill(length);
        let vocab = self.runner.limits().vocab_size;
        for (s, next) in self.next.iter_mut().enumerate() {
            *next = (s % vocab) as u32;
        }
        Ok(())
    }

    /// The likeliest token of each output row.
    fn choose(&mut self, rows: usize) -> Result<Vec<u32>> {
        let vocab = self.runner.limits().vocab_size;
        let tile = self.runner.logits_tile();
        let greedy = Draw {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            seed: 0,
            position: 0,
        };
        let mut tokens = Vec::with_capacity(rows);
        for first in (0..rows).step_by(tile) {
            let count = tile.min(rows - first);
            let drawn = self.runner.draw(first, &vec![Some(greedy); count], vocab)?;
            let drawn = drawn.unwrap_or_else(|| vec![None; count]);
            for (row, drawn) in (first..).zip(drawn) {
                tokens.push(match drawn {
                    Some(drawn) => drawn.token,
                    None => likeliest(self.runner.logits(row..row + 1)?.values),
                });
            }
        }
        Ok(tokens)
    }
}

/// The largest logit, the first among equals.
pub(super) fn likeliest(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (token, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = token;
        }
    }
    best as u32
}
