//! Failures as gRPC statuses: the code a client acts on, and details a program can read.
//!
//! Every status carries an `ErrorInfo` with a stable reason in [`DOMAIN`]. Beside it: `BadRequest`
//! with every violated field, `RetryInfo` and `QuotaFailure` when something is full
//! (`google/rpc/error_details.proto`).

use std::collections::HashMap;

use maitre_engine::Violation;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use crate::service::api_error::{ApiError, Kind};

/// The `domain` of every `ErrorInfo`.
pub(crate) const DOMAIN: &str = "maitre.dev";

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        let metadata = error.metadata.into_iter();
        let mut details = info(error.reason, metadata);
        if !error.violations.is_empty() {
            details.set_bad_request(fitting(&error.violations));
        }
        if let Some(subject) = error.quota {
            details.add_quota_failure_violation(subject, &error.message);
        }
        if error.retry_after.is_some() {
            details.set_retry_info(error.retry_after);
        }
        let code = Code::from_i32(error.kind.codes().grpc.into());
        with(code, error.message, details)
    }
}

/// Bytes that are no message of the expected type, with the words of the library that read them.
pub(crate) fn malformed_message(said: &str) -> ApiError {
    let message = format!("the request is not a valid message: {said}");
    ApiError::new(Kind::Invalid, "MALFORMED_MESSAGE", message)
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
            info("MESSAGE_TOO_LARGE", []),
        ),
        // Its word for bytes that are no message of the expected type.
        Code::Internal => malformed_message(&message).into(),
        // The library says nothing of an unknown method, but names an unknown compression.
        Code::Unimplemented if message.is_empty() => with(
            Code::Unimplemented,
            "this server has no such method; list them by reflection".to_owned(),
            info("UNKNOWN_METHOD", []),
        ),
        Code::Unimplemented => with(
            Code::Unimplemented,
            format!("{message}; send the message uncompressed"),
            info("UNSUPPORTED_ENCODING", []),
        ),
        code => with(code, message, info("TRANSPORT", [])),
    }
}

fn info(reason: &str, metadata: impl IntoIterator<Item = (&'static str, String)>) -> ErrorDetails {
    let metadata: HashMap<String, String> = metadata
        .into_iter()
        .map(|(key, value)| (key.to_owned(), shortened(value, MAX_METADATA_BYTES)))
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
mod tests;
