//! What comes of a step, and why an attempt at one fails.

use std::any::Any;
use std::time::Duration;

use maitre_model::ModelError;
use maitre_sampling::{Sampled, TokenLogprobs};
use maitre_scheduler::{RequestId, StepPlan};

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
    /// Whether it is its constraint that failed, and says so itself.
    pub(crate) is_stuck: bool,
    /// What decides over its next token was not known in time.
    pub(crate) deferred: bool,
    /// Its constraint says that the sequence is at its end, without a further token.
    pub(crate) is_complete: bool,
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
            is_stuck: false,
            deferred: false,
            is_complete: false,
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
    /// As it was planned; its spans are those of the results.
    pub(crate) plan: StepPlan,
    pub(crate) spans: Vec<SpanResult>,
    /// Rows that were computed: known tokens and drafted ones.
    pub(crate) rows: usize,
    /// From the plan to the result, without the time in which an earlier step was computed.
    pub(crate) took: Duration,
    /// Time spent copying blocks.
    pub(crate) moving: Duration,
    /// Blocks that others may share have unknown contents.
    pub(crate) cache_is_lost: bool,
    /// Why no further step can succeed, if so.
    pub(crate) fatal: Option<String>,
}

/// Why an attempt failed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Failure {
    pub(crate) message: String,
    /// Whether every further attempt will fail, whatever it is at.
    pub(crate) is_fatal: bool,
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
    pub(crate) fn panicked(panic: &(dyn Any + Send)) -> Self {
        Self {
            message: format!("the step panicked: {}", panic_text(panic)),
            is_fatal: false,
        }
    }
}

impl Failure {
    /// The same, after which nothing is to be tried.
    pub(crate) fn for_good(self) -> Self {
        Self {
            is_fatal: true,
            ..self
        }
    }
}

/// What a panic says.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
