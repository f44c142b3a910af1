//! What the step loop needs of whatever runs a model: a step is submitted, waited for, or discarded.
//!
//! ```text
//! submit(step 1)  submit(step 2)  wait(step 1)  submit(step 3)  wait(step 2)  ...
//!                       |
//!                       tokens that step 1 will know: `SampledToken`
//! ```
//!
//! One shape serves a processor (one step at a time, [`Synchronous`](crate::Synchronous)), a GPU that computes a step
//! while the host prepares the next, several ranks, and a simulator.

use std::ops::Range;

use maitre_tensor::{GpuMemoryProbe, Heartbeat};

use crate::{Batch, CacheMoves, Draw, Drawn, Logits, ModelError};

/// A step that was submitted. An executor counts its steps, so that later steps have larger tickets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepTicket(pub u64);

/// A call of an executor that does not fit the steps in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StepOrderError {
    /// A step was submitted while as many were in flight as may be.
    #[error(
        "at most {depth} steps may be in flight: wait for the oldest before the next is submitted"
    )]
    TooMany {
        /// The executor's depth.
        depth: usize,
    },
    /// A step was waited for that is not the oldest in flight.
    #[error("step {} is not the oldest in flight, which is {}", .ticket.0, named(*.oldest))]
    NotOldest {
        /// What was waited for.
        ticket: StepTicket,
        /// The oldest step in flight.
        oldest: Option<StepTicket>,
    },
    /// A token is to be one that no step in flight draws.
    #[error("the token at row {row} is to be drawn by step {}, which draws no such row in flight", .step.0)]
    NotSampled {
        /// The row of the batch.
        row: u32,
        /// The step.
        step: StepTicket,
    },
}

fn named(step: Option<StepTicket>) -> String {
    step.map_or_else(|| "none".to_owned(), |step| step.0.to_string())
}

/// A token of a batch that a step in flight will know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampledToken {
    /// Its row of the batch, where [`Batch::tokens`] holds some id that is not used.
    pub row: u32,
    /// The step that samples it.
    pub step: StepTicket,
    /// Which of that step's output rows it comes from: one that asked for [`RowWant::Token`].
    pub output: u32,
}

/// What is wanted of an output row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RowWant {
    /// The token it yields, drawn where the logits are. An executor that leaves drawing to its caller hands out the
    /// logits.
    Token(Draw),
    /// Its logits.
    Logits,
}

/// A step to be computed. The executor copies what it needs of it within [`Executor::submit`].
#[derive(Debug, Clone, Copy)]
pub struct StepInput<'a> {
    /// The tokens, and where their keys and values go.
    pub batch: &'a Batch,
    /// Tokens of the batch that are not known yet. Empty at depth 1.
    pub sampled: &'a [SampledToken],
    /// What is wanted of each output row of the batch, `[L]`.
    pub wants: &'a [RowWant],
    /// Tokens are drawn from ids below this one: those that text has.
    pub choosable: usize,
}

impl StepInput<'_> {
    /// Checks what every executor relies on, for one that has `in_flight` steps and may have `depth`.
    ///
    /// # Errors
    ///
    /// [`StepOrderError::TooMany`], or [`ModelError::BatchLength`] for wants that are not one per output row.
    pub fn check(&self, in_flight: usize, depth: usize) -> Result<(), ModelError> {
        if in_flight >= depth {
            return Err(StepOrderError::TooMany { depth }.into());
        }
        let (found, expected) = (self.wants.len(), self.batch.output_rows.len());
        if found != expected {
            return Err(ModelError::BatchLength {
                what: "wants of output rows",
                found,
                expected,
            });
        }
        Ok(())
    }
}

/// Takes the output rows of a step, in order.
pub trait RowSink {
    /// Whether any of these output rows changes anything. Rows that do not need not be computed.
    fn wants(&self, rows: Range<usize>) -> bool;

    /// Output row `row` was drawn from.
    fn token(&mut self, row: usize, drawn: Drawn);

    /// Logits of output rows `rows`: at most the executor's tile, `[rows, vocab_size]`.
    fn logits(&mut self, rows: Range<usize>, logits: Logits<'_>);

    /// Output row `row` was to be drawn from and has no token: its logits are not numbers, or none of them is
    /// possible.
    fn faulty(&mut self, row: usize);
}

/// Runs steps of a model, in the order in which they are submitted.
///
/// Steps must be repeatable: one that fails is run again in halves, so writing the same keys and values to the same
/// slots twice must leave what writing them once leaves.
pub trait Executor: Send {
    /// Steps that may be submitted before the oldest of them is waited for, at least 1. An executor of a larger depth
    /// draws all rows that want a [`RowWant::Token`] itself.
    fn depth(&self) -> usize;

    /// Length of a row of logits.
    fn vocab_size(&self) -> usize;

    /// Beats once per operator, so that a long step can be told from a stuck one.
    fn heartbeat(&self) -> Heartbeat;

    /// Asks its GPU for its memory, beside the steps; none of an executor that computes in the host's memory.
    fn memory_probe(&self) -> Option<GpuMemoryProbe> {
        None
    }

    /// Copies blocks of the KV cache: to the host tier, back from it, within the pool. It is done behind all steps
    /// submitted before and ahead of those submitted later.
    ///
    /// # Errors
    ///
    /// Blocks that do not exist, or an operator that failed; what the blocks hold is not known then.
    fn move_blocks(&mut self, moves: &CacheMoves<'_>) -> Result<(), ModelError>;

    /// Begins a step behind those that were submitted before. Steps behind a submitted one may also fail because that
    /// one fails.
    ///
    /// # Errors
    ///
    /// A batch outside the limits, more steps than the [`depth`](Self::depth), an operator that failed. Nothing is
    /// submitted then, and nothing is lost: the step can be submitted again, unless the error
    /// [is fatal](ModelError::is_fatal).
    fn submit(&mut self, step: &StepInput<'_>) -> Result<StepTicket, ModelError>;

    /// Waits for the oldest step in flight and hands its output rows out. It is no longer in flight afterwards, in
    /// case of an error too.
    ///
    /// # Errors
    ///
    /// An operator that failed; steps behind it must be discarded. [`StepOrderError::NotOldest`] for a ticket that is
    /// not that of the oldest step.
    fn wait(&mut self, ticket: StepTicket, sink: &mut dyn RowSink) -> Result<(), ModelError>;

    /// Gives up the newest step in flight. The slots that it was to write hold nothing to rely on. Other tickets are
    /// ignored.
    fn discard(&mut self, ticket: StepTicket);
}
