//! HTTP/1.1 to one server: a connection for each request in flight, kept for the next.

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::RequestError;
use crate::target::grpc::reason;

/// The most of an answer that is no stream, and of an error.
const MOST_BYTES: usize = 16 << 20;

/// Where requests go.
#[derive(Debug)]
pub(super) struct Client {
    http: legacy::Client<HttpConnector, Full<Bytes>>,
    /// `http://HOST:PORT/v1`, without a slash at its end.
    base: String,
    authorization: Option<HeaderValue>,
}

impl Client {
    /// # Errors
    /// A key that no header can hold.
    pub(super) fn new(base: &str, api_key: Option<&str>) -> Result<Self, String> {
        let authorization = api_key.map(|key| {
            let mut value = HeaderValue::from_str(&format!("Bearer {key}"))
                .map_err(|_| "the API key has characters that no header can hold".to_owned())?;
            value.set_sensitive(true);
            Ok::<_, String>(value)
        });
        let mut connector = HttpConnector::new();
        // A request is one small write, and must not wait for another.
        connector.set_nodelay(true);
        Ok(Self {
            http: legacy::Client::builder(TokioExecutor::new()).build(connector),
            base: base.trim_end_matches('/').to_owned(),
            authorization: authorization.transpose()?,
        })
    }

    pub(super) async fn get(&self, path: &str) -> Result<Bytes, RequestError> {
        let answer = self.send(Method::GET, format!("{}{path}", self.base), None);
        collect(answer.await?).await
    }

    /// The answer to `GET` of a whole address.
    pub(super) async fn get_at(&self, address: &str) -> Result<Bytes, RequestError> {
        collect(self.send(Method::GET, address.to_owned(), None).await?).await
    }

    /// A question to `/tokenize`, which servers have beside `/v1`.
    pub(super) async fn tokenize(&self, question: &Value) -> Result<Bytes, RequestError> {
        let root = self.base.strip_suffix("/v1").unwrap_or(&self.base);
        let answer = self.send(Method::POST, format!("{root}/tokenize"), Some(question));
        collect(answer.await?).await
    }

    /// The bytes of an answer as they come.
    pub(super) async fn post(
        &self,
        path: &str,
        body: &Value,
    ) -> Result<BoxStream<'static, Result<Bytes, RequestError>>, RequestError> {
        let answer = self.send(Method::POST, format!("{}{path}", self.base), Some(body));
        let frames = answer.await?.into_body().into_data_stream();
        Ok(frames
            .map(|bytes| bytes.map_err(|error| unavailable(&error)))
            .boxed())
    }

    async fn send(
        &self,
        method: Method,
        address: String,
        body: Option<&Value>,
    ) -> Result<Response<Incoming>, RequestError> {
        let mut request = Request::builder().method(method).uri(address);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let bytes = match body {
            None => Bytes::new(),
            Some(body) => {
                request = request.header(CONTENT_TYPE, "application/json");
                Bytes::from(body.to_string())
            }
        };
        let request = request
            .body(Full::new(bytes))
            .map_err(|error| RequestError::new("INVALID_ARGUMENT", error.to_string()))?;
        let answer = self.http.request(request).await;
        let answer = answer.map_err(|error| unavailable(&error))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let code = code(answer.status());
        let status = answer.status();
        let body = collect(answer).await.unwrap_or_default();
        let message = format!("{status}: {}", message_in(&body));
        Err(RequestError::new(code, message).because(reason_in(&body)))
    }
}

/// What an error says for people.
fn message_in(body: &[u8]) -> String {
    let said = serde_json::from_slice::<Value>(body).ok();
    let said = said.as_ref().and_then(|body| {
        let error = body.get("error").unwrap_or(body);
        error.get("message").unwrap_or(error).as_str()
    });
    said.map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned)
}

/// What an error is more precisely: OpenAI's `code` where it is a word.
fn reason_in(body: &[u8]) -> Option<String> {
    let said = serde_json::from_slice::<Value>(body).ok()?;
    let code = said.get("error").unwrap_or(&said).get("code")?.as_str()?;
    Some(code.to_owned())
}

async fn collect(answer: Response<Incoming>) -> Result<Bytes, RequestError> {
    let limited = http_body_util::Limited::new(answer.into_body(), MOST_BYTES);
    let whole = limited.collect().await;
    whole
        .map(http_body_util::Collected::to_bytes)
        .map_err(|error| RequestError::new("UNAVAILABLE", error.to_string()))
}

fn unavailable(error: &dyn std::error::Error) -> RequestError {
    RequestError::new("UNAVAILABLE", reason(error))
}

/// The gRPC status that means the same, so that reports of all targets compare.
fn code(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 | 413 | 415 | 422 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        405 | 501 => "UNIMPLEMENTED",
        408 | 504 => "DEADLINE_EXCEEDED",
        409 => "ALREADY_EXISTS",
        429 => "RESOURCE_EXHAUSTED",
        502 | 503 => "UNAVAILABLE",
        _ => "INTERNAL",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_servers_are_told_in_their_words() {
        for (body, message) in [
            (r#"{"error": {"message": "full", "type": "x"}}"#, "full"),
            (r#"{"error": "full"}"#, "full"),
            (r#"{"object": "error", "message": "full"}"#, "full"),
            ("<html>full</html>", "<html>full</html>"),
            ("", ""),
        ] {
            assert_eq!(message_in(body.as_bytes()), message);
        }
    }

    #[test]
    fn a_key_that_is_no_header_is_refused() {
        assert!(Client::new("http://h:1", Some("a\nb")).is_err());
        assert!(Client::new("http://h:1", Some("sk-1")).is_ok());
    }
}
