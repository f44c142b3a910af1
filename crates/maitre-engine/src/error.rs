//! What can go wrong, as data: for one request ([`EngineError`]) and at start ([`StartError`]).

use std::time::Duration;

use maitre_model::ModelError;
use maitre_scheduler::SchedulerError;
use maitre_tensor::TensorError;
use maitre_text::TextError;

/// One thing wrong with a request: which field, and what was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field in [`GenerateRequest`](crate::GenerateRequest), such as
    /// `sampling.temperature` or `stopping.stop[3]`.
    pub field: String,
    /// What was found and what was expected.
    pub description: String,
}

impl Violation {
    /// A violation of `field`.
    pub fn new(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            description: description.into(),
        }
    }
}

/// Why a request was refused or failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EngineError {
    /// The request itself is wrong; every violation is listed.
    #[error("invalid request: {}", list(violations))]
    Invalid {
        /// At least one.
        violations: Vec<Violation>,
    },
    /// A request of the same id is in flight.
    #[error("request_id {request_id:?} is already in flight; wait for it or choose another id")]
    DuplicateRequest {
        /// The id both share.
        request_id: String,
    },
    /// The waiting queue is full.
    #[error("the queue is full ({limit} requests wait); try again in {} ms", retry_after.as_millis())]
    QueueFull {
        /// Requests that may wait.
        limit: usize,
        /// When a place should be free, from the pace at which waiting requests start.
        retry_after: Duration,
    },
    /// The queue is fair and the tenant has its share of it.
    #[error(
        "this tenant has {own} {unit} waiting, and {free} are left for all others; try again in {} ms",
        retry_after.as_millis()
    )]
    TenantQueueFull {
        /// What the tenant has in the queue.
        own: usize,
        /// What is free.
        free: usize,
        /// Of what: sequences or prompt tokens.
        unit: &'static str,
        /// When there should be space, from the pace at which waiting requests start.
        retry_after: Duration,
    },
    /// Too many prompt tokens are waiting.
    #[error(
        "{queued_tokens} prompt tokens wait, and with this request's {new_tokens} the limit of {limit} would \
         be passed; try again in {} ms",
        retry_after.as_millis()
    )]
    QueueTokensFull {
        /// Prompt tokens that wait.
        queued_tokens: usize,
        /// Prompt tokens of the request.
        new_tokens: usize,
        /// Prompt tokens that may wait.
        limit: usize,
        /// When there should be space, from the pace at which waiting requests start.
        retry_after: Duration,
    },
    /// The stop strings of the requests in flight leave too little memory for this request's.
    #[error(
        "the stop strings have {bytes} bytes, and of the {limit} that requests in flight may have together {free} are \
         free; send fewer or shorter ones, or try again in {} ms", retry_after.as_millis()
    )]
    StopStringsFull {
        /// Bytes of this request's stop strings.
        bytes: usize,
        /// Bytes that are free.
        free: usize,
        /// Bytes that all requests in flight may have together.
        limit: usize,
        /// When enough may be free.
        retry_after: Duration,
    },
    /// The request would wait too long, so it is told at once.
    #[error(
        "the request would wait about {} ms for its first step, more than the {} ms {whose}; try again in {} ms",
        estimate.as_millis(),
        limit.as_millis(),
        retry_after.as_millis()
    )]
    Overloaded {
        /// How long it would wait at the recent pace.
        estimate: Duration,
        /// How long it may wait.
        limit: Duration,
        /// Who says so.
        whose: &'static str,
        /// When the wait should be short enough.
        retry_after: Duration,
    },
    /// There is no memory for the scores of its prompt beside what others have left unread.
    #[error(
        "the scores of the prompt take {needed} bytes beside unread answers, of which {free} are free; try again later, or ask for fewer alternatives"
    )]
    UnreadBytesFull {
        /// Bytes it would take.
        needed: u64,
        /// Bytes that are free; one request may take a part of them.
        free: u64,
        /// When to try again.
        retry_after: Duration,
    },
    /// The request waited longer than its `queue_timeout`.
    #[error("the request waited longer than its queue_timeout allows")]
    QueueTimeout,
    /// The request's deadline passed.
    #[error("the request's deadline passed")]
    DeadlineExceeded,
    /// Aborted by id, or left over when a drain ran out of time.
    #[error("the request was cancelled")]
    Cancelled,
    /// The engine accepts no new requests because it is shutting down.
    #[error("the engine is draining and accepts no new requests")]
    Draining,
    /// The receiver fell too far behind; see [`limits::MAX_UNREAD_EVENTS`](crate::request::limits::MAX_UNREAD_EVENTS).
    #[error(
        "the receiver left {unread} events unread, more than the server keeps for it, so the request was ended"
    )]
    SlowReceiver {
        /// Events in the full buffer.
        unread: usize,
    },
    /// The request's own forward pass or sampling failed; others went on.
    #[error("the request failed: {message}")]
    Failed {
        /// What failed.
        message: String,
    },
    /// What constrains the answer lets it neither go on nor end where it is: a grammar that grew too large while it was
    /// followed, or one with a dead end. Sent again, the request would fail again.
    #[error(
        "the answer can't go on in the form that was asked for: {message}; ask for a simpler form"
    )]
    ConstraintFailed {
        /// What the constraint says.
        message: String,
    },
    /// The step loop has ended.
    #[error("the engine has stopped")]
    Stopped,
}

fn list(violations: &[Violation]) -> String {
    let parts: Vec<String> = violations
        .iter()
        .map(|v| format!("{}: {}", v.field, v.description))
        .collect();
    parts.join("; ")
}

/// Why an engine could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Configuration, weights or tokenizer files could not be used.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The draft model's configuration, weights or tokenizer could not be used.
    #[error("the draft model (--draft-model) can't be used: {problem}")]
    DraftModel {
        /// The error that it would end with as a model of its own.
        problem: Box<StartError>,
    },
    /// The backend could not start.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// The tokenizer or chat template could not be used.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The scheduler's limits contradict each other.
    #[error(transparent)]
    Scheduler(#[from] SchedulerError),
    /// The operating system gave no random bytes for the secrets of this process.
    #[error("the operating system gave no random bytes for keys and seeds: {reason}")]
    NoRandomness {
        /// What it said.
        reason: String,
    },
    /// A file the engine needs is missing from the model.
    #[error("the model at {model} has no {file}; {advice}")]
    MissingFile {
        /// Where the model was looked for.
        model: String,
        /// The file's name.
        file: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// The tokenizer writes ordinary text with ids that the model has no embedding for.
    #[error(
        "the tokenizer's largest id is {largest_id}, but the model's vocabulary has {vocab_size} entries, and not only \
         added tokens lie beyond them; the tokenizer belongs to another model"
    )]
    TokenizerBeyondVocabulary {
        /// Largest id in the tokenizer.
        largest_id: usize,
        /// Rows of the embedding.
        vocab_size: usize,
    },
    /// The draft model's tokens are not the target's.
    #[error(
        "the draft model at {draft} has another vocabulary: {difference}; give one that was trained with the same \
         tokenizer, or none: --speculate suffix drafts without a model"
    )]
    DraftVocabulary {
        /// Where the draft model is.
        draft: String,
        /// The first difference found.
        difference: String,
    },
    /// The KV pool would not hold one sequence of the shortest useful length.
    #[error(
        "{flag} of {given} bytes holds {holds_tokens} tokens of KV cache, fewer than the {needed_tokens} that one \
         sequence of --max-model-len needs; give at least {at_least} bytes, or a smaller --max-model-len"
    )]
    KvBudgetTooSmall {
        /// The flag that sets it.
        flag: &'static str,
        /// Bytes given.
        given: u64,
        /// Tokens that fit.
        holds_tokens: usize,
        /// Tokens one sequence needs.
        needed_tokens: usize,
        /// A value that works.
        at_least: u64,
    },
    /// Weights, KV pool and workspace exceed the memory there is.
    #[error(
        "the engine would need {needed} bytes (weights {weights}, KV cache {kv}, host KV {host_kv}, workspace {workspace}), but \
         {available} bytes {place}; the memory left holds {kv_tokens_that_fit} tokens of KV cache: use a \
         --max-model-len of at most that, a smaller --kv-cache-bytes, --host-kv-bytes or --max-batched-tokens, or a smaller model"
    )]
    OutOfMemory {
        /// Tokens of KV cache for which there is space.
        kv_tokens_that_fit: u64,
        /// Bytes needed in all.
        needed: u64,
        /// Bytes of packed weights.
        weights: u64,
        /// Bytes of the KV pool.
        kv: u64,
        /// Bytes of its host tier.
        host_kv: u64,
        /// Bytes of activations.
        workspace: u64,
        /// Bytes available, a container's limit included.
        available: u64,
        /// Which memory that is, and what limits it.
        place: String,
    },
    /// The model's own sampling defaults are not ones that a request could ask for.
    #[error("{file}: {key} {problem}; correct the file")]
    GenerationDefault {
        /// The file that has it.
        file: &'static str,
        /// The key.
        key: &'static str,
        /// What was found and what was expected.
        problem: String,
    },
    /// A setting is outside its range.
    #[error("{setting} is {found}; expected {expected}")]
    Setting {
        /// Name as on the command line.
        setting: &'static str,
        /// What was given.
        found: String,
        /// What is accepted.
        expected: String,
    },
    /// A thread could not be started.
    #[error(
        "could not start the {name} thread: {error}; raise the limit of processes (ulimit -u, a container's \
         pids limit), or ask for fewer --threads"
    )]
    Thread {
        /// Which one.
        name: &'static str,
        /// The operating system's answer.
        error: std::io::Error,
    },
}

impl StartError {
    /// The error of a draft model that fails with `problem`.
    pub(crate) fn draft_model(problem: impl Into<Self>) -> Self {
        Self::DraftModel {
            problem: Box::new(problem.into()),
        }
    }
}
