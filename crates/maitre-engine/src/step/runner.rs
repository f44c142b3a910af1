//! The middle of a step: planned spans in, one result per span out.
//!
//! A step that fails or panics has committed nothing, so it is run again in halves until the
//! culprit stands alone and fails alone; by batch invariance the others get the tokens they would
//! have got. Logits exist for one tile of rows at a time. Where no step can succeed any more (the GPU has
//! lost what it held), nothing is run again and everything has failed.

use std::any::Any;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use maitre_model::{Batch, CacheMove, CacheMoves, Draw, KvGroup, ModelError};
use maitre_sampling::{BLOCK, Logits, Sampled, Sampler, TokenCounts, TokenLogprobs};
use maitre_scheduler::{PlannedSpan, RequestId, StepPlan, TableDelta};
use maitre_speculative::{Drafted, Rules, Speculator};
use maitre_tensor::{BlockTables, Heartbeat, PEAK_BLOCK, Span};

use crate::admission::command::Choice;
use crate::admission::front::Queued;
use crate::observe::metrics;
use crate::step::span_sampler::SpanSampler;
use crate::{Executor, FinishReason};

// What the scheduler calls "do not write" is what the model does not write.
const _: () = assert!(maitre_tensor::NO_SLOT == maitre_scheduler::NO_SLOT);
// The peaks that the output layer computes are those that the sampler knows what to do with.
const _: () = assert!(PEAK_BLOCK == BLOCK);

/// What the step loop remembers of a sequence to choose its tokens.
#[derive(Debug)]
pub(crate) struct Sequence {
    pub(crate) choice: Choice,
    pub(crate) counts: TokenCounts,
    pub(crate) generated: u32,
    /// The prompt, kept where its log-probabilities are asked for; empty otherwise.
    pub(crate) scored_prompt: Vec<u32>,
    pub(crate) prompt_logprobs: Vec<TokenLogprobs>,
    pub(crate) started: bool,
    /// What it counted for in the bounds of the queue while it had not started.
    pub(crate) queued: Queued,
    /// Its block table, kept up to date by the deltas of the plans.
    pub(crate) table: Vec<u32>,
}

impl Sequence {
    /// What decides its next tokens beside the logits.
    pub(crate) fn rules(&self) -> Rules<'_> {
        Rules {
            params: &self.choice.params,
            counts: &self.counts,
            generated: u64::from(self.generated),
            stop_tokens: &self.choice.stop_tokens,
            min_tokens: u64::from(self.choice.min_tokens),
            max_tokens: u64::from(self.choice.max_tokens),
        }
    }

    /// Whether `token`, the newest, ends it, and why.
    pub(crate) fn finish_of(&self, token: u32) -> Option<FinishReason> {
        if self.choice.stop_tokens.contains(&token) {
            return Some(FinishReason::Stop);
        }
        (self.generated >= self.choice.max_tokens).then_some(FinishReason::Length)
    }

    /// Follows a change of the block table.
    fn follow(&mut self, delta: &TableDelta) {
        self.table.truncate(delta.keep);
        self.table.extend(delta.blocks.iter().map(|block| block.0));
    }
}

/// What a step made of one span.
#[derive(Debug)]
pub(crate) struct SpanResult {
    pub(crate) request: RequestId,
    pub(crate) prompt_logprobs: Vec<TokenLogprobs>,
    /// Its next tokens; none for a chunk in the middle of a prompt.
    pub(crate) tokens: Vec<Sampled>,
    /// Tokens that had been drafted for it.
    pub(crate) drafted: usize,
    /// How many of them are its first next tokens.
    pub(crate) accepted: usize,
    pub(crate) failure: Option<String>,
}

impl SpanResult {
    pub(crate) fn empty(request: RequestId) -> Self {
        Self {
            request,
            prompt_logprobs: Vec::new(),
            tokens: Vec::new(),
            drafted: 0,
            accepted: 0,
            failure: None,
        }
    }

    pub(crate) fn failed(request: RequestId, message: String) -> Self {
        Self {
            failure: Some(message),
            ..Self::empty(request)
        }
    }
}

/// What came of a whole step.
#[derive(Debug)]
pub(crate) struct StepResult {
    pub(crate) spans: Vec<SpanResult>,
    /// Rows that were computed: known tokens and drafted ones.
    pub(crate) rows: usize,
    /// Time spent copying blocks.
    pub(crate) moving: Duration,
    /// Blocks that others may share have unknown contents.
    pub(crate) cache_is_lost: bool,
    /// Why no further step can succeed, if so.
    pub(crate) fatal: Option<String>,
}

/// Why an attempt failed.
#[derive(Debug)]
struct Failure {
    message: String,
    /// Whether every further attempt will fail, whatever it is at.
    is_fatal: bool,
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Self {
        Self {
            is_fatal: error.is_fatal(),
            message: error.to_string(),
        }
    }
}

impl Failure {
    /// A panic, which says nothing about other attempts.
    fn panicked(panic: &(dyn Any + Send)) -> Self {
        Self {
            message: panic_message(panic),
            is_fatal: false,
        }
    }
}

/// One span of a step with what was drafted for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work<'a> {
    pub(crate) span: &'a PlannedSpan,
    pub(crate) drafts: &'a [Drafted],
}

impl Work<'_> {
    pub(crate) fn rows(&self) -> usize {
        self.span.tokens.len() + self.drafts.len()
    }
}

/// The model, the sampler and the speculator, with the buffers they reuse from step to step.
pub(crate) struct StepRunner {
    executor: Box<dyn Executor>,
    heartbeat: Heartbeat,
    sampler: Sampler,
    pub(crate) speculator: Speculator,
    block_size: usize,
    /// Logits from here on belong to ids that no text has: padding rows of the embedding.
    choosable: usize,
    /// Why no further step can succeed, once that is known.
    fatal: Option<String>,
}

/// Where one output row belongs: which span, which of its tokens.
struct RowOwner {
    span: usize,
    offset: usize,
}

impl StepRunner {
    pub(crate) fn new(
        executor: Box<dyn Executor>,
        speculator: Speculator,
        block_size: usize,
        choosable: usize,
    ) -> Self {
        let heartbeat = executor.heartbeat();
        Self {
            executor,
            heartbeat,
            sampler: Sampler::new(),
            speculator,
            block_size,
            choosable,
            fatal: None,
        }
    }

    /// Runs a planned step: its copies, then its spans with what is drafted for them. One result per span.
    /// If the copies fail, the contents of the blocks are unknown, and every span has failed.
    pub(crate) fn run_plan(
        &mut self,
        plan: &StepPlan,
        sequences: &mut HashMap<RequestId, Sequence>,
    ) -> StepResult {
        for span in &plan.spans {
            if let Some(sequence) = sequences.get_mut(&span.request) {
                sequence.follow(&span.table);
            }
        }
        let began = Instant::now();
        let moved = self.move_blocks(&plan.moves);
        let moving = began.elapsed();
        if let Err(failure) = moved {
            let message = failure.message.clone();
            tracing::error!(%message, "the step's block copies failed");
            self.note(failure);
            let fail = |span: &PlannedSpan| SpanResult::failed(span.request, message.clone());
            return StepResult {
                spans: plan.spans.iter().map(fail).collect(),
                rows: 0,
                moving,
                cache_is_lost: true,
                fatal: self.fatal.clone(),
            };
        }
        let drafts = self.draft(plan, sequences);
        let work: Vec<Work<'_>> = plan
            .spans
            .iter()
            .zip(&drafts)
            .map(|(span, drafts)| Work { span, drafts })
            .collect();
        let began = Instant::now();
        let spans = self.run(&work, sequences);
        self.learn(&work, &spans, sequences, began.elapsed());
        StepResult {
            rows: work.iter().map(Work::rows).sum(),
            spans,
            moving,
            cache_is_lost: false,
            fatal: self.fatal.clone(),
        }
    }

    /// Remembers a failure after which there is nothing to be tried.
    fn note(&mut self, failure: Failure) {
        if failure.is_fatal {
            self.fatal.get_or_insert(failure.message);
        }
    }

    fn move_blocks(&mut self, moves: &maitre_scheduler::BlockMoves) -> Result<(), Failure> {
        if moves.is_empty() {
            return Ok(());
        }
        let list = |moves: &[maitre_scheduler::BlockMove]| -> Vec<CacheMove> {
            moves
                .iter()
                .map(|moved| CacheMove {
                    from: moved.from,
                    to: moved.to,
                })
                .collect()
        };
        let (swap_out, swap_in) = (list(&moves.swap_out), list(&moves.swap_in));
        let moves = CacheMoves {
            swap_out: &swap_out,
            swap_in: &swap_in,
            copies: &list(&moves.copies),
        };
        // Unwind safety: what half a copy left behind is not used, as the error says.
        let moved = catch_unwind(AssertUnwindSafe(|| {
            self.executor.move_blocks(&moves).map_err(Failure::from)
        }))
        .unwrap_or_else(|panic| Err(Failure::panicked(panic.as_ref())));
        self.speculator.moved(&moves);
        moved
    }

    /// Runs `work`, in halves where that is needed to find a culprit. One result per span.
    fn run(
        &mut self,
        work: &[Work<'_>],
        sequences: &HashMap<RequestId, Sequence>,
    ) -> Vec<SpanResult> {
        if work.is_empty() {
            return Vec::new();
        }
        let failed = |message: &String| {
            let spans = work.iter().map(|work| work.span.request);
            spans
                .map(|request| SpanResult::failed(request, message.clone()))
                .collect()
        };
        if let Some(message) = &self.fatal {
            return failed(message);
        }
        let failure = match self.attempt(work, sequences) {
            Ok(results) => return results,
            Err(failure) => failure,
        };
        let message = failure.message.clone();
        match work {
            _ if failure.is_fatal => {
                tracing::error!(spans = work.len(), %message, "no step can succeed any more");
                self.note(failure);
                failed(&message)
            }
            [only] if !only.drafts.is_empty() => {
                // The drafts may be the cause, and a draft must not fail a request.
                tracing::warn!(request = only.span.request.0, %message, "running it without drafts");
                let bare = Work {
                    drafts: &[],
                    ..*only
                };
                self.run(&[bare], sequences)
            }
            [only] => {
                let request = only.span.request;
                tracing::warn!(request = request.0, %message, "a request failed alone");
                failed(&message)
            }
            _ => {
                tracing::warn!(spans = work.len(), %message, "a step failed; running it in halves");
                let (left, right) = work.split_at(work.len() / 2);
                let mut results = self.run(left, sequences);
                results.extend(self.run(right, sequences));
                results
            }
        }
    }

    /// One attempt at all of `work`; a panic becomes a message like any other failure.
    fn attempt(
        &mut self,
        work: &[Work<'_>],
        sequences: &HashMap<RequestId, Sequence>,
    ) -> Result<Vec<SpanResult>, Failure> {
        // Unwind safety: the executor's and sampler's buffers are overwritten from the start by
        // the next attempt, and `sequences` is only read.
        catch_unwind(AssertUnwindSafe(|| {
            self.forward_and_sample(work, sequences)
        }))
        .unwrap_or_else(|panic| Err(Failure::panicked(panic.as_ref())))
    }

    fn forward_and_sample(
        &mut self,
        work: &[Work<'_>],
        sequences: &HashMap<RequestId, Sequence>,
    ) -> Result<Vec<SpanResult>, Failure> {
        let (batch, owners) = batch_of(work, sequences, self.block_size);
        self.executor.forward(&batch)?;
        let acceptance = self.speculator.config().acceptance;
        let mut samplers: Vec<SpanSampler<'_>> = work
            .iter()
            .map(|work| SpanSampler::new(work, sequences.get(&work.span.request), acceptance))
            .collect();
        let tile = self.executor.logits_tile();
        for (tile_index, owners) in owners.chunks(tile).enumerate() {
            if owners.iter().any(|owner| !samplers[owner.span].is_done()) {
                self.sample(tile_index * tile, owners, &mut samplers)?;
            }
        }
        Ok(samplers.into_iter().map(SpanSampler::finish).collect())
    }
}

impl StepRunner {
    /// Turns output rows from `first` on into what their owners ask for: on the device that has them where that
    /// can be, else from the logits.
    fn sample(
        &mut self,
        first: usize,
        owners: &[RowOwner],
        samplers: &mut [SpanSampler<'_>],
    ) -> Result<(), Failure> {
        let draw = |owner: &RowOwner| samplers[owner.span].draw(owner.offset);
        let draws: Vec<Option<Draw>> = owners.iter().map(draw).collect();
        let drawn = self.executor.draw(first, &draws, self.choosable)?;
        if drawn.iter().all(Option::is_none) {
            return self.sample_logits(first, owners, samplers);
        }
        metrics::drawn_on_device(drawn.iter().flatten().count());
        // Runs of rows that were drawn, and of rows that were not.
        let mut at = 0;
        for run in drawn.chunk_by(|a, b| a.is_some() == b.is_some()) {
            let owners = &owners[at..at + run.len()];
            match run.iter().copied().collect::<Option<Vec<_>>>() {
                None => self.sample_logits(first + at, owners, samplers)?,
                Some(drawn) => {
                    for (owner, drawn) in owners.iter().zip(drawn) {
                        self.heartbeat.beat();
                        samplers[owner.span].token(drawn.token);
                    }
                }
            }
            at += run.len();
        }
        Ok(())
    }

    /// The same, from the logits.
    fn sample_logits(
        &mut self,
        first: usize,
        owners: &[RowOwner],
        samplers: &mut [SpanSampler<'_>],
    ) -> Result<(), Failure> {
        let width = self.executor.vocab_size();
        let logits = self.executor.logits(first..first + owners.len())?;
        let blocks = logits.peaks.len() / owners.len();
        for (index, owner) in owners.iter().enumerate() {
            self.heartbeat.beat();
            let row = &logits.values[index * width..][..self.choosable.min(width)];
            let row = Logits {
                values: row,
                peaks: &logits.peaks[index * blocks..][..blocks],
            };
            samplers[owner.span].row(&mut self.sampler, row, owner.offset);
        }
        Ok(())
    }
}

/// Lays planned spans end to end, each with its drafted tokens behind it.
fn batch_of(
    work: &[Work<'_>],
    sequences: &HashMap<RequestId, Sequence>,
    block_size: usize,
) -> (Batch, Vec<RowOwner>) {
    let tables = BlockTables {
        tables: Vec::with_capacity(work.len()),
        block_size,
    };
    let mut group = KvGroup {
        tables,
        slots: Vec::new(),
    };
    let mut batch = Batch {
        tokens: Vec::new(),
        positions: Vec::new(),
        spans: Vec::with_capacity(work.len()),
        groups: Vec::new(),
        output_rows: Vec::new(),
    };
    let mut owners = Vec::new();
    for (index, work) in work.iter().enumerate() {
        let Work { span, drafts } = *work;
        let (first_token, rows) = (batch.tokens.len(), work.rows());
        batch.tokens.extend_from_slice(&span.tokens);
        batch.tokens.extend(drafts.iter().map(|draft| draft.token));
        batch
            .positions
            .extend((0..rows).map(|offset| (span.first_position + offset) as u32));
        batch.spans.push(Span {
            first_token,
            num_tokens: rows,
            context_len: span.context_len + drafts.len(),
        });
        let table = sequences.get(&span.request).map(|it| it.table.clone());
        group.tables.tables.push(table.unwrap_or_default());
        group.slots.extend_from_slice(&span.slots[..rows]);
        for offset in span.output_positions.start..span.output_positions.end + drafts.len() {
            batch.output_rows.push((first_token + offset) as u32);
            owners.push(RowOwner {
                span: index,
                offset,
            });
        }
    }
    batch.groups.push(group);
    (batch, owners)
}

pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    format!("the step panicked: {text}")
}
