//! Failures in OpenAI's shape: `{"error": {message, type, param, code}}`, with the status that its clients act on.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{ACCEPT_ENCODING, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, Response, StatusCode};
use maitre_engine::Violation;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::calls::Ends;
use crate::http::message::{ENCODED, NOT_JSON_TYPE, TOO_LARGE, UNKNOWN_METHOD, UNKNOWN_PATH};
use crate::service::api_error::{ApiError, Kind};
use crate::service::outcome::Outcome;

/// OpenAI's clients prefer it to `retry-after`, which counts in whole seconds.
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// A failure.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ErrorResponse {
    error: ErrorBody,
}

/// What failed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ErrorBody {
    /// What was found, what was expected, what to do.
    message: String,
    /// What kind of failure it is, such as `invalid_request_error`.
    r#type: &'static str,
    /// The field that is wrong, the first of them if there are several.
    param: Option<String>,
    /// A stable name that programs can tell failures apart by, such as `model_not_found`.
    code: Option<String>,
}

/// What engine and service say of a prompt or an answer that the context has no space for.
const BEYOND_THE_CONTEXT: [&str; 3] = [
    "leaves no space for an answer in",
    "has space for",
    "far more than a context of",
];

fn status(error: &ApiError) -> StatusCode {
    let http_only = match error.reason {
        TOO_LARGE => Some(StatusCode::PAYLOAD_TOO_LARGE),
        NOT_JSON_TYPE | ENCODED => Some(StatusCode::UNSUPPORTED_MEDIA_TYPE),
        UNKNOWN_PATH => Some(StatusCode::NOT_FOUND),
        UNKNOWN_METHOD => Some(StatusCode::METHOD_NOT_ALLOWED),
        _ => None,
    };
    let of_kind = || StatusCode::from_u16(error.kind.codes().http);
    http_only
        .map_or_else(of_kind, Ok)
        .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// OpenAI's name of what kind of failure it is.
fn type_name(error: &ApiError) -> &'static str {
    match error.kind {
        // Sent again, it is as large.
        Kind::Full if error.reason == TOO_LARGE => "invalid_request_error",
        Kind::Invalid | Kind::NotEnabled | Kind::Missed | Kind::Duplicate => {
            "invalid_request_error"
        }
        Kind::UnknownModel => "not_found_error",
        Kind::Unauthenticated => "authentication_error",
        Kind::Forbidden => "permission_error",
        Kind::Full => "rate_limit_error",
        Kind::Unavailable => "service_unavailable_error",
        Kind::DeadlineExceeded => "timeout_error",
        Kind::Cancelled => "cancelled_error",
        Kind::Internal => "server_error",
    }
}

/// What `param` and `code` are about: the first field that is wrong.
fn first(error: &ApiError) -> Option<&Violation> {
    error.violations.iter().find(|it| !it.field.is_empty())
}

/// The reason in OpenAI's way of writing; its own name where it has one for this.
fn code(error: &ApiError) -> String {
    let is_about_the_context = first(error).is_some_and(|violation| {
        let said = violation.description.as_str();
        BEYOND_THE_CONTEXT.iter().any(|words| said.contains(words))
    });
    if error.kind == Kind::Invalid && is_about_the_context {
        return "context_length_exceeded".to_owned();
    }
    error.reason.to_ascii_lowercase()
}

impl From<&ApiError> for ErrorResponse {
    fn from(error: &ApiError) -> Self {
        Self {
            error: ErrorBody {
                message: error.message.clone(),
                r#type: type_name(error),
                param: first(error).map(|violation| violation.field.clone()),
                code: Some(code(error)),
            },
        }
    }
}

fn json(error: &ApiError) -> String {
    // Texts and nothing else: it can't fail.
    serde_json::to_string(&ErrorResponse::from(error)).unwrap_or_default()
}

/// The answer to a call that failed before its answer began.
pub(crate) fn response(error: &ApiError) -> Response<Body> {
    let mut response = Response::new(Body::from(json(error)));
    *response.status_mut() = status(error);
    response
        .extensions_mut()
        .insert(Ends::Now(Outcome::from(error)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(delay) = error.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(delay)));
        let millis = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        headers.insert(RETRY_AFTER_MS, HeaderValue::from(millis));
    }
    if error.reason == ENCODED {
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    if error.kind == Kind::Unavailable {
        // A server that drains has no further answers on this connection; another server may.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Rounded up, as too early is of no use.
fn whole_seconds(delay: Duration) -> u64 {
    delay.as_secs() + u64::from(delay.subsec_nanos() > 0)
}

/// The last events of a stream that failed.
pub(crate) fn last_events(error: &ApiError) -> Bytes {
    Bytes::from(format!("data: {}\n\ndata: [DONE]\n\n", json(error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use maitre_engine::EngineError;

    #[test]
    fn a_full_queue_says_when_to_come_back() {
        let error: ApiError = EngineError::QueueFull {
            limit: 3,
            retry_after: Duration::from_millis(1200),
        }
        .into();
        let response = response(&error);
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["retry-after"], "2");
        assert_eq!(response.headers()["retry-after-ms"], "1200");
        assert!(
            json(&error).contains(r#""type":"rate_limit_error","param":null,"code":"queue_full""#)
        );
    }

    #[test]
    fn reasons_of_http_alone_have_their_own_status() {
        for (reason, expected) in [
            (TOO_LARGE, 413),
            (NOT_JSON_TYPE, 415),
            (ENCODED, 415),
            (UNKNOWN_PATH, 404),
            (UNKNOWN_METHOD, 405),
            ("INVALID_REQUEST", 400),
        ] {
            let error = ApiError::new(Kind::Invalid, reason, "");
            assert_eq!(status(&error), expected, "{reason}");
        }
    }

    /// A client that shortens its prompt at this code has to find the field that is too long.
    #[test]
    fn param_and_code_are_of_the_same_field() {
        let long = Violation::new("prompt", "leaves no space for an answer in a context of 9");
        let wrong = Violation::new("n", "is 0");
        let of = |violations| {
            let text = json(&ApiError::invalid(violations));
            let error: serde_json::Value = serde_json::from_str(&text).unwrap();
            let field = |name: &str| error["error"][name].as_str().unwrap().to_owned();
            (field("param"), field("code"))
        };
        let (first, second) = (of(vec![wrong.clone(), long.clone()]), of(vec![long, wrong]));
        assert_eq!(first, ("n".into(), "invalid_request".into()));
        assert_eq!(second, ("prompt".into(), "context_length_exceeded".into()));
    }
}
