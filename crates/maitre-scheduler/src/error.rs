//! Refusals, errors and broken promises, in words that say what to do about them.

use std::ops::RangeInclusive;

use maitre_kv::KvError;

use crate::{RequestId, StepId, TransferId};

/// Why a request was not taken. Nothing of it is kept. No later try can cure any of these, except that an id
/// becomes free; what a later try can cure is a [`QueueRefusal`](crate::queue::QueueRefusal).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The KV pool could not hold the request even if it were alone.
    #[error(
        "the request may need KV space for {needed_tokens} tokens (prompt and max_tokens), but the whole \
         pool holds {capacity_tokens}; shorten the prompt, lower max_tokens or enlarge the KV pool"
    )]
    NeverFits {
        /// Prompt plus output limit.
        needed_tokens: usize,
        /// What the pool holds.
        capacity_tokens: usize,
    },
    /// The request could grow beyond the longest sequence the model takes.
    #[error(
        "the request may grow to {needed_tokens} tokens (prompt and max_tokens), but sequences end at \
         {max_model_len}; shorten the prompt or lower max_tokens"
    )]
    TooLong {
        /// Prompt plus output limit.
        needed_tokens: usize,
        /// The configured limit.
        max_model_len: usize,
    },
    /// There is nothing to compute a first token from.
    #[error("the prompt is empty; it needs at least one token")]
    EmptyPrompt,
    /// The output limit is zero.
    #[error("max_tokens is 0; it must allow at least one token")]
    ZeroMaxTokens,
    /// A live request already has this id.
    #[error(
        "{request} is already waiting or running; ids may be reused only after the request ended"
    )]
    DuplicateId {
        /// The id.
        request: RequestId,
    },
}

/// A configuration that cannot work, a commit that does not answer its plan, or a step that cannot be taken back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchedulerError {
    /// The KV pool cannot exist.
    #[error(transparent)]
    Kv(#[from] KvError),
    /// No request could ever run.
    #[error("max_seqs is 0; at least 1 request must be able to run")]
    ZeroMaxSeqs,
    /// Decoding requests would starve each other.
    #[error(
        "max_batched_tokens ({max_batched_tokens}) is below max_seqs ({max_seqs}), so some requests would \
         get no token in a step; raise the token budget to at least {max_seqs} or lower max_seqs"
    )]
    BudgetBelowMaxSeqs {
        /// The token budget.
        max_batched_tokens: usize,
        /// Requests that run at the same time.
        max_seqs: usize,
    },
    /// No request could ever join the queue.
    #[error(
        "max_queue or max_queued_tokens is 0; at least 1 request must be able to wait for its first step"
    )]
    ZeroMaxQueue,
    /// No step could meet the target.
    #[error("itl_target is 0; give it the time that a step may take, or leave it out")]
    ZeroItlTarget,
    /// No step could ever be planned.
    #[error("steps_in_flight is 0; at least 1 step must be able to be planned before its commit")]
    ZeroStepsInFlight,
    /// No prompt with an output would fit.
    #[error(
        "max_model_len is {max_model_len}; it needs at least 2, one token of prompt and one of output"
    )]
    MaxModelLenTooSmall {
        /// The configured limit.
        max_model_len: usize,
    },
    /// The step was never planned, is already committed, or an earlier one must be committed first.
    #[error("{step} cannot be committed now; expected {}", expected_step(.expected))]
    UnexpectedStep {
        /// The step that was named.
        step: StepId,
        /// The oldest step in flight, the only one that can be committed.
        expected: Option<StepId>,
    },
    /// Something else than the same step comes next, or an outcome is not one token.
    #[error("{step} cannot be repeated {times} times; expected at most {most}")]
    NotRepeatable {
        /// The step that was named.
        step: StepId,
        /// How often it was to be repeated.
        times: usize,
        /// How often it can be.
        most: usize,
    },
    /// The step is not in flight, or a later one must be taken back first.
    #[error("{step} cannot be taken back now; expected {}", expected_newest(.newest))]
    NotNewestStep {
        /// The step that was named.
        step: StepId,
        /// The newest step in flight, the only one that can be taken back.
        newest: Option<StepId>,
    },
    /// No such transfer is under way.
    #[error("{transfer} is not under way; each one that a plan asks for is settled once")]
    UnknownTransfer {
        /// The transfer that was named.
        transfer: TransferId,
    },
    /// More tokens came than the transfer was for.
    #[error("{transfer} is settled with {tokens} tokens; expected at most {expected}")]
    TooMuchReceived {
        /// The transfer.
        transfer: TransferId,
        /// Tokens that are said to have come.
        tokens: usize,
        /// Tokens that were asked for.
        expected: usize,
    },
    /// A span of the plan got no outcome, and its request was not cancelled meanwhile.
    #[error("{step} is committed without an outcome for {request}; every span needs one")]
    MissingOutcome {
        /// The step.
        step: StepId,
        /// The request.
        request: RequestId,
    },
    /// An outcome names a request that the plan did not run.
    #[error(
        "{step} did not run {request}, but got an outcome for it; commit the plan's requests only"
    )]
    UnplannedOutcome {
        /// The step.
        step: StepId,
        /// The request.
        request: RequestId,
    },
    /// Two outcomes name the same request.
    #[error("{step} got two outcomes for {request}; each span has one")]
    DuplicateOutcome {
        /// The step.
        step: StepId,
        /// The request.
        request: RequestId,
    },
    /// An outcome brings more tokens than the span could sample, or lacks the one it did.
    #[error(
        "{step} got {got} new tokens for {request}, expected {}: 1 from a span that samples (an outcome that \
         ends the request may leave it out) and up to 1 more for each of its drafts, 0 from any other",
        expected_tokens(.expected)
    )]
    WrongTokenCount {
        /// The step.
        step: StepId,
        /// The request.
        request: RequestId,
        /// Tokens the span may yield.
        expected: RangeInclusive<usize>,
        /// Tokens the outcome brought.
        got: usize,
    },
    /// The outcome of a span that cannot be deferred was.
    #[error(
        "the outcome of {request} in {step} is deferred; that is for spans that sample, without tokens, of requests \
         that are not planned ahead"
    )]
    NotDeferrable {
        /// The step.
        step: StepId,
        /// The request.
        request: RequestId,
    },
}

fn name(request: &Option<RequestId>) -> String {
    match request {
        Some(request) => request.to_string(),
        None => "a request that is gone".to_owned(),
    }
}

fn expected_tokens(expected: &RangeInclusive<usize>) -> String {
    match (expected.start(), expected.end()) {
        (least, most) if least == most => least.to_string(),
        (least, most) => format!("{least} to {most}"),
    }
}

fn expected_step(expected: &Option<StepId>) -> String {
    step_or_none(expected, "oldest")
}

fn expected_newest(newest: &Option<StepId>) -> String {
    step_or_none(newest, "newest")
}

fn step_or_none(step: &Option<StepId>, which: &str) -> String {
    match step {
        Some(step) => format!("{step}, the {which} step in flight"),
        None => "none, as no step is in flight".to_owned(),
    }
}

/// A broken promise of the scheduler's own bookkeeping: always a bug, never the caller's input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvariantViolation {
    /// The KV bookkeeping is broken.
    #[error(transparent)]
    Kv(#[from] maitre_kv::InvariantViolation),
    /// A limit of the configuration is exceeded.
    #[error("{running} requests run, the limit is {max_seqs}")]
    TooManyRunning {
        /// Requests that run.
        running: usize,
        /// The limit.
        max_seqs: usize,
    },
    /// A request is not found under its id.
    #[error("{request} is not indexed under its id")]
    NotIndexed {
        /// The request.
        request: RequestId,
    },
    /// The index by id has entries for requests that are gone.
    #[error("{indexed} ids are indexed, but {live} requests are waiting or running")]
    StaleIndex {
        /// Entries of the index.
        indexed: usize,
        /// Live requests.
        live: usize,
    },
    /// A request's token counts contradict each other or the steps in flight.
    #[error(
        "{request} has {known} known, {scheduled} scheduled and {committed} committed tokens, with \
         {in_flight} in flight"
    )]
    WrongCounts {
        /// The request.
        request: RequestId,
        /// Prompt and output tokens so far.
        known: usize,
        /// Tokens planned since admission.
        scheduled: usize,
        /// Tokens committed since admission.
        committed: usize,
        /// Tokens in the steps in flight.
        in_flight: usize,
    },
    /// A running request's table does not cover its scheduled tokens.
    #[error(
        "{request} has KV blocks for {covered} tokens in every group, for {scheduled} scheduled tokens and {drafts} \
         drafts"
    )]
    TableTooShort {
        /// The request.
        request: RequestId,
        /// Positions that its tables reach to in every group.
        covered: usize,
        /// Tokens planned since admission.
        scheduled: usize,
        /// Places for drafts in the steps in flight.
        drafts: usize,
    },
    /// A running request has blocks that neither its tokens nor its admission call for.
    #[error(
        "the table of {request} in KV group {group} ends with block {blocks}, expected {expected} at most"
    )]
    TableTooLong {
        /// The request.
        request: RequestId,
        /// The group, by its number.
        group: usize,
        /// Blocks up to the end of its table.
        blocks: usize,
        /// What its next token, its drafts in flight and its reservation need.
        expected: usize,
    },
    /// A running request's state is gone that its next step, or one in flight, reads.
    #[error("{request} has not the state behind its first {tokens} tokens")]
    StateMissing {
        /// The request.
        request: RequestId,
        /// Tokens that are computed, or that planned steps compute.
        tokens: usize,
    },
    /// Blocks are held by a sequence that is neither running nor leaving with a step in flight.
    #[error("{holding} sequences hold KV blocks, expected {expected}")]
    BlocksLeaked {
        /// Sequences with a block table.
        holding: usize,
        /// Running requests and those leaving with a step in flight.
        expected: usize,
    },
    /// The policy's queue is not the scheduler's.
    #[error("{request} waits, but the policy would never name it")]
    NotQueued {
        /// The request.
        request: RequestId,
    },
    /// A fork waits for a prompt that no running request computes, or that is computed already.
    #[error("{} waits for a prompt that will not come", name(.request))]
    WronglyParked {
        /// The fork; `None` if it is gone.
        request: Option<RequestId>,
    },
    /// A deadline is watched for a request that is gone, or the deadline of a live request is not watched.
    #[error("{watched} deadlines are watched, expected {expected}")]
    WrongTimers {
        /// Timers that exist.
        watched: usize,
        /// Timers the live requests need.
        expected: usize,
    },
}
