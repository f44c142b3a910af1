//! The middle of a step: planned spans in, one result per span out.
//!
//! A step that fails or panics has committed nothing, so it is run again in halves until the
//! culprit stands alone and fails alone; by batch invariance the others get the tokens they would
//! have got. Logits exist for one tile of rows at a time.

use std::any::Any;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use maitre_model::{Batch, BlockMove, BlockMoves, KvGroup};
use maitre_sampling::{BLOCK, Logits, Sampled, Sampler, TokenCounts, TokenLogprobs};
use maitre_scheduler::{PlannedSpan, RequestId, StepPlan, TableDelta};
use maitre_tensor::{BlockTables, Heartbeat, PEAK_BLOCK, Span};

use crate::Executor;
use crate::admission::Queued;
use crate::command::Choice;

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
    /// What it counted for at the front door while it had not started.
    pub(crate) queued: Queued,
    /// Its block table, kept up to date by the deltas of the plans.
    pub(crate) table: Vec<u32>,
}

impl Sequence {
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
    /// `None` for a chunk in the middle of a prompt.
    pub(crate) sampled: Option<Sampled>,
    pub(crate) failure: Option<String>,
}

impl SpanResult {
    fn empty(request: RequestId) -> Self {
        Self {
            request,
            prompt_logprobs: Vec::new(),
            sampled: None,
            failure: None,
        }
    }

    fn failed(request: RequestId, message: String) -> Self {
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
    /// Time spent copying blocks.
    pub(crate) moving: Duration,
    /// Blocks that others may share have unknown contents.
    pub(crate) cache_is_lost: bool,
}

/// The model and the sampler, with the buffers they reuse from step to step.
pub(crate) struct Kitchen {
    executor: Box<dyn Executor>,
    heartbeat: Heartbeat,
    sampler: Sampler,
    block_size: usize,
    /// Logits from here on belong to ids that no text has: padding rows of the embedding.
    choosable: usize,
}

/// Where one output row belongs: which span, which of its tokens.
struct RowOwner {
    span: usize,
    offset: usize,
}

impl Kitchen {
    pub(crate) fn new(executor: Box<dyn Executor>, block_size: usize, choosable: usize) -> Self {
        let heartbeat = executor.heartbeat();
        Self {
            executor,
            heartbeat,
            sampler: Sampler::new(),
            block_size,
            choosable,
        }
    }

    /// Runs a planned step: its copies, then its spans. One result per span. If the copies fail, nobody
    /// knows what the blocks hold, and every span has failed.
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
        let (spans, cache_is_lost) = match moved {
            Ok(()) => (self.run(&plan.spans, sequences), false),
            Err(message) => {
                tracing::error!(%message, "the step's block copies failed");
                let fail = |span: &PlannedSpan| SpanResult::failed(span.request, message.clone());
                (plan.spans.iter().map(fail).collect(), true)
            }
        };
        StepResult {
            spans,
            moving,
            cache_is_lost,
        }
    }

    fn move_blocks(&mut self, moves: &maitre_scheduler::BlockMoves) -> Result<(), String> {
        if moves.is_empty() {
            return Ok(());
        }
        let list = |moves: &[maitre_scheduler::BlockMove]| -> Vec<BlockMove> {
            moves
                .iter()
                .map(|moved| BlockMove {
                    from: moved.from,
                    to: moved.to,
                })
                .collect()
        };
        let (swap_out, swap_in) = (list(&moves.swap_out), list(&moves.swap_in));
        let moves = BlockMoves {
            swap_out: &swap_out,
            swap_in: &swap_in,
            copies: &list(&moves.copies),
        };
        // Unwind safety: what half a copy left behind is not used, as the error says.
        catch_unwind(AssertUnwindSafe(|| {
            let moved = self.executor.move_blocks(&moves);
            moved.map_err(|error| error.to_string())
        }))
        .unwrap_or_else(|panic| Err(panic_message(panic.as_ref())))
    }

    /// Runs `spans`, in halves where that is needed to find a culprit. One result per span.
    fn run(
        &mut self,
        spans: &[PlannedSpan],
        sequences: &HashMap<RequestId, Sequence>,
    ) -> Vec<SpanResult> {
        if spans.is_empty() {
            return Vec::new();
        }
        match self.attempt(spans, sequences) {
            Ok(results) => results,
            Err(message) if spans.len() == 1 => {
                tracing::warn!(request = spans[0].request.0, %message, "a request failed alone");
                vec![SpanResult::failed(spans[0].request, message)]
            }
            Err(message) => {
                tracing::warn!(spans = spans.len(), %message, "a step failed; running it in halves");
                let (left, right) = spans.split_at(spans.len() / 2);
                let mut results = self.run(left, sequences);
                results.extend(self.run(right, sequences));
                results
            }
        }
    }

    /// One attempt at all of `spans`; a panic becomes a message like any other failure.
    fn attempt(
        &mut self,
        spans: &[PlannedSpan],
        sequences: &HashMap<RequestId, Sequence>,
    ) -> Result<Vec<SpanResult>, String> {
        // Unwind safety: the executor's and sampler's buffers are overwritten from the start by
        // the next attempt, and `sequences` is only read.
        catch_unwind(AssertUnwindSafe(|| {
            self.forward_and_sample(spans, sequences)
        }))
        .unwrap_or_else(|panic| Err(panic_message(panic.as_ref())))
    }

    fn forward_and_sample(
        &mut self,
        spans: &[PlannedSpan],
        sequences: &HashMap<RequestId, Sequence>,
    ) -> Result<Vec<SpanResult>, String> {
        let (batch, owners) = batch_of(spans, sequences, self.block_size);
        self.executor
            .forward(&batch)
            .map_err(|error| error.to_string())?;
        let mut results: Vec<SpanResult> = spans
            .iter()
            .map(|span| SpanResult::empty(span.request))
            .collect();
        let tile = self.executor.logits_tile();
        let width = self.executor.vocab_size();
        for (tile_index, owners) in owners.chunks(tile).enumerate() {
            let first = tile_index * tile;
            let logits = self
                .executor
                .logits(first..first + owners.len())
                .map_err(|error| error.to_string())?;
            let blocks = logits.peaks.len() / owners.len();
            for (index, owner) in owners.iter().enumerate() {
                self.heartbeat.beat();
                let row = &logits.values[index * width..][..self.choosable.min(width)];
                let row = Logits {
                    values: row,
                    peaks: &logits.peaks[index * blocks..][..blocks],
                };
                let span = &spans[owner.span];
                let result = &mut results[owner.span];
                let Some(sequence) = sequences.get(&span.request) else {
                    continue;
                };
                if result.failure.is_none()
                    && let Err(message) =
                        score(&mut self.sampler, row, span, owner.offset, sequence, result)
                {
                    *result = SpanResult::failed(span.request, message);
                }
            }
        }
        Ok(results)
    }
}

/// Turns one row of logits into what its position asks for: the next token, or the score of the
/// prompt token that is known to come next.
fn score(
    sampler: &mut Sampler,
    row: Logits<'_>,
    span: &PlannedSpan,
    offset: usize,
    sequence: &Sequence,
    result: &mut SpanResult,
) -> Result<(), String> {
    let choice = &sequence.choice;
    if span.samples && offset + 1 == span.tokens.len() {
        let banned: &[u32] = if sequence.generated < choice.min_tokens {
            &choice.stop_tokens
        } else {
            &[]
        };
        let sampled = sampler
            .sample(
                row,
                &choice.params,
                &sequence.counts,
                u64::from(sequence.generated),
                banned,
            )
            .map_err(|error| error.to_string())?;
        result.sampled = Some(sampled);
    } else if let (Some(k), Some(&next)) = (
        choice.prompt_logprobs,
        sequence.scored_prompt.get(span.first_position + offset + 1),
    ) {
        let scored = sampler
            .token_logprobs(row, next, k)
            .map_err(|error| error.to_string())?;
        result.prompt_logprobs.push(scored);
    }
    Ok(())
}

/// Lays planned spans end to end.
fn batch_of(
    spans: &[PlannedSpan],
    sequences: &HashMap<RequestId, Sequence>,
    block_size: usize,
) -> (Batch, Vec<RowOwner>) {
    let tables = BlockTables {
        tables: Vec::with_capacity(spans.len()),
        block_size,
    };
    let mut group = KvGroup {
        tables,
        slots: Vec::new(),
    };
    let mut batch = Batch {
        tokens: Vec::new(),
        positions: Vec::new(),
        spans: Vec::with_capacity(spans.len()),
        groups: Vec::new(),
        output_rows: Vec::new(),
    };
    let mut owners = Vec::new();
    for (index, span) in spans.iter().enumerate() {
        let first_token = batch.tokens.len();
        batch.tokens.extend_from_slice(&span.tokens);
        batch
            .positions
            .extend((0..span.tokens.len()).map(|offset| (span.first_position + offset) as u32));
        batch.spans.push(Span {
            first_token,
            num_tokens: span.tokens.len(),
            context_len: span.context_len,
        });
        let table = sequences.get(&span.request).map(|it| it.table.clone());
        group.tables.tables.push(table.unwrap_or_default());
        group.slots.extend_from_slice(&span.slots);
        for offset in span.output_positions.clone() {
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

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    format!("the step panicked: {text}")
}
