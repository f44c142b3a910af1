//! Accepting connections and serving them until told to close.
//!
//! The HTTP/2 settings are ours rather than a framework's: how many streams a connection may have,
//! how much a slow reader's stream may buffer, when a silent peer counts as gone. Pings from
//! clients, idle or not, are answered and never held against them.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::calls::Calls;

/// Streams (calls) one connection may have open.
const MAX_STREAMS_PER_CONNECTION: u32 = 1024;
/// Bytes of a request stream, and of a connection, that may be under way unread.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// Bytes that may wait for a slow reader before its stream is no longer polled.
const SEND_BUFFER_BYTES: usize = 64 << 10;
/// A peer that has been silent this long is asked whether it is still there ...
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// ... and has this long to answer.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// A new connection has this long to say something.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(10);
/// A pause after `accept` itself fails, as it does when file descriptors run out.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Becomes true when connections should finish what they do and close.
pub(crate) type Closing = watch::Receiver<bool>;

/// Accepts until `closing`, then waits for the connections. At most `limit` are open; further
/// ones wait in the listener's backlog. Dropping the future cuts them all.
pub(crate) async fn accept<F>(
    listener: TcpListener,
    limit: usize,
    mut closing: Closing,
    mut serve: impl FnMut(TcpStream) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            () = told(&mut closing) => break,
            Some(_ended) = open.join_next() => {}
            accepted = listener.accept(), if open.len() < limit => match accepted {
                Ok((stream, _peer)) => {
                    open.spawn(serve(stream));
                }
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

/// Serves gRPC on one connection.
///
/// One that is open when clients are asked to leave, as a drain begins, is told so at once (GOAWAY): its
/// calls end as they would, and its client takes further ones to another server. One that is opened later
/// serves health checks and refusals until `closing`.
pub(crate) async fn serve_grpc(
    stream: TcpStream,
    calls: Calls,
    leaving: Closing,
    closing: Closing,
) {
    let came_late = *leaving.borrow();
    let closing = if came_late { closing } else { leaving };
    if let Err(error) = ready_to_read(&stream).await {
        tracing::debug!(%error, "a connection was given up before its first byte");
        return;
    }
    let mut settings = http2::Builder::new(TokioExecutor::new());
    settings
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS_PER_CONNECTION)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    let connection = pin!(settings.serve_connection(TokioIo::new(stream), calls));
    until_closing(
        connection,
        |connection| connection.graceful_shutdown(),
        closing,
    )
    .await;
}

/// Serves plain HTTP on one connection.
pub(crate) async fn serve_http(stream: TcpStream, router: Router, closing: Closing) {
    if let Err(error) = ready_to_read(&stream).await {
        tracing::debug!(%error, "a connection was given up before its first byte");
        return;
    }
    let mut settings = http1::Builder::new();
    settings
        .timer(TokioTimer::new())
        .header_read_timeout(FIRST_BYTE_TIMEOUT);
    let service = TowerToHyperService::new(router);
    let connection = pin!(settings.serve_connection(TokioIo::new(stream), service));
    until_closing(
        connection,
        |connection| connection.graceful_shutdown(),
        closing,
    )
    .await;
}

/// Drives a connection to its end; once `closing`, to an end without further requests.
async fn until_closing<C: Future<Output = hyper::Result<()>>>(
    mut connection: Pin<&mut C>,
    finish: impl FnOnce(Pin<&mut C>),
    mut closing: Closing,
) {
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = told(&mut closing) => {
            finish(connection.as_mut());
            connection.await
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

/// Waits for the first byte: an open connection that says nothing holds one of few places.
async fn ready_to_read(stream: &TcpStream) -> io::Result<()> {
    // A token is a small frame that must not wait for the acknowledgement of the one before.
    stream.set_nodelay(true)?;
    tokio::time::timeout(FIRST_BYTE_TIMEOUT, stream.readable())
        .await
        .map_err(|_elapsed| io::Error::from(io::ErrorKind::TimedOut))?
}
