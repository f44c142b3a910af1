//! Streams of server-sent events: `data: {…}`, an empty line, and at the end `data: [DONE]`.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue, Response};
use futures_util::{StreamExt as _, stream};
use maitre_engine::Event;
use serde::Serialize;

use super::error;
use super::generations::Events;
use crate::http::calls::{Ends, StreamEnd};
use crate::service::outcome::Outcome;
use crate::service::request_bytes::RequestBytes;

/// Tells nginx not to collect the answer before it passes it on.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Makes chunks of a response out of the engine's events.
pub(super) trait Chunks: Send + 'static {
    /// Writes what an event of this prompt is to the client.
    fn event(&mut self, prompt: usize, event: Event, out: &mut Written);

    /// Writes what follows the last event.
    fn end(&mut self, out: &mut Written);
}

/// Chunks as they are sent.
#[derive(Debug, Default)]
pub(super) struct Written(Vec<u8>);

impl Written {
    /// Adds a chunk.
    pub(super) fn chunk(&mut self, chunk: &impl Serialize) {
        let start = self.0.len();
        self.0.extend_from_slice(b"data: ");
        if let Err(failed) = serde_json::to_writer(&mut self.0, chunk) {
            tracing::warn!(%failed, "a chunk could not be written");
            self.0.truncate(start);
            return;
        }
        self.0.extend_from_slice(b"\n\n");
    }

    fn done(&mut self) {
        self.0.extend_from_slice(b"data: [DONE]\n\n");
    }

    /// What was written since this was last called.
    pub(super) fn take(&mut self) -> Bytes {
        Bytes::from(std::mem::take(&mut self.0))
    }
}

/// What a stream is at.
struct Streaming<C> {
    events: Events,
    chunks: C,
    written: Written,
    end: StreamEnd,
    is_over: bool,
    /// What the prompts take that the engine does not have yet.
    _held: Option<RequestBytes>,
}

impl<C: Chunks> Streaming<C> {
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        if self.is_over {
            return None;
        }
        let bytes = match self.events.next().await {
            Some(Ok((prompt, event))) => {
                self.chunks.event(prompt, event, &mut self.written);
                self.written.take()
            }
            Some(Err(failed)) => {
                self.is_over = true;
                self.end.ends_as(Outcome::from(&failed));
                error::last_events(&failed)
            }
            None => {
                self.is_over = true;
                self.chunks.end(&mut self.written);
                self.written.done();
                self.end.ends_as(Outcome::of_number(0));
                self.written.take()
            }
        };
        Some((Ok(bytes), self))
    }
}

/// The response that streams `events` as `chunks`. When its client goes away it is dropped, and the requests with it.
pub(super) fn response(
    events: Events,
    chunks: impl Chunks,
    held: Option<RequestBytes>,
) -> Response<Body> {
    let end = StreamEnd::new(error::last_events);
    let streaming = Streaming {
        events,
        chunks,
        written: Written::default(),
        end: end.clone(),
        is_over: false,
        _held: held,
    };
    let body = Body::from_stream(stream::unfold(streaming, Streaming::next));
    let mut response = Response::new(body);
    response.extensions_mut().insert(Ends::Later(end));
    for (name, value) in [
        (CONTENT_TYPE, "text/event-stream; charset=utf-8"),
        (CACHE_CONTROL, "no-cache"),
        (X_ACCEL_BUFFERING, "no"),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}
