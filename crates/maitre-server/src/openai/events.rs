//! Streams of server-sent events: `data: {…}`, an empty line, and at the end `data: [DONE]`.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue, Response};
use futures_util::{FutureExt as _, StreamExt as _, stream};
use maitre_engine::Event;
use serde::Serialize;

use super::error;
use super::generations::Events;
use crate::http::calls::{Ends, StreamEnd};
use crate::service::api_error::ApiError;
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

/// Events that are there at once are sent together, as long as they are no more bytes than this.
const TOGETHER_BYTES: usize = 16 << 10;

/// Chunks as they are sent.
#[derive(Debug, Default)]
pub(super) struct Written {
    bytes: Vec<u8>,
    /// What was written last, which the next will be about as long as.
    last: usize,
}

impl Written {
    /// Adds a chunk.
    pub(super) fn chunk(&mut self, chunk: &impl Serialize) {
        if self.bytes.is_empty() {
            self.bytes.reserve(self.last + self.last / 8);
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(b"data: ");
        if let Err(failed) = serde_json::to_writer(&mut self.bytes, chunk) {
            tracing::warn!(%failed, "a chunk could not be written");
            self.bytes.truncate(start);
            return;
        }
        self.bytes.extend_from_slice(b"\n\n");
    }

    fn done(&mut self) {
        self.bytes.extend_from_slice(b"data: [DONE]\n\n");
    }

    /// What was written since this was last called.
    pub(super) fn take(&mut self) -> Bytes {
        self.last = self.bytes.len();
        Bytes::from(std::mem::take(&mut self.bytes))
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
        while !self.is_over && self.written.bytes.is_empty() {
            let event = self.events.next().await;
            self.write(event);
            while !self.is_over && self.written.bytes.len() < TOGETHER_BYTES {
                let Some(event) = self.events.next().now_or_never() else {
                    break;
                };
                self.write(event);
            }
        }
        let bytes = self.written.take();
        Some((Ok(bytes), self))
    }

    /// Writes an event, or the end.
    fn write(&mut self, event: Option<Result<(usize, Event), ApiError>>) {
        match event {
            Some(Ok((prompt, event))) => self.chunks.event(prompt, event, &mut self.written),
            Some(Err(failed)) => {
                self.is_over = true;
                self.end.ends_as(Outcome::from(&failed));
                self.written
                    .bytes
                    .extend_from_slice(&error::last_events(&failed));
            }
            None => {
                self.is_over = true;
                self.chunks.end(&mut self.written);
                self.written.done();
                self.end.ends_as(Outcome::of_number(0));
            }
        }
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
