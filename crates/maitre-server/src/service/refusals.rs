//! What goes wrong, each with its reason: what the engine says, and what this server's own bounds are met by.

use std::time::Duration;

use maitre_engine::byte_budget::BudgetSpent;
use maitre_engine::{EngineError, MissedEvents};

use crate::service::api_error::{ApiError, Kind};
use crate::service::call_pools::{Class, Refusal};

/// A client that finds the server full tries again after this time, where nothing better is known.
const SOON: Duration = Duration::from_secs(1);

/// What the engine's refusal or failure means to a caller.
impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        let message = error.to_string();
        match error {
            EngineError::Invalid { violations } => Self::invalid(violations),
            EngineError::DuplicateRequest { request_id } => {
                Self::new(Kind::Duplicate, "DUPLICATE_REQUEST_ID", message)
                    .with([("request_id", request_id)])
                    .about("request_id")
            }
            EngineError::QueueFull { limit, retry_after } => {
                Self::full("QUEUE_FULL", "queue", message, limit, Some(retry_after))
            }
            EngineError::TenantQueueFull {
                free, retry_after, ..
            } => {
                let subject = "the tenant's queue";
                let reason = "TENANT_QUEUE_FULL";
                Self::full(reason, subject, message, free, Some(retry_after))
            }
            EngineError::QueueTokensFull {
                limit, retry_after, ..
            } => {
                let subject = "queued tokens";
                let reason = "QUEUE_TOKENS_FULL";
                Self::full(reason, subject, message, limit, Some(retry_after))
            }
            EngineError::StopStringsFull {
                limit, retry_after, ..
            } => {
                let subject = "bytes of stop strings";
                let reason = "STOP_STRINGS_FULL";
                Self::full(reason, subject, message, limit, Some(retry_after))
            }
            EngineError::Overloaded {
                estimate,
                limit,
                retry_after,
                ..
            } => Self::full("OVERLOADED", "queue wait", message, "", Some(retry_after)).with([
                ("estimated_wait_ms", estimate.as_millis().to_string()),
                ("limit_ms", limit.as_millis().to_string()),
            ]),
            EngineError::UnreadBytesFull {
                free, retry_after, ..
            } => {
                let subject = "bytes of unread answers";
                let reason = "UNREAD_BYTES_FULL";
                Self::full(reason, subject, message, free, Some(retry_after))
            }
            EngineError::QueueTimeout => {
                Self::new(Kind::DeadlineExceeded, "QUEUE_TIMEOUT", message)
            }
            EngineError::DeadlineExceeded => {
                Self::new(Kind::DeadlineExceeded, "DEADLINE_EXCEEDED", message)
            }
            EngineError::Cancelled => Self::new(Kind::Cancelled, "CANCELLED", message),
            EngineError::Draining => Self::new(Kind::Unavailable, "DRAINING", message),
            EngineError::SlowReceiver { unread } => {
                Self::full("SLOW_RECEIVER", "unread events", message, unread, None)
            }
            EngineError::Failed { .. } => Self::new(Kind::Internal, "REQUEST_FAILED", message),
            EngineError::ConstraintFailed { .. } => {
                Self::new(Kind::Invalid, "CONSTRAINT_FAILED", message)
            }
            EngineError::Stopped => Self::new(Kind::Unavailable, "ENGINE_STOPPED", message),
        }
    }
}

impl ApiError {
    /// A model that this server does not have.
    pub(crate) fn unknown_model(asked: &str, served: &str) -> Self {
        let message =
            format!("model {asked:?} is not served here; use {served:?} or leave the field empty");
        Self::new(Kind::UnknownModel, "MODEL_NOT_FOUND", message)
            .with([("model", asked.to_owned()), ("served", served.to_owned())])
            .about("model")
    }

    /// A call that outlived its deadline.
    pub(crate) fn deadline_exceeded() -> Self {
        EngineError::DeadlineExceeded.into()
    }

    /// A call that comes before there is a model to serve it.
    pub(crate) fn loading(doing: &str) -> Self {
        let message = format!("this server is not ready yet: {doing}; try again");
        Self::new(Kind::Unavailable, "MODEL_LOADING", message)
            .with([("doing", doing.to_owned())])
            .retry_after(SOON)
    }

    /// A request that names another tenant than the one that its caller's credential stands for.
    pub(crate) fn other_tenant(own: &str) -> Self {
        let message = format!("this caller is tenant {own:?}; name that one or leave it out");
        Self::new(Kind::Forbidden, "OTHER_TENANT", message).about("service.tenant")
    }

    /// A listener to cache events that the engine does not record.
    pub(crate) fn no_cache_events() -> Self {
        let message = "this server does not publish cache events; start it with --cache-events";
        Self::new(Kind::NotEnabled, "CACHE_EVENTS_OFF", message)
    }

    /// A listener that fell behind.
    pub(crate) fn missed_events(missed: MissedEvents) -> Self {
        Self::new(Kind::Missed, "CACHE_EVENTS_MISSED", missed.to_string())
            .with([("batches", missed.batches.to_string())])
    }

    /// A task of the server that died.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, "INTERNAL", message)
    }

    /// A call beyond those that this server, or one connection, holds at once.
    pub(crate) fn refused_call(class: Class, refusal: Refusal) -> Self {
        let (what, subject) = match class {
            Class::Work => ("calls", "calls in progress"),
            Class::Control => ("control calls", "control calls in progress"),
            Class::Health => ("health checks", "health checks in progress"),
            Class::Watch => ("watches", "watches in progress"),
            Class::Reflection => ("reflection streams", "reflection streams in progress"),
        };
        let (reason, message, limit) = match refusal {
            Refusal::Full { limit } => (
                "TOO_MANY_CALLS",
                format!("{limit} {what} are in progress, as many as this server holds; try again"),
                limit,
            ),
            Refusal::Share { own, limit } => (
                "TOO_MANY_CALLS_ON_CONNECTION",
                format!(
                    "this connection has {own} {what} in progress, its share of the {limit} that this server holds; let some end first"
                ),
                own,
            ),
        };
        Self::full(reason, subject, message, limit, Some(SOON))
    }

    /// A call that waited for its message when others needed its place.
    pub(crate) fn displaced() -> Self {
        let message = "the server is full, and this call had not sent its message; send it at once";
        Self {
            quota: Some("calls in progress"),
            ..Self::new(Kind::Full, "CALL_DISPLACED", message).retry_after(SOON)
        }
    }

    /// A call on a connection that a full listener accepted for health checks only.
    pub(crate) fn too_many_connections(limit: usize) -> Self {
        let message = format!(
            "{limit} connections are open and busy, as many as this server holds; a further one may only check health"
        );
        let subject = "open connections";
        Self::full("TOO_MANY_CONNECTIONS", subject, message, limit, Some(SOON))
    }

    /// A request that did not come in time.
    pub(crate) fn request_timeout() -> Self {
        let message = "the request was not complete in time; send it at once, or ask the operator for a longer --request-timeout";
        Self::new(Kind::DeadlineExceeded, "REQUEST_TIMEOUT", message)
    }

    /// A request that finds no memory among the requests under way.
    pub(crate) fn request_bytes_spent(spent: &BudgetSpent) -> Self {
        spent_bytes("REQUEST_BYTES_FULL", "bytes of requests under way", spent)
    }

    /// An answer that finds no memory among the unread answers.
    pub(crate) fn answer_bytes_spent(spent: &BudgetSpent) -> Self {
        spent_bytes("ANSWER_BYTES_FULL", "bytes of unread answers", spent)
    }

    /// A stream of requests that goes on and on.
    pub(crate) fn stream_too_long(limit: u64) -> Self {
        let message = format!("one stream may bring {limit} bytes of requests; open another");
        let subject = "bytes of a stream of requests";
        Self::full("STREAM_TOO_LONG", subject, message, limit, None)
    }
}

fn spent_bytes(reason: &'static str, subject: &'static str, spent: &BudgetSpent) -> ApiError {
    let message = format!(
        "the server has no memory left for {subject}: {spent}; try again later, or with less"
    );
    ApiError::full(reason, subject, message, spent.total, Some(SOON))
}
