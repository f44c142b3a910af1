//! A request as the scheduler sees it: known tokens, how many of them are computed, and its limits.

use std::fmt;

use maitre_kv::SeqId;

/// Time since the engine started, by the caller's clock. This crate has none of its own.
pub type Time = std::time::Duration;

/// One request, numbered by the caller. The number may be reused once the request has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "request {}", self.0)
    }
}

/// A request to be queued by [`Scheduler::add`](crate::Scheduler::add).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRequest {
    /// The caller's number for it; no live request has the same.
    pub id: RequestId,
    /// Prompt tokens, at least one.
    pub prompt: Vec<u32>,
    /// Most tokens to generate, at least one. A request that has them is finished, whatever its
    /// outcome says.
    pub max_tokens: usize,
    /// Carried for policies that order by it; first come, first served does not.
    pub priority: i32,
    /// When it arrived. Earlier arrivals go first, equal ones in the order they were added.
    pub arrival: Time,
    /// When it ends unanswered, waiting or running.
    pub deadline: Option<Time>,
    /// When it ends if it has not been admitted by then. A preempted request was admitted.
    pub queue_deadline: Option<Time>,
    /// Whether logits are wanted for every prompt position, not just for the last one.
    pub prompt_logits: bool,
}

/// A request's place in the order of service: by arrival, then by the order of the `add` calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    arrival: Time,
    serial: u64,
}

impl Place {
    /// `serial` is unique among all requests ever added.
    pub(crate) fn new(arrival: Time, serial: u64) -> Self {
        Self { arrival, serial }
    }

    /// The owner of the request's blocks. Unlike a [`RequestId`] it is never reused, so a request that
    /// is still leaving cannot be taken for a new one of the same id.
    pub(crate) fn sequence(self) -> SeqId {
        SeqId(self.serial)
    }
}

/// A live request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) id: RequestId,
    /// Known tokens: the prompt, then what was generated.
    pub(crate) tokens: Vec<u32>,
    /// Known tokens at which generation ends.
    pub(crate) full_len: usize,
    pub(crate) prompt_logits: bool,
    pub(crate) deadline: Option<Time>,
    /// Cleared by the first admission.
    pub(crate) queue_deadline: Option<Time>,
    /// Known tokens when it was last admitted: what prefill has to compute before decoding starts.
    pub(crate) prefill_len: usize,
    /// Tokens that planned steps compute, since the last admission.
    pub(crate) scheduled: usize,
    /// Tokens that committed steps computed, since the last admission.
    pub(crate) committed: usize,
    /// Positions whose logits were delivered by a committed step; a preemption does not undo that.
    pub(crate) delivered: usize,
}

impl Request {
    pub(crate) fn new(request: NewRequest) -> Self {
        Self {
            id: request.id,
            full_len: request.prompt.len().saturating_add(request.max_tokens),
            tokens: request.prompt,
            prompt_logits: request.prompt_logits,
            deadline: request.deadline,
            queue_deadline: request.queue_deadline,
            prefill_len: 0,
            scheduled: 0,
            committed: 0,
            delivered: 0,
        }
    }

    /// Known tokens that no planned step computes yet. None while the next token is being sampled.
    pub(crate) fn unscheduled(&self) -> usize {
        self.tokens.len() - self.scheduled
    }

    /// Whether prefill is planned to its end, so that each further step computes one token.
    pub(crate) fn is_decoding(&self) -> bool {
        self.scheduled >= self.prefill_len
    }

    /// Whether a step in flight computes some of its tokens.
    pub(crate) fn is_in_flight(&self) -> bool {
        self.scheduled > self.committed
    }

    /// Forgets what was computed, and returns how much that was.
    pub(crate) fn restart(&mut self) -> usize {
        self.scheduled = 0;
        std::mem::take(&mut self.committed)
    }
}
