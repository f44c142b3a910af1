//! `/openapi.json`: the API as the code has it.

use std::sync::OnceLock;

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Response};
use utoipa::OpenApi;

/// The document as it is sent.
pub(super) fn response() -> Response<Body> {
    static DOCUMENT: OnceLock<Bytes> = OnceLock::new();
    let document = DOCUMENT.get_or_init(|| {
        // A document is made of texts and lists: it can be written.
        Bytes::from(Document::openapi().to_json().unwrap_or_default())
    });
    let mut response = Response::new(Body::from(document.clone()));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

#[derive(OpenApi)]
struct Document;
