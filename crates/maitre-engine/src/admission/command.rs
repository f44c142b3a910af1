//! What the outside says to the step loop; read between two steps.

use std::sync::{Arc, Mutex};

use maitre_sampling::SamplingParams;
use maitre_scheduler::queue::QueueEntry;
use maitre_scheduler::{NewRequest, RequestId};
use tokio::sync::oneshot;

use crate::output::text::Output;
use crate::request::constraint::ConstraintHandle;

/// A message to the step loop.
#[derive(Debug)]
pub(crate) enum Command {
    /// Start this sequence when its turn comes.
    Submit(Arc<Mutex<Mail>>),
    /// Stop these sequences and free what they hold.
    Cancel {
        /// Sequences to stop; those already gone are ignored.
        keys: Vec<RequestId>,
        /// On whose behalf.
        why: CancelledBy,
    },
    /// Forget all prefixes, and say how many blocks that were.
    ResetPrefixCache(oneshot::Sender<usize>),
    /// End the loop.
    Stop,
}

/// A submission on its way to the step loop. Its sender can take it back as long as the loop has not read it:
/// a long step must not keep the memory, or the place in the queue, of a request that is over.
#[derive(Debug)]
pub(crate) enum Mail {
    /// On its way, with its place in the queue.
    Sealed(Box<Submission>, QueueEntry),
    /// Its request ended first. The loop gives back its place in the queue, where that was not done already.
    TakenBack {
        /// The place to give back.
        place: Option<QueueEntry>,
    },
    /// The loop has it.
    Read,
}

/// On whose behalf a sequence is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CancelledBy {
    /// The publisher found its stop string: it is complete.
    StopString,
    /// Its receiver is gone, or has left too much unread.
    Departure,
    /// An abort, or a drain out of time: the receiver is still there and gets
    /// [`EngineError::Cancelled`](crate::EngineError::Cancelled).
    Caller,
}

/// One sequence: a request has `n` of them.
#[derive(Debug)]
pub(crate) struct Submission {
    /// What the scheduler needs to know.
    pub(crate) schedule: NewRequest,
    /// What choosing its tokens needs.
    pub(crate) choice: Choice,
    /// What publishing its tokens needs.
    pub(crate) output: Output,
}

/// How a sequence's tokens are chosen and which of them end it.
#[derive(Debug, Clone)]
pub(crate) struct Choice {
    pub(crate) params: SamplingParams,
    /// Tokens that end the sequence.
    pub(crate) stop_tokens: Vec<u32>,
    pub(crate) min_tokens: u32,
    pub(crate) max_tokens: u32,
    pub(crate) prompt_logprobs: Option<u32>,
    /// Whether tokens may be drafted for it.
    pub(crate) speculate: bool,
    /// What its tokens have to be like.
    pub(crate) constraint: Option<ConstraintHandle>,
    /// A deadline that ends the sequence well rather than in an error comes first.
    pub(crate) ends_well_at_deadline: bool,
}

impl Choice {
    /// Whether nothing but its logits decides each of its tokens, so that an executor can draw them all.
    pub(crate) fn draws_every_token(&self) -> bool {
        let banned: &[u32] = if self.min_tokens > 0 {
            &self.stop_tokens
        } else {
            &[]
        };
        self.constraint.is_none()
            && self.params.logprobs.is_none()
            && !self.params.adjusts_rows(banned)
    }
}
