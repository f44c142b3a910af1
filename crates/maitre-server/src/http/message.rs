//! A request's message: the bytes of its body, no more than a message may have.

use axum::body::Body;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, Method};
use futures_util::StreamExt as _;
use hyper::body::Body as _;

use crate::service::api_error::{ApiError, Kind};

/// Reasons that only HTTP has a status for.
pub(crate) const TOO_LARGE: &str = "MESSAGE_TOO_LARGE";
pub(crate) const NOT_JSON_TYPE: &str = "UNSUPPORTED_MEDIA_TYPE";
pub(crate) const ENCODED: &str = "UNSUPPORTED_ENCODING";
pub(crate) const UNKNOWN_PATH: &str = "UNKNOWN_PATH";
pub(crate) const UNKNOWN_METHOD: &str = "METHOD_NOT_ALLOWED";

/// The whole body, of at most `most` bytes.
///
/// # Errors
///
/// It is longer; it came too late or had to make way; its client went away.
pub(crate) async fn read(body: Body, most: usize) -> Result<Vec<u8>, ApiError> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > most {
        return Err(too_large(announced, most));
    }
    let mut message = Vec::with_capacity(announced);
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| match error.into_inner().downcast::<ApiError>() {
            Ok(refusal) => *refusal,
            Err(error) => {
                let message = format!("the request's body ended early: {error}");
                ApiError::new(Kind::Cancelled, "CANCELLED", message)
            }
        })?;
        let length = message.len() + piece.len();
        if length > most {
            return Err(too_large(length, most));
        }
        message.extend_from_slice(&piece);
    }
    Ok(message)
}

fn too_large(found: usize, most: usize) -> ApiError {
    let message = format!(
        "the request has {found} bytes or more; at most {most} are taken; send a smaller request"
    );
    ApiError::new(Kind::Full, TOO_LARGE, message)
}

/// A page of another site can make a browser send text to this server, but not JSON; so what is not declared as JSON
/// is not read. Nor is what is compressed.
///
/// # Errors
///
/// The body is declared as something else, or as nothing; or it is encoded.
pub(crate) fn require_json(headers: &HeaderMap) -> Result<(), ApiError> {
    for encoding in headers.get_all(CONTENT_ENCODING) {
        let encoding = String::from_utf8_lossy(encoding.as_bytes());
        let is_plain =
            |it: &str| it.trim().is_empty() || it.trim().eq_ignore_ascii_case("identity");
        if !encoding.split(',').all(is_plain) {
            let message = format!(
                "the content-encoding is {encoding:?}; this server takes requests as they are: leave the header out and send the JSON uncompressed"
            );
            return Err(ApiError::new(Kind::Invalid, ENCODED, message));
        }
    }
    let declared = headers.get(CONTENT_TYPE).and_then(|it| it.to_str().ok());
    let kind = declared.and_then(|it| it.split(';').next());
    let kind = kind.unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let found = match kind {
        "" => "no content-type is given".to_owned(),
        kind => format!("the content-type is {kind:?}"),
    };
    let message = format!("{found}; send JSON with the header \"content-type: application/json\"");
    Err(ApiError::new(Kind::Invalid, NOT_JSON_TYPE, message))
}

/// A path that this server does not have.
pub(crate) fn unknown_path(path: &str) -> ApiError {
    let message =
        format!("this server has no path {path:?}; /openapi.json lists those that there are");
    ApiError::new(Kind::Invalid, UNKNOWN_PATH, message)
}

/// A method that a path does not have.
pub(crate) fn unknown_method(method: &Method, path: &str) -> ApiError {
    let message = format!("{path} does not take {method}; /openapi.json lists what is taken");
    ApiError::new(Kind::Invalid, UNKNOWN_METHOD, message)
}
