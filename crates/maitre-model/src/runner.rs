//! A model at work: weights, KV cache and workspace, sized at start by the largest step.
//!
//! A step is [`Runner::forward`] over a [`Batch`], then [`Runner::logits`] over its output rows, a
//! tile at a time: the logits of a large batch never exist at once.

mod drawing;

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use maitre_tensor::{
    Backend, BlockCopy, Communicator, DrawnTokens, Heartbeat, LargestStep, LayerCache, PEAK_BLOCK,
    RecordedSteps, StepLists, StepShape,
};

use crate::batch::{Batch, BatchLimits};
use crate::error::ModelError;
use crate::kv_layout::Reads;
use crate::layers::{Ranks, RopeTables};
use crate::model::Model;
use crate::moves::{CacheMoves, Pools};
use crate::padding::Padding;
use crate::workspace::{Outputs, Workspace};

pub(crate) use drawing::sample_row;

/// What a runner is sized for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunnerConfig {
    /// Pages in the KV cache: blocks in each of the caches of [`KvLayout::places`](crate::KvLayout::places).
    pub num_blocks: u32,
    /// Pages in the host pool, to which pages of the cache can be moved; 0 for none.
    pub num_host_blocks: u32,
    /// Tokens per block.
    pub block_size: u32,
    /// The most tokens in one step.
    pub max_batched_tokens: usize,
    /// The most spans in one step.
    pub max_seqs: usize,
    /// The most output rows in one step.
    pub max_output_rows_per_step: usize,
    /// Whether decodes that come again and again are recorded on a GPU and played; without it every kernel is
    /// queued anew, for comparison. Nothing else changes.
    pub record_steps: bool,
}

impl RunnerConfig {
    /// A configuration in which every token of a step may be an output row, without a host pool.
    #[must_use]
    pub const fn new(
        num_blocks: u32,
        block_size: u32,
        max_batched_tokens: usize,
        max_seqs: usize,
    ) -> Self {
        Self {
            num_blocks,
            num_host_blocks: 0,
            block_size,
            max_batched_tokens,
            max_seqs,
            max_output_rows_per_step: max_batched_tokens,
            record_steps: true,
        }
    }

    fn validate(&self) -> Result<(), ModelError> {
        for (name, found) in [
            ("num_blocks", self.num_blocks as usize),
            ("block_size", self.block_size as usize),
            ("max_batched_tokens", self.max_batched_tokens),
            ("max_seqs", self.max_seqs),
            ("max_output_rows_per_step", self.max_output_rows_per_step),
        ] {
            if found == 0 {
                return Err(ModelError::RunnerLimit {
                    name,
                    found,
                    expected: "at least 1".to_owned(),
                });
            }
        }
        for (name, found) in [
            ("num_blocks", self.num_blocks),
            ("num_host_blocks", self.num_host_blocks),
        ] {
            // The largest 32-bit number is the slot that means "nowhere".
            if found.checked_mul(self.block_size).is_none() {
                return Err(ModelError::RunnerLimit {
                    name,
                    found: found as usize,
                    expected: format!(
                        "at most {} with block_size {}",
                        u32::MAX / self.block_size,
                        self.block_size
                    ),
                });
            }
        }
        Ok(())
    }
}

/// Logits of some output rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Logits<'a> {
    /// `[rows, vocab_size]`.
    pub values: &'a [f32],
    /// The largest of each [`PEAK_BLOCK`] logits of a row, `[rows, blocks]`; see
    /// [`Backend::linear_with_peaks`].
    pub peaks: &'a [f32],
}

/// Runs steps of one model.
pub struct Runner {
    model: Arc<Model>,
    backend: Backend,
    limits: BatchLimits,
    rope: RopeTables,
    /// The way to the other ranks, where the model is shared.
    ranks: Option<Ranks>,
    caches: Vec<LayerCache>,
    host_caches: Vec<LayerCache>,
    /// Reused by [`Runner::move_blocks`].
    copies: Vec<BlockCopy>,
    workspace: Workspace,
    /// Output rows of the last step, none if it failed.
    num_outputs: usize,
    /// Of these, the rows whose logits are in the workspace.
    in_workspace: Range<usize>,
    /// Logits and peaks that were fetched from a GPU.
    fetched: [Vec<f32>; 2],
    padding: Padding,
    records_steps: bool,
    recorded: RecordedSteps,
}

impl Runner {
    /// Allocates the KV cache, the host pool and the workspace, and what the threads of `backend`
    /// need on the way. Of all but the workspace memory is reserved only: it is taken as it is
    /// written.
    ///
    /// # Errors
    /// [`ModelError::RunnerLimit`] for a limit of zero or beyond 32-bit slots, and for a share of a model; a failed
    /// allocation.
    pub fn new(
        model: Arc<Model>,
        backend: Backend,
        config: RunnerConfig,
    ) -> Result<Self, ModelError> {
        Self::among(model, backend, config, None)
    }

    /// A runner of one rank's share of a model. All ranks run the same steps in the same order, and each has all
    /// logits.
    ///
    /// # Errors
    /// As [`Runner::new`]; [`ModelError::RunnerLimit`] if the model is shared by another number of ranks.
    pub fn of_rank(
        model: Arc<Model>,
        backend: Backend,
        config: RunnerConfig,
        communicator: Box<dyn Communicator>,
    ) -> Result<Self, ModelError> {
        Self::among(model, backend, config, Some(communicator))
    }

    fn among(
        model: Arc<Model>,
        backend: Backend,
        config: RunnerConfig,
        communicator: Option<Box<dyn Communicator>>,
    ) -> Result<Self, ModelError> {
        config.validate()?;
        let shared = model.shard().ranks();
        let found = communicator.as_ref().map_or(1, |it| it.num_ranks());
        if found != shared {
            return Err(ModelError::RunnerLimit {
                name: "ranks",
                found,
                expected: format!("{shared}, as many as share the model"),
            });
        }
        let shape = model.config();
        let capacity = config.num_blocks as usize * config.block_size as usize;
        let longest = shape.max_position_embeddings;
        let groups = model.kv_layout().groups.iter();
        let groups: Vec<Reads> = groups.map(|group| group.reads).collect();
        let limits = BatchLimits {
            vocab_size: shape.vocab_size,
            // Pages behind a window are used again.
            max_context_len: match groups.contains(&Reads::Full) {
                true => longest.min(capacity),
                false => longest,
            },
            groups,
            max_tokens: config.max_batched_tokens,
            max_spans: config.max_seqs,
            max_output_rows: config.max_output_rows_per_step,
            num_blocks: config.num_blocks as usize,
            num_host_blocks: config.num_host_blocks as usize,
            block_size: config.block_size as usize,
        };
        let rope = model.rope_tables(&backend, limits.max_context_len)?;
        let (kv_heads, head_dim) = (shape.num_kv_heads, shape.head_dim);
        let caches = (0..model.kv_layout().places)
            .map(|_| backend.cache(capacity, kv_heads, head_dim, model.kv_dtype()))
            .collect::<Result<Vec<_>, _>>()?;
        let host_caches = match limits.num_host_blocks {
            0 => Vec::new(),
            blocks => (0..model.kv_layout().places)
                .map(|_| {
                    let slots = blocks * limits.block_size;
                    backend.host_cache(slots, kv_heads, head_dim, model.kv_dtype())
                })
                .collect::<Result<Vec<_>, _>>()?,
        };
        let workspace = Workspace::new(&backend, shape, model.decoder(), &limits)?;
        if let Some(cache) = caches.first() {
            backend.reserve(LargestStep {
                inputs: &workspace.inputs(),
                cache,
                block_size: limits.block_size,
                heads: shape.num_heads,
                rows: limits.max_tokens.max(limits.max_output_rows),
                context_len: limits.max_context_len,
                list_words: list_words(&limits),
            })?;
        }
        let padding = Padding::new(&limits);
        let records_steps = config.record_steps && backend.gpu_info().is_some();
        Ok(Self {
            model,
            backend,
            limits,
            rope,
            ranks: communicator.map(RefCell::new),
            caches,
            host_caches,
            copies: Vec::new(),
            workspace,
            num_outputs: 0,
            in_workspace: 0..0,
            fetched: Default::default(),
            padding,
            records_steps,
            recorded: RecordedSteps::default(),
        })
    }

    /// Moves pages: blocks of all places. The logits of the last step remain.
    ///
    /// # Errors
    /// [`ModelError::MoveOutOfRange`] and [`ModelError::NoHostPool`] before anything has moved; a
    /// failed or panicked operator, after which the blocks written to hold nothing to rely on.
    pub fn move_blocks(&mut self, moves: &CacheMoves<'_>) -> Result<(), ModelError> {
        moves.validate(&self.limits)?;
        let mut pools = Pools {
            backend: &self.backend,
            block_size: self.limits.block_size,
            device: &mut self.caches,
            host: &mut self.host_caches,
            copies: &mut self.copies,
        };
        Ok(self.backend.step(|| pools.carry_out(moves))?)
    }

    /// Runs all layers over `batch`: keys and values go to its slots, and [`Runner::logits`] can be
    /// asked for its output rows. Allocates nothing of note.
    ///
    /// # Errors
    /// What [`Batch::validate`] finds; a failed or panicked operator. After an error there are no
    /// logits; slots of the batch hold nothing to rely on; the runner takes further steps.
    pub fn forward(&mut self, batch: &Batch) -> Result<(), ModelError> {
        self.forward_drawn(batch, None)
    }

    /// The same where an earlier step on the device has chosen some of the tokens.
    pub(crate) fn forward_drawn(
        &mut self,
        batch: &Batch,
        drawn: Option<DrawnTokens<'_>>,
    ) -> Result<(), ModelError> {
        (self.num_outputs, self.in_workspace) = (0, 0..0);
        batch.validate(&self.limits)?;
        let shape = match self.records_steps {
            true => self.padding.shape_of(batch),
            false => None,
        };
        match shape {
            None => self.compute(batch, drawn)?,
            Some(shape) => self.play(batch, shape, drawn)?,
        }
        self.num_outputs = batch.output_rows.len();
        Ok(())
    }

    /// Runs all layers over a validated batch.
    fn compute(&mut self, batch: &Batch, drawn: Option<DrawnTokens<'_>>) -> Result<(), ModelError> {
        let step = self
            .model
            .step(&self.backend, &self.rope, batch, self.ranks.as_ref());
        let decoder = self.model.decoder();
        let (caches, workspace) = (&mut self.caches, &mut self.workspace);
        self.backend.step_on(lists(batch, drawn), || {
            decoder.forward(step, caches, workspace)
        })??;
        Ok(())
    }

    /// Runs a validated batch of decodes as one of `shape`, recorded once it came twice.
    fn play(
        &mut self,
        batch: &Batch,
        shape: StepShape,
        drawn: Option<DrawnTokens<'_>>,
    ) -> Result<(), ModelError> {
        let padded = self.padding.fill(batch, shape);
        let step = self
            .model
            .step(&self.backend, &self.rope, padded, self.ranks.as_ref());
        let decoder = self.model.decoder();
        let (caches, workspace) = (&mut self.caches, &mut self.workspace);
        let played =
            self.backend
                .step_recorded(shape, lists(padded, drawn), &mut self.recorded, || {
                    decoder.forward(step, caches, workspace)
                });
        if let Some(reason) = self.recorded.take_failure() {
            tracing::warn!(%reason, ?shape, "a step could not be recorded; it runs unrecorded");
        }
        Ok(played?)
    }

    /// The logits of the last step's output rows `rows`, at most [`Runner::logits_tile`] of them.
    ///
    /// A row's logits do not depend on the range it is asked for in.
    ///
    /// # Errors
    /// [`ModelError::LogitsRange`] for rows the last step does not have; a failed operator.
    pub fn logits(&mut self, rows: Range<usize>) -> Result<Logits<'_>, ModelError> {
        self.compute_logits(rows.clone())?;
        let (vocab_size, len) = (self.limits.vocab_size, rows.len());
        let blocks = vocab_size.div_ceil(PEAK_BLOCK);
        let first = rows.start - self.in_workspace.start;
        let Outputs { logits, peaks, .. } = self.workspace.outputs();
        let spans = [vocab_size, blocks].map(|width| first * width..(first + len) * width);
        if self.backend.gpu_info().is_none() {
            let [values, of_peaks] = spans;
            return Ok(Logits {
                values: &logits.f32s()?[values],
                peaks: &peaks.f32s()?[of_peaks],
            });
        }
        for ((buffer, span), out) in [logits, peaks]
            .into_iter()
            .zip(spans)
            .zip(&mut self.fetched)
        {
            out.resize(span.len(), 0.0);
            self.backend.read(buffer, span, out)?;
        }
        let [values, peaks] = &self.fetched;
        Ok(Logits { values, peaks })
    }

    /// Has the logits of these output rows of the last step in the workspace, unless they are there.
    fn compute_logits(&mut self, rows: Range<usize>) -> Result<(), ModelError> {
        let tile = self.workspace.logits_tile();
        if rows.start > rows.end || rows.end > self.num_outputs || rows.len() > tile {
            return Err(ModelError::LogitsRange {
                start: rows.start,
                end: rows.end,
                available: self.num_outputs,
                tile,
            });
        }
        let known = &self.in_workspace;
        if known.start <= rows.start && rows.end <= known.end {
            return Ok(());
        }
        self.in_workspace = 0..0;
        let head = self.model.decoder().head();
        let Outputs {
            hidden,
            logits,
            peaks,
        } = self.workspace.outputs();
        let backend = &self.backend;
        let wanted = rows.clone();
        let limit = self.model.config().logit_bound;
        backend.step(|| {
            backend.linear_with_peaks(hidden, head, logits, peaks, wanted)?;
            let Some(limit) = limit else { return Ok(()) };
            // The larger of two numbers is the larger one within bounds, too: peaks stay peaks.
            backend.bound(logits, limit, rows.len() * head.rows())?;
            backend.bound(peaks, limit, rows.len() * head.rows().div_ceil(PEAK_BLOCK))
        })?;
        self.in_workspace = rows;
        Ok(())
    }

    /// The device that it runs on.
    pub(crate) fn backend(&self) -> &Backend {
        &self.backend
    }

    /// The most rows that [`Runner::logits`] can be asked for at once.
    #[must_use]
    pub fn logits_tile(&self) -> usize {
        self.workspace.logits_tile()
    }

    /// Kinds of steps that are recorded on a GPU, to be played again.
    #[must_use]
    pub fn recorded_steps(&self) -> usize {
        self.recorded.len()
    }

    /// The model that runs.
    #[must_use]
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// What a batch may be at most.
    #[must_use]
    pub fn limits(&self) -> &BatchLimits {
        &self.limits
    }

    /// Bytes of the KV cache.
    #[must_use]
    pub fn kv_bytes(&self) -> usize {
        self.caches.iter().map(LayerCache::size_in_bytes).sum()
    }

    /// Bytes of the host pool.
    #[must_use]
    pub fn host_kv_bytes(&self) -> usize {
        self.host_caches.iter().map(LayerCache::size_in_bytes).sum()
    }

    /// Bytes of activations, logits and position tables.
    #[must_use]
    pub fn workspace_bytes(&self) -> usize {
        self.workspace.size_in_bytes() + self.rope.size_in_bytes()
    }

    /// Beats once per operator: a sign of life during a long step.
    #[must_use]
    pub fn heartbeat(&self) -> &Heartbeat {
        self.backend.heartbeat()
    }
}

/// What a batch tells the operators beside tensors.
fn lists<'a>(batch: &'a Batch, drawn: Option<DrawnTokens<'a>>) -> StepLists<'a> {
    StepLists {
        indices: [&batch.tokens, &batch.positions, &batch.output_rows],
        spans: &batch.spans,
        groups: &batch.groups,
        context_bound: 0,
        drawn,
    }
}

/// Numbers in the lists of the largest batch.
fn list_words(limits: &BatchLimits) -> usize {
    let rows = limits.max_tokens.max(limits.max_output_rows);
    let blocks = limits.max_context_len.div_ceil(limits.block_size);
    let per_group = rows + limits.max_spans * (4 + blocks) + 2 * ALIGNED;
    3 * rows + limits.groups.len() * per_group
}

/// Words by which a list on a device may begin later than the one before it ends.
const ALIGNED: usize = 64;

impl fmt::Debug for Runner {
    /// Names the model and the limits; caches and activations are too large to print.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Runner")
            .field("model", &self.model)
            .field("limits", &self.limits)
            .field("num_outputs", &self.num_outputs)
            .finish_non_exhaustive()
    }
}
