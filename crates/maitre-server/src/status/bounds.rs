//! Statuses of calls that meet a bound on what one client, or all together, may take.

use std::time::Duration;

use maitre_engine::byte_budget::BudgetSpent;
use tonic::{Code, Status};

use super::{full, info, with};
use crate::service::call_pools::{Class, Refusal};

/// RESOURCE_EXHAUSTED for a call beyond those that this server, or one connection, holds at once.
pub(crate) fn refused_call(class: Class, refusal: Refusal) -> Status {
    let what = match class {
        Class::Work => "calls",
        Class::Control => "control calls",
        Class::Health => "health checks",
        Class::Watch => "watches",
        Class::Reflection => "reflection streams",
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
    full(
        reason,
        &format!("{what} in progress"),
        message,
        limit,
        Some(Duration::from_secs(1)),
    )
}

/// RESOURCE_EXHAUSTED for a call that waited for its message when others needed its place.
pub(crate) fn displaced() -> Status {
    let message = "the server is full, and this call had not sent its message; send it at once";
    let mut details = info("CALL_DISPLACED", &[]);
    details.add_quota_failure_violation("calls in progress", message);
    details.set_retry_info(Some(Duration::from_secs(1)));
    with(Code::ResourceExhausted, message.to_owned(), details)
}

/// RESOURCE_EXHAUSTED for a call on a connection that a full listener accepted for health checks only.
pub(crate) fn too_many_connections(limit: usize) -> Status {
    let message = format!(
        "{limit} connections are open and busy, as many as this server holds; a further one may only check health"
    );
    full(
        "TOO_MANY_CONNECTIONS",
        "open connections",
        message,
        limit,
        Some(Duration::from_secs(1)),
    )
}

/// DEADLINE_EXCEEDED for a request that did not come in time.
pub(crate) fn request_timeout() -> Status {
    let message = "the request was not complete in time; send it at once, or ask the operator for a longer --request-timeout";
    with(
        Code::DeadlineExceeded,
        message.to_owned(),
        info("REQUEST_TIMEOUT", &[]),
    )
}

/// RESOURCE_EXHAUSTED for a request that finds no memory among the requests under way.
pub(crate) fn request_bytes_spent(spent: &BudgetSpent) -> Status {
    spent_bytes("REQUEST_BYTES_FULL", "bytes of requests under way", spent)
}

/// RESOURCE_EXHAUSTED for an answer that finds no memory among the unread answers.
pub(crate) fn answer_bytes_spent(spent: &BudgetSpent) -> Status {
    spent_bytes("ANSWER_BYTES_FULL", "bytes of unread answers", spent)
}

fn spent_bytes(reason: &str, subject: &str, spent: &BudgetSpent) -> Status {
    full(
        reason,
        subject,
        format!(
            "the server has no memory left for {subject}: {spent}; try again later, or with less"
        ),
        usize::try_from(spent.total).unwrap_or(usize::MAX),
        Some(Duration::from_secs(1)),
    )
}

/// RESOURCE_EXHAUSTED for a stream of requests that goes on and on.
pub(crate) fn stream_too_long(limit: u64) -> Status {
    full(
        "STREAM_TOO_LONG",
        "bytes of a stream of requests",
        format!("one stream may bring {limit} bytes of requests; open another"),
        usize::try_from(limit).unwrap_or(usize::MAX),
        None,
    )
}
