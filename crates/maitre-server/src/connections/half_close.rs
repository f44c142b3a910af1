//! A client of HTTP/1 that closes its sending side after its request, and still waits for the answer.
//!
//! A connection that was closed whole looks the same from here: in both cases nothing more comes. Only a write tells
//! them apart, as the system of a client that is gone answers it with a reset. So the end of what comes is held back
//! from the HTTP library while an answer is owed, and the client is sent what HTTP/1.1 allows before an answer, an
//! interim response (RFC 9110, 15.2). One that is gone is noticed at the next one. Once the answer has begun, its own
//! bytes are such writes.
//!
//! Clients of HTTP/1.0 know no interim responses: one that closes its sending side counts as gone.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::Version;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

/// Says that the request is being worked on.
pub(super) const INTERIM: &[u8] = b"HTTP/1.1 102 Processing\r\n\r\n";
/// Until a client that no longer sends is asked whether it is there, and asked again: a moment, in which short answers
/// are there; a moment later, in which the reset of one that is gone has come; then ever more seldom.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(50),
    Duration::from_secs(1),
    Duration::from_secs(15),
];

const NOTHING_OWED: u8 = 0;
/// A request is coming.
const RECEIVING: u8 = 1;
/// A whole request has come, and its answer is not complete.
const OWED: u8 = 2;

/// What a connection is at, as far as its bytes have to know.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    stage: AtomicU8,
    /// Whether the client knows interim responses.
    takes_interim: AtomicBool,
    /// Whether bytes of the answer that is owed were written.
    has_begun: AtomicBool,
    /// Waits for the answer's end.
    waiting: Mutex<Option<Waker>>,
}

impl Exchange {
    /// The head of a request has come.
    pub(super) fn asked(&self, version: Version, is_whole: bool) {
        let takes_interim = version == Version::HTTP_11;
        self.takes_interim.store(takes_interim, Ordering::Relaxed);
        self.has_begun.store(false, Ordering::Relaxed);
        let stage = if is_whole { OWED } else { RECEIVING };
        self.stage.store(stage, Ordering::Relaxed);
    }

    fn received(&self) {
        let order = Ordering::Relaxed;
        let _ = self.stage.compare_exchange(RECEIVING, OWED, order, order);
    }

    fn answered(&self) {
        self.stage.store(NOTHING_OWED, Ordering::Relaxed);
        self.wake();
    }

    fn wake(&self) {
        let waiting = self
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(waker) = waiting {
            waker.wake();
        }
    }
}

/// What the client sent is at its end, and the library does not know yet.
#[derive(Debug)]
struct Held {
    until: Pin<Box<Sleep>>,
    pauses: usize,
}

/// What the bytes of a connection say about its client.
#[derive(Debug)]
pub(super) struct HalfClose {
    exchange: Arc<Exchange>,
    held: Option<Held>,
    /// Bytes were written since the last flush.
    is_unflushed: bool,
}

/// What a reader of a connection is told whose client sends nothing more.
pub(super) enum Told {
    /// That it is so.
    End,
    /// First the client is sent [`INTERIM`].
    Ask,
}

impl HalfClose {
    pub(super) fn new(exchange: Arc<Exchange>) -> Self {
        Self {
            exchange,
            held: None,
            is_unflushed: false,
        }
    }

    /// Whether the end of what comes is known and held back.
    pub(super) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// The client sends nothing more.
    pub(super) fn ended(&mut self) {
        let until = Box::pin(sleep(PAUSES[0]));
        self.held.get_or_insert(Held { until, pauses: 0 });
    }

    /// What the library is told now of the end of what comes.
    pub(super) fn poll_told(&mut self, context: &mut Context<'_>) -> Poll<Told> {
        let Some(held) = &mut self.held else {
            return Poll::Ready(Told::End);
        };
        let exchange = &*self.exchange;
        *exchange
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(context.waker().clone());
        loop {
            let stage = exchange.stage.load(Ordering::Relaxed);
            if stage == NOTHING_OWED && !self.is_unflushed {
                return Poll::Ready(Told::End);
            }
            let takes_interim = exchange.takes_interim.load(Ordering::Relaxed);
            let has_begun = exchange.has_begun.load(Ordering::Relaxed);
            if stage == OWED && !takes_interim && !has_begun {
                return Poll::Ready(Told::End);
            }
            ready!(held.until.as_mut().poll(context));
            held.pauses += 1;
            let pause = PAUSES.get(held.pauses).or(PAUSES.last());
            let next = Instant::now() + pause.copied().unwrap_or_default();
            held.until.as_mut().reset(next);
            match stage {
                // What is missing of the request never comes.
                RECEIVING => return Poll::Ready(Told::End),
                OWED if !has_begun && !self.is_unflushed => return Poll::Ready(Told::Ask),
                _ => {}
            }
        }
    }

    /// Bytes were written.
    pub(super) fn wrote(&mut self) {
        self.is_unflushed = true;
        if self.exchange.stage.load(Ordering::Relaxed) == OWED {
            self.exchange.has_begun.store(true, Ordering::Relaxed);
        }
    }

    /// All bytes of the library's are written.
    pub(super) fn flushed(&mut self) {
        // Flushes without anything to flush are many.
        if std::mem::take(&mut self.is_unflushed) && self.held.is_some() {
            self.exchange.wake();
        }
    }
}

/// The body of a request, which says when it has come.
#[derive(Debug)]
pub(crate) struct Arriving<B> {
    inner: B,
    exchange: Arc<Exchange>,
}

impl<B> Arriving<B> {
    pub(super) fn new(inner: B, exchange: Arc<Exchange>) -> Self {
        Self { inner, exchange }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Arriving<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        if frame.is_none() || self.inner.is_end_stream() {
            self.exchange.received();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The body of an answer, with whose end nothing is owed.
#[derive(Debug)]
pub(super) struct Answering<B> {
    inner: B,
    exchange: Arc<Exchange>,
}

impl<B> Answering<B> {
    pub(super) fn new(inner: B, exchange: Arc<Exchange>) -> Self {
        Self { inner, exchange }
    }
}

impl<B> Drop for Answering<B> {
    fn drop(&mut self) {
        self.exchange.answered();
    }
}

impl<B: Body + Unpin> Body for Answering<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
