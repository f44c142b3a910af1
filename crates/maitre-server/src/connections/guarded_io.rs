//! The bytes of one connection under two deadlines: until the client has said what it speaks, and until it takes what
//! is written to it. What an HTTP/2 client sends is read at a bounded pace ([`FramePace`]).
//!
//! An accepted connection is writable and, as far as `readable()` tells, often readable before its client has said
//! anything, so only bytes count. The deadlines are looked at where the connection's own task reads and writes: no
//! task of their own.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::connections::frame_pace::FramePace;
use crate::connections::half_close::{Exchange, HalfClose, INTERIM, Told};
use crate::service::registry::ConnectionState;

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Three bytes of length, one of type, one of flags, four of stream.
const FRAME_HEADER: usize = 9;
const SETTINGS: u8 = 4;

/// What a client has to send first.
#[derive(Debug)]
struct Opening {
    deadline: Pin<Box<Sleep>>,
    /// The preface and the header of the first frame, as far as they have come.
    first: Vec<u8>,
    /// Bytes of the first frame that are to come.
    payload: usize,
}

impl Opening {
    fn new(timeout: Duration) -> Self {
        Self {
            deadline: Box::pin(sleep(timeout)),
            first: Vec::with_capacity(PREFACE.len() + FRAME_HEADER),
            payload: 0,
        }
    }

    /// What follows the opening in `bytes`, if it is complete with them.
    fn learn<'a>(&mut self, mut bytes: &'a [u8]) -> io::Result<Option<&'a [u8]>> {
        let wanted = PREFACE.len() + FRAME_HEADER;
        if self.first.len() < wanted {
            let (taken, rest) = bytes.split_at(bytes.len().min(wanted - self.first.len()));
            self.first.extend_from_slice(taken);
            bytes = rest;
            let known = self.first.len().min(PREFACE.len());
            if self.first[..known] != PREFACE[..known] {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "not HTTP/2"));
            }
            if self.first.len() < wanted {
                return Ok(None);
            }
            let header = &self.first[PREFACE.len()..];
            if header[3] != SETTINGS {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the first frame is not SETTINGS",
                ));
            }
            self.payload = header[..3]
                .iter()
                .fold(0, |length, byte| length << 8 | usize::from(*byte));
        }
        let rest = bytes.split_at_checked(self.payload).map(|(_, rest)| rest);
        self.payload = self.payload.saturating_sub(bytes.len());
        Ok(rest)
    }
}

/// A stream that ends in an error when its client is too late.
#[derive(Debug)]
pub(crate) struct GuardedIo<S> {
    stream: S,
    state: Arc<ConnectionState>,
    opening: Option<Opening>,
    /// HTTP/2 only, from the end of the opening.
    pace: Option<FramePace>,
    /// HTTP/1 only.
    half_close: Option<HalfClose>,
    stall_timeout: Duration,
    /// Since the client stopped taking what is written.
    blocked: Option<Pin<Box<Sleep>>>,
}

impl<S> GuardedIo<S> {
    /// A stream on which HTTP/2 has to begin within `handshake_timeout`.
    pub(crate) fn http2(
        stream: S,
        state: Arc<ConnectionState>,
        handshake_timeout: Duration,
        stall_timeout: Duration,
    ) -> Self {
        Self {
            opening: Some(Opening::new(handshake_timeout)),
            ..Self::new(stream, state, stall_timeout)
        }
    }

    /// A stream of HTTP/1, whose library has a deadline of its own for what comes in.
    pub(super) fn http1(
        stream: S,
        state: Arc<ConnectionState>,
        stall_timeout: Duration,
        exchange: Arc<Exchange>,
    ) -> Self {
        Self {
            half_close: Some(HalfClose::new(exchange)),
            ..Self::new(stream, state, stall_timeout)
        }
    }

    fn new(stream: S, state: Arc<ConnectionState>, stall_timeout: Duration) -> Self {
        Self {
            stream,
            state,
            opening: None,
            pace: None,
            half_close: None,
            stall_timeout,
            blocked: None,
        }
    }

    /// Passes on how many bytes were written, and credits them.
    fn wrote(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let (Some(pace), Poll::Ready(Ok(bytes))) = (&mut self.pace, &written) {
            pace.wrote(*bytes);
        }
        if let (Some(half_close), Poll::Ready(Ok(_))) = (&mut self.half_close, &written) {
            half_close.wrote();
        }
        self.in_time(context, written)
    }

    /// Passes on what a write came to; one that makes no progress for too long fails.
    fn in_time<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.blocked = None;
            return written;
        }
        let timeout = self.stall_timeout;
        let blocked = self.blocked.get_or_insert_with(|| Box::pin(sleep(timeout)));
        ready!(blocked.as_mut().poll(context));
        crate::metrics::connection_closed("stalled");
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client does not read",
        )))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> GuardedIo<S> {
    /// Reads from a client that may close its sending side before it has its answer.
    fn poll_read_until_answered(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self {
            stream, half_close, ..
        } = self;
        let Some(half_close) = half_close else {
            return Pin::new(stream).poll_read(context, buffer);
        };
        if !half_close.is_held() {
            let (before, space) = (buffer.filled().len(), buffer.remaining());
            ready!(Pin::new(&mut *stream).poll_read(context, buffer))?;
            if buffer.filled().len() > before || space == 0 {
                return Poll::Ready(Ok(()));
            }
            half_close.ended();
        }
        while let Told::Ask = ready!(half_close.poll_told(context)) {
            let asked = Pin::new(&mut *stream).poll_write(context, INTERIM);
            match asked {
                Poll::Ready(Ok(written)) if written == INTERIM.len() => {}
                Poll::Ready(Err(gone)) => return Poll::Ready(Err(gone)),
                // There is no space for so little: what came before is not read.
                Poll::Pending => {}
                Poll::Ready(Ok(_)) => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for GuardedIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = &mut *self;
        if let Some(pace) = &mut me.pace {
            ready!(pace.poll_ready(context));
        }
        let before = buffer.filled().len();
        let read = me.poll_read_until_answered(context, buffer);
        if let (Some(pace), true) = (&mut me.pace, read.is_ready()) {
            pace.read(&buffer.filled()[before..]);
        }
        let Some(opening) = &mut me.opening else {
            return read;
        };
        if read.is_pending() {
            ready!(opening.deadline.as_mut().poll(context));
            crate::metrics::connection_closed("handshake");
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the client has not said that it speaks HTTP/2",
            )));
        }
        ready!(read)?;
        if let Some(frames) = opening.learn(&buffer.filled()[before..])? {
            let mut pace = FramePace::new(Arc::clone(&me.state));
            pace.read(frames);
            me.pace = Some(pace);
            me.opening = None;
            me.state.opened();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for GuardedIo<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.wrote(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        if let (Some(half_close), Poll::Ready(Ok(()))) = (&mut self.half_close, &flushed) {
            half_close.flushed();
        }
        match flushed {
            // TCP has nothing to flush: that says nothing about whether the client reads.
            Poll::Ready(_) => flushed,
            Poll::Pending => self.in_time(context, flushed),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.stream).poll_shutdown(context);
        self.in_time(context, closed)
    }
}
