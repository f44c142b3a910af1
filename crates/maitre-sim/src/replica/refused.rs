//! Requests that are not taken.

use maitre_scheduler::queue::QueueRefusal;
use maitre_scheduler::{Refusal, Time};

/// Why a request was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused {
    /// The reason, in a word.
    pub(crate) reason: &'static str,
    /// When it may be worth trying again.
    pub(crate) retry_after: Option<Time>,
}

impl Refused {
    pub(super) fn by_queue(refusal: QueueRefusal) -> Self {
        let (reason, retry_after) = match refusal {
            QueueRefusal::Full { retry_after, .. } => ("queue_full", retry_after),
            QueueRefusal::TenantFull { retry_after, .. } => ("tenant_full", retry_after),
            QueueRefusal::TokensFull { retry_after, .. } => ("queue_tokens_full", retry_after),
            QueueRefusal::WaitTooLong { retry_after, .. } => ("wait_too_long", retry_after),
        };
        Self {
            reason,
            retry_after: Some(retry_after),
        }
    }

    pub(super) fn by_scheduler(refusal: Refusal) -> Self {
        let reason = match refusal {
            Refusal::NeverFits { .. } => "never_fits",
            Refusal::TooLong { .. } => "too_long",
            Refusal::EmptyPrompt | Refusal::ZeroMaxTokens => "empty",
            Refusal::DuplicateId { .. } => "duplicate",
        };
        Self {
            reason,
            retry_after: None,
        }
    }
}
