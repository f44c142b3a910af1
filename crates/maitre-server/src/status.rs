//! Failures as gRPC statuses: the code a client acts on, and details a program can read.
//!
//! Every status carries an `ErrorInfo` with a stable reason in [`DOMAIN`]. Beside it: `BadRequest`
//! with every violated field, `RetryInfo` and `QuotaFailure` when something is full
//! (`google/rpc/error_details.proto`).

use std::collections::HashMap;
use std::time::Duration;

use maitre_engine::{EngineError, MissedEvents, Violation};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

pub(crate) use bounds::{
    answer_bytes_spent, displaced, refused_call, request_bytes_spent, request_timeout,
    stream_too_long, too_many_connections,
};

mod bounds;

/// The `domain` of every `ErrorInfo`.
pub(crate) const DOMAIN: &str = "maitre.dev";

/// What the engine's refusal or failure means to a gRPC client. Violations come with the paths of
/// the request message already.
pub(crate) fn from_engine(error: &EngineError) -> Status {
    let message = error.to_string();
    match error {
        EngineError::Invalid { violations } => invalid(violations),
        EngineError::DuplicateRequest { request_id } => {
            let mut details = info("DUPLICATE_REQUEST_ID", &[("request_id", request_id)]);
            details.add_bad_request_violation("request_id", &message);
            with(Code::AlreadyExists, message, details)
        }
        EngineError::QueueFull { limit, retry_after } => {
            full("QUEUE_FULL", "queue", message, *limit, Some(*retry_after))
        }
        EngineError::TenantQueueFull {
            free, retry_after, ..
        } => full(
            "TENANT_QUEUE_FULL",
            "the tenant's queue",
            message,
            *free,
            Some(*retry_after),
        ),
        EngineError::QueueTokensFull {
            limit, retry_after, ..
        } => full(
            "QUEUE_TOKENS_FULL",
            "queued tokens",
            message,
            *limit,
            Some(*retry_after),
        ),
        EngineError::StopStringsFull {
            limit, retry_after, ..
        } => full(
            "STOP_STRINGS_FULL",
            "bytes of stop strings",
            message,
            *limit,
            Some(*retry_after),
        ),
        EngineError::Overloaded {
            estimate,
            limit,
            retry_after,
            ..
        } => {
            let ms = |time: &Duration| time.as_millis().to_string();
            let mut details = info(
                "OVERLOADED",
                &[
                    ("estimated_wait_ms", &ms(estimate)),
                    ("limit_ms", &ms(limit)),
                ],
            );
            details.add_quota_failure_violation("queue wait", &message);
            details.set_retry_info(Some(*retry_after));
            with(Code::ResourceExhausted, message, details)
        }
        EngineError::UnreadBytesFull {
            free, retry_after, ..
        } => full(
            "UNREAD_BYTES_FULL",
            "bytes of unread answers",
            message,
            usize::try_from(*free).unwrap_or(usize::MAX),
            Some(*retry_after),
        ),
        EngineError::QueueTimeout => {
            with(Code::DeadlineExceeded, message, info("QUEUE_TIMEOUT", &[]))
        }
        EngineError::DeadlineExceeded => deadline_exceeded(),
        EngineError::Cancelled => with(Code::Cancelled, message, info("CANCELLED", &[])),
        EngineError::Draining => with(Code::Unavailable, message, info("DRAINING", &[])),
        EngineError::SlowReceiver { unread } => {
            full("SLOW_RECEIVER", "unread events", message, *unread, None)
        }
        EngineError::Failed { .. } => with(Code::Internal, message, info("REQUEST_FAILED", &[])),
        EngineError::Stopped => with(Code::Unavailable, message, info("ENGINE_STOPPED", &[])),
    }
}

/// INVALID_ARGUMENT with all that is wrong.
pub(crate) fn invalid(violations: &[Violation]) -> Status {
    let mut listed = String::new();
    for violation in violations {
        if listed.len() > MAX_MESSAGE_BYTES {
            break;
        }
        let separator = if listed.is_empty() { "" } else { "; " };
        listed += &format!("{separator}{}: {}", violation.field, violation.description);
    }
    let mut details = info("INVALID_REQUEST", &[]);
    details.set_bad_request(fitting(violations));
    with(
        Code::InvalidArgument,
        format!("invalid request: {listed}"),
        details,
    )
}

/// NOT_FOUND for a model this server does not have.
pub(crate) fn unknown_model(asked: &str, served: &str) -> Status {
    let mut details = info("MODEL_NOT_FOUND", &[("model", asked), ("served", served)]);
    let message =
        format!("model {asked:?} is not served here; use {served:?} or leave the field empty");
    details.add_bad_request_violation("model", shortened(message.clone(), MAX_VIOLATION_BYTES));
    with(Code::NotFound, message, details)
}

/// DEADLINE_EXCEEDED for a call that outlived its deadline.
pub(crate) fn deadline_exceeded() -> Status {
    let message = EngineError::DeadlineExceeded.to_string();
    with(
        Code::DeadlineExceeded,
        message,
        info("DEADLINE_EXCEEDED", &[]),
    )
}

/// INVALID_ARGUMENT for a header, which has no field to point at.
pub(crate) fn malformed_header(name: &str, message: String) -> Status {
    with(
        Code::InvalidArgument,
        message,
        info("MALFORMED_HEADER", &[("header", name)]),
    )
}

/// UNAVAILABLE for a call that comes before there is a model to serve it.
pub(crate) fn loading(doing: &str) -> Status {
    let message = format!("this server is not ready yet: {doing}; try again");
    let mut details = info("MODEL_LOADING", &[("doing", doing)]);
    details.set_retry_info(Some(Duration::from_secs(1)));
    with(Code::Unavailable, message, details)
}

/// FAILED_PRECONDITION for a listener to cache events that the engine does not record.
pub(crate) fn no_cache_events() -> Status {
    let message = "this server does not publish cache events; start it with --cache-events";
    with(
        Code::FailedPrecondition,
        message.to_owned(),
        info("CACHE_EVENTS_OFF", &[]),
    )
}

/// OUT_OF_RANGE for a listener that fell behind.
pub(crate) fn missed_events(missed: MissedEvents) -> Status {
    let batches = missed.batches.to_string();
    with(
        Code::OutOfRange,
        missed.to_string(),
        info("CACHE_EVENTS_MISSED", &[("batches", &batches)]),
    )
}

/// INTERNAL for a task of ours that died.
pub(crate) fn internal(message: String) -> Status {
    with(Code::Internal, message, info("INTERNAL", &[]))
}

/// Gives a status that the gRPC library made by itself, before our code ran, the details and the
/// code that the rest of the ecosystem uses for it.
pub(crate) fn from_library(status: Status) -> Status {
    let message = status.message().to_owned();
    match status.code() {
        // The library's word for a message above the size limit, or compressed beyond it.
        Code::OutOfRange | Code::ResourceExhausted => with(
            Code::ResourceExhausted,
            format!("{message}; send a smaller request"),
            info("MESSAGE_TOO_LARGE", &[]),
        ),
        // Its word for bytes that are no message of the expected type.
        Code::Internal => with(
            Code::InvalidArgument,
            format!("the request is not a valid message: {message}"),
            info("MALFORMED_MESSAGE", &[]),
        ),
        // The library says nothing of an unknown method, but names an unknown compression.
        Code::Unimplemented if message.is_empty() => with(
            Code::Unimplemented,
            "this server has no such method; list them by reflection".to_owned(),
            info("UNKNOWN_METHOD", &[]),
        ),
        Code::Unimplemented => with(
            Code::Unimplemented,
            format!("{message}; send the message uncompressed"),
            info("UNSUPPORTED_ENCODING", &[]),
        ),
        code => with(code, message, info("TRANSPORT", &[])),
    }
}

fn full(
    reason: &str,
    subject: &str,
    message: String,
    limit: usize,
    retry_after: Option<Duration>,
) -> Status {
    let limit = limit.to_string();
    let mut details = info(reason, &[("limit", &limit)]);
    details.add_quota_failure_violation(subject, &message);
    if retry_after.is_some() {
        details.set_retry_info(retry_after);
    }
    with(Code::ResourceExhausted, message, details)
}

fn info(reason: &str, metadata: &[(&str, &str)]) -> ErrorDetails {
    let metadata: HashMap<String, String> = metadata
        .iter()
        .map(|(key, value)| {
            (
                (*key).to_owned(),
                shortened((*value).to_owned(), MAX_METADATA_BYTES),
            )
        })
        .collect();
    ErrorDetails::with_error_info(reason, DOMAIN, metadata)
}

// A status travels in response headers, and clients bound those: 8 KiB is the smallest bound in
// use (grpc-core's soft limit). The details travel base64-encoded with a copy of the message.
const MAX_MESSAGE_BYTES: usize = 512;
const MAX_METADATA_BYTES: usize = 256;
const MAX_VIOLATION_BYTES: usize = 512;
const MAX_VIOLATIONS_BYTES: usize = 3584;

/// As many violations as the headers can carry, the first ones first, and how many there are more.
fn fitting(violations: &[Violation]) -> Vec<FieldViolation> {
    let mut left = MAX_VIOLATIONS_BYTES;
    let mut fitting = Vec::with_capacity(violations.len().min(64));
    for (index, violation) in violations.iter().enumerate() {
        let field = shortened(violation.field.clone(), MAX_METADATA_BYTES);
        let description = shortened(violation.description.clone(), MAX_VIOLATION_BYTES);
        let size = field.len() + description.len();
        if size > left {
            let more = violations.len() - index;
            fitting.push(FieldViolation::new(
                "",
                format!("and {more} more violations"),
            ));
            break;
        }
        left -= size;
        fitting.push(FieldViolation::new(field, description));
    }
    fitting
}

fn with(code: Code, message: String, details: ErrorDetails) -> Status {
    Status::with_error_details(code, shortened(message, MAX_MESSAGE_BYTES), details)
}

fn shortened(mut text: String, max_bytes: usize) -> String {
    if text.len() > max_bytes {
        text.truncate(text.floor_char_boundary(max_bytes));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (error, code, reason, carries BadRequest, carries RetryInfo)
    #[test]
    fn every_engine_error_has_its_code_and_details() {
        let ms = Duration::from_millis;
        let table = [
            (
                EngineError::Invalid {
                    violations: vec![Violation::new("sampling.top_p", "2")],
                },
                (Code::InvalidArgument, "INVALID_REQUEST", true, None),
            ),
            (
                EngineError::DuplicateRequest {
                    request_id: "a".into(),
                },
                (Code::AlreadyExists, "DUPLICATE_REQUEST_ID", true, None),
            ),
            (
                EngineError::QueueFull {
                    limit: 3,
                    retry_after: ms(250),
                },
                (Code::ResourceExhausted, "QUEUE_FULL", false, Some(ms(250))),
            ),
            (
                EngineError::TenantQueueFull {
                    own: 4,
                    free: 2,
                    unit: "sequences",
                    retry_after: ms(70),
                },
                (
                    Code::ResourceExhausted,
                    "TENANT_QUEUE_FULL",
                    false,
                    Some(ms(70)),
                ),
            ),
            (
                EngineError::QueueTokensFull {
                    queued_tokens: 9,
                    new_tokens: 3,
                    limit: 10,
                    retry_after: ms(80),
                },
                (
                    Code::ResourceExhausted,
                    "QUEUE_TOKENS_FULL",
                    false,
                    Some(ms(80)),
                ),
            ),
            (
                EngineError::Overloaded {
                    estimate: ms(900),
                    limit: ms(500),
                    whose: "this server allows",
                    retry_after: ms(400),
                },
                (Code::ResourceExhausted, "OVERLOADED", false, Some(ms(400))),
            ),
            (
                EngineError::StopStringsFull {
                    bytes: 65536,
                    free: 7,
                    limit: 1 << 21,
                    retry_after: ms(1000),
                },
                (
                    Code::ResourceExhausted,
                    "STOP_STRINGS_FULL",
                    false,
                    Some(ms(1000)),
                ),
            ),
            (
                EngineError::UnreadBytesFull {
                    needed: 9,
                    free: 8,
                    retry_after: ms(60),
                },
                (
                    Code::ResourceExhausted,
                    "UNREAD_BYTES_FULL",
                    false,
                    Some(ms(60)),
                ),
            ),
            (
                EngineError::QueueTimeout,
                (Code::DeadlineExceeded, "QUEUE_TIMEOUT", false, None),
            ),
            (
                EngineError::DeadlineExceeded,
                (Code::DeadlineExceeded, "DEADLINE_EXCEEDED", false, None),
            ),
            (
                EngineError::Cancelled,
                (Code::Cancelled, "CANCELLED", false, None),
            ),
            (
                EngineError::Draining,
                (Code::Unavailable, "DRAINING", false, None),
            ),
            (
                EngineError::SlowReceiver { unread: 9 },
                (Code::ResourceExhausted, "SLOW_RECEIVER", false, None),
            ),
            (
                EngineError::Failed {
                    message: "NaN".into(),
                },
                (Code::Internal, "REQUEST_FAILED", false, None),
            ),
            (
                EngineError::Stopped,
                (Code::Unavailable, "ENGINE_STOPPED", false, None),
            ),
        ];
        for (error, (code, reason, bad_request, retry)) in table {
            let status = from_engine(&error);
            let details = status.get_error_details();
            let info = details.error_info().unwrap();
            assert_eq!(status.code(), code, "{error:?}");
            assert_eq!(
                (info.reason.as_str(), info.domain.as_str()),
                (reason, DOMAIN)
            );
            assert_eq!(details.bad_request().is_some(), bad_request, "{error:?}");
            assert_eq!(
                details.retry_info().and_then(|info| info.retry_delay),
                retry,
                "{error:?}"
            );
            let exhausted = code == Code::ResourceExhausted;
            assert_eq!(details.quota_failure().is_some(), exhausted, "{error:?}");
        }
    }

    #[test]
    fn all_violations_are_reported_as_far_as_headers_can_carry_them() {
        let violations = |count: usize| -> Vec<Violation> {
            (0..count)
                .map(|i| Violation::new(format!("stopping.stop[{i}]"), "é".repeat(20)))
                .collect()
        };
        let few = invalid(&violations(20));
        assert_eq!(
            few.get_details_bad_request()
                .unwrap()
                .field_violations
                .len(),
            20
        );

        let many = invalid(&violations(1000));
        let listed = many.get_details_bad_request().unwrap().field_violations;
        let named = listed.len() - 1;
        assert_eq!(
            listed[named].description,
            format!("and {} more violations", 1000 - named)
        );

        let mut headers = axum::http::HeaderMap::new();
        many.add_header(&mut headers).unwrap();
        let size: usize = headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len())
            .sum();
        assert!(size < 8192 - 512, "{size} bytes of headers");
    }

    #[test]
    fn long_names_are_cut_at_a_character() {
        let status = unknown_model(&"é".repeat(5000), "bundled");
        assert!(status.message().len() <= MAX_MESSAGE_BYTES + '…'.len_utf8());
        let details = status.get_error_details();
        let metadata = &details.error_info().unwrap().metadata;
        assert!(metadata["model"].len() <= MAX_METADATA_BYTES + '…'.len_utf8());
        assert_eq!(metadata["served"], "bundled");
    }
}
