//! Accepting connections and serving them until told to close.
//!
//! The HTTP/2 settings are ours rather than a framework's: how many streams a connection may have,
//! how much a slow reader's stream may buffer, when a silent peer counts as gone. Pings from
//! clients, idle or not, are answered and never held against them. Floods of resets and of
//! CONTINUATION frames are ended by the library's own limits; floods of other frames are read slowly.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::rt::bounds::Http2ServerConnExec;
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::service::limits::Limits;
use crate::service::registry::{ConnectionState, Member, Registry};
use guarded_io::GuardedIo;
use half_close::{Answering, Arriving, Exchange};
use streams::Streams;

pub(crate) mod answer_body;
mod frame_pace;
mod guarded_io;
mod half_close;
#[cfg(test)]
mod half_close_tests;
#[cfg(test)]
mod http1_tests;
pub(crate) mod request_body;
pub(crate) mod streams;
#[cfg(test)]
mod tests;

/// Streams (calls) one connection may have open.
const MAX_STREAMS_PER_CONNECTION: u32 = 1024;
/// Bytes of a request stream, and of a connection, that may be under way unread.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// Bytes that may wait for a slow reader before its stream is no longer polled.
const SEND_BUFFER_BYTES: usize = 64 << 10;
/// Bytes of a request's headers, uncompressed.
const MAX_HEADER_BYTES: u32 = 16 << 10;
/// Bytes of a plain HTTP connection that may wait to be understood, or to be read by the client.
const HTTP_BUFFER_BYTES: usize = 16 << 10;
/// Streams that a client may reset before the server has looked at them.
const MAX_PENDING_RESETS: usize = 20;
/// Streams that the server may reset because of the client's errors.
const MAX_ERROR_RESETS: usize = 1024;
/// A peer that has been silent this long is asked whether it is still there ...
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// ... and has this long to answer.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// An HTTP/1 connection may be idle this long between two requests: longer than the minute after which load balancers
/// and clients drop connections themselves, so that a request seldom meets a connection that is being closed.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// A pause after `accept` itself fails, as it does when file descriptors run out.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// A connection that has to make way has this long to say so to its client.
const LEAVING: Duration = Duration::from_millis(500);

/// Becomes true when connections should finish what they do and close.
pub(crate) type Closing = watch::Receiver<bool>;

/// Accepts until `closing`, then waits for the connections. When `limit` are open, the idlest makes way for a new
/// one. Dropping the future cuts them all.
pub(crate) async fn accept<F>(
    listener: TcpListener,
    limit: usize,
    mut closing: Closing,
    mut serve: impl FnMut(TcpStream, Arc<ConnectionState>) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let registry = Arc::new(Registry::new(limit));
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            () = told(&mut closing) => break,
            Some(_ended) = open.join_next() => {}
            accepted = listener.accept(), if registry.accepts() => match accepted {
                Ok((stream, peer)) => admit(&mut open, &registry, stream, peer, &mut serve),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }
    drop(listener);
    while open.join_next().await.is_some() {}
}

fn admit<F>(
    open: &mut JoinSet<()>,
    registry: &Arc<Registry>,
    stream: TcpStream,
    peer: SocketAddr,
    serve: &mut impl FnMut(TcpStream, Arc<ConnectionState>) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    // A token is a small frame that must not wait for the acknowledgement of the one before.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection was gone before it was served");
        return;
    }
    // HTTP/1 has no ping: a client that vanished without a word, while its request waits, is noticed by TCP.
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_INTERVAL)
        .with_interval(KEEPALIVE_INTERVAL / 2);
    if let Err(error) = SockRef::from(&stream).set_tcp_keepalive(&keepalive) {
        tracing::debug!(%error, "a connection's peer is not asked whether it is there");
    }
    let member = registry.enter(peer);
    let serving = serve(stream, Arc::clone(&member.state));
    open.spawn(async move {
        let _member: Member = member;
        serving.await;
    });
}

/// When the connections of a server end.
#[derive(Debug, Clone)]
pub(crate) struct Ending {
    /// Clients are asked to leave.
    pub(crate) leaving: Closing,
    /// Connections close as soon as nothing is in progress.
    pub(crate) closing: Closing,
}

/// Serves HTTP/2 on one connection: its calls by `service`, their tasks by `streams`.
///
/// One that is open when clients are asked to leave, as a drain begins, is told so at once (GOAWAY): its
/// calls end as they would, and its client takes further ones to another server. One that is opened later
/// serves health checks and refusals until `closing`.
pub(crate) async fn serve_http2<IO, S, B>(
    stream: IO,
    state: Arc<ConnectionState>,
    (service, streams): (S, Streams),
    limits: Limits,
    ending: Ending,
) where
    IO: AsyncRead + AsyncWrite + Unpin,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
    Streams: Http2ServerConnExec<S::Future, B>,
{
    let came_late = *ending.leaving.borrow();
    let closing = if came_late {
        ending.closing
    } else {
        ending.leaving
    };
    let io = GuardedIo::http2(
        stream,
        Arc::clone(&state),
        limits.handshake_timeout,
        limits.stall_timeout,
    );
    let mut settings = http2::Builder::new(streams);
    settings
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS_PER_CONNECTION)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_ERROR_RESETS)
        .max_header_list_size(MAX_HEADER_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    let connection = pin!(settings.serve_connection(TokioIo::new(io), service));
    let finish = |connection: Pin<&mut http2::Connection<_, _, _>>| connection.graceful_shutdown();
    let served = until_closing(connection, finish, &state, closing);
    within_reserve(&state, &limits, served).await;
}

/// Serves HTTP/1 on one connection: its calls by `service`, which tells `streams` of each.
///
/// A client has to send its first request within the handshake timeout, and its next one within [`KEEP_ALIVE`]. One that
/// closes its sending side gets the answers to what it has sent (`half_close`).
pub(crate) async fn serve_http1<IO, S, B>(
    stream: IO,
    state: Arc<ConnectionState>,
    (service, streams): (S, Streams),
    limits: Limits,
    closing: Closing,
) where
    IO: AsyncRead + AsyncWrite + Unpin,
    S: Service<Request<Arriving<Incoming>>, Response = Response<B>, Error = Infallible>,
    B: Body + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let exchange = Arc::new(Exchange::default());
    let io = GuardedIo::http1(
        stream,
        Arc::clone(&state),
        limits.stall_timeout,
        Arc::clone(&exchange),
    );
    let mut settings = http1::Builder::new();
    settings
        .timer(TokioTimer::new())
        .max_buf_size(HTTP_BUFFER_BYTES)
        // Also bounds the time between two requests.
        .header_read_timeout(KEEP_ALIVE);
    let opening = Arc::clone(&state);
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        opening.opened();
        exchange.asked(request.version(), request.body().is_end_stream());
        let owed = Arc::clone(&exchange);
        let request = request.map(|body| Arriving::new(body, Arc::clone(&owed)));
        let answering = service.call(request);
        async move {
            let answer: Response<B> = answering.await?;
            Ok::<_, Infallible>(answer.map(|body| Answering::new(body, owed)))
        }
    });
    let connection = pin!(settings.serve_connection(TokioIo::new(io), service));
    let finish = |connection: Pin<&mut http1::Connection<_, _>>| connection.graceful_shutdown();
    let served = streams.one_at_a_time(until_closing(connection, finish, &state, closing));
    within_reserve(&state, &limits, opened_in_time(&state, &limits, served)).await;
}

/// Drives a connection whose client has to send its first request in time.
async fn opened_in_time(
    state: &ConnectionState,
    limits: &Limits,
    served: impl Future<Output = ()>,
) {
    let mut served = pin!(served);
    let first = tokio::time::timeout(limits.handshake_timeout, served.as_mut());
    if first.await.is_err() {
        if state.is_open() {
            served.await;
        } else {
            crate::metrics::connection_closed("handshake");
        }
    }
}

/// Bounds the life of a connection that was let in for a health check.
async fn within_reserve(
    state: &ConnectionState,
    limits: &Limits,
    served: impl Future<Output = ()>,
) {
    if !state.is_reserve {
        return served.await;
    }
    let _elapsed = tokio::time::timeout(limits.handshake_timeout, served).await;
}

/// Drives a connection to its end; once `closing`, to an end without further requests; once it has to leave, to an
/// end that comes soon.
async fn until_closing<C: Future<Output = hyper::Result<()>>>(
    mut connection: Pin<&mut C>,
    finish: impl Fn(Pin<&mut C>),
    state: &ConnectionState,
    mut closing: Closing,
) {
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = told(&mut closing) => {
            finish(connection.as_mut());
            connection.await
        }
        () = state.has_to_leave() => {
            if !state.is_open() {
                return;
            }
            finish(connection.as_mut());
            match tokio::time::timeout(LEAVING, connection).await {
                Ok(ended) => ended,
                Err(_elapsed) => return,
            }
        }
    };
    if let Err(error) = ended {
        // Clients come and go; how one left matters only to those who look for a fault.
        tracing::debug!(%error, "a connection ended in an error");
    }
}

/// Resolves when it is time to close; a server that is gone says the same.
async fn told(closing: &mut Closing) {
    let _ = closing.wait_for(|closing| *closing).await;
}
