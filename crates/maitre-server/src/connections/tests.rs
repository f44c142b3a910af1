//! Clients of bad manners on connections in memory, with a clock that is set forward: what ends them, and when.

use std::convert::Infallible;
use std::future::{Future, poll_fn, ready};
use std::pin::Pin;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, Response};
use futures_util::stream::{self, StreamExt as _};
use hyper::body::{Body as _, Incoming};
use hyper_util::rt::TokioExecutor;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tonic::service::Routes;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::*;
use crate::grpc::calls::Calls;
use crate::grpc::methods::Methods;
use crate::service::call_pools::Class;
use crate::service::limits::MAX_HEALTH_CHECKS;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// An empty SETTINGS frame.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const GENERATE: &str = "/maitre.v1.GenerationService/Generate";

/// Longer than anything takes: with this clock a test that waits for it fails at once.
const DAY: Duration = Duration::from_secs(24 * 3600);

struct Door {
    calls: Calls,
    limits: Limits,
    _open: watch::Sender<bool>,
    closing: Closing,
}

impl Door {
    /// Every call is answered by `router`.
    fn new(router: Router) -> Self {
        let limits = Limits::for_tests();
        let descriptors = [
            maitre_proto::FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
        ];
        let methods = Methods::from_descriptors(&descriptors).unwrap();
        let (open, closing) = watch::channel(false);
        Self {
            calls: Calls::for_tests(Routes::from(router), methods),
            limits,
            _open: open,
            closing,
        }
    }

    /// A connection with `buffer` bytes between client and server.
    fn grpc(&self, buffer: usize, is_reserve: bool) -> (DuplexStream, JoinHandle<Duration>) {
        let (client, server) = duplex(buffer);
        let state = Arc::new(ConnectionState::new(is_reserve, Arc::default()));
        let answered_by = self.calls.on_connection(Arc::clone(&state));
        let serving = serve_http2(
            server,
            state,
            answered_by,
            self.limits,
            Ending {
                leaving: self.closing.clone(),
                closing: self.closing.clone(),
            },
        );
        (client, timed(serving))
    }

    fn http(&self, router: Router, buffer: usize) -> (DuplexStream, JoinHandle<Duration>) {
        let (client, server) = duplex(buffer);
        let state = Arc::new(ConnectionState::new(false, Arc::default()));
        let service = TowerToHyperService::new(router);
        let answered_by = (service, Streams::default());
        let serving = serve_http1(
            server,
            state,
            answered_by,
            self.limits,
            self.closing.clone(),
        );
        (client, timed(serving))
    }

    /// A client whose streams have windows of `window` bytes.
    async fn client(&self, window: u32) -> Client {
        let (client, served) = self.grpc(1 << 20, false);
        connect(client, window, served).await
    }

    fn working(&self) -> usize {
        self.calls.service.taken(Class::Work)
    }
}

/// How long it runs.
fn timed(serving: impl Future<Output = ()> + Send + 'static) -> JoinHandle<Duration> {
    let began = Instant::now();
    tokio::spawn(async move {
        let _elapsed = tokio::time::timeout(DAY, serving).await;
        began.elapsed()
    })
}

struct Client {
    sender: hyper::client::conn::http2::SendRequest<Body>,
    served: JoinHandle<Duration>,
}

async fn connect(stream: DuplexStream, window: u32, served: JoinHandle<Duration>) -> Client {
    let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(window)
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    Client { sender, served }
}

impl Client {
    fn call(
        &mut self,
        path: &str,
        body: Body,
        timeout: Option<&str>,
    ) -> impl Future<Output = hyper::Result<Response<Incoming>>> + use<> {
        let mut request = Request::post(format!("http://test{path}"));
        request = request.header("content-type", "application/grpc");
        if let Some(timeout) = timeout {
            request = request.header("grpc-timeout", timeout);
        }
        self.sender.send_request(request.body(body).unwrap())
    }
}

/// The status of an answer, wherever it stands, or how the stream ended.
async fn status_of(response: Response<Incoming>) -> Result<Status, hyper::Error> {
    if let Some(status) = Status::from_header_map(response.headers()) {
        return Ok(status);
    }
    let mut body = response.into_body();
    let mut next = async || {
        let frame = poll_fn(|context| Pin::new(&mut body).poll_frame(context));
        tokio::time::timeout(DAY, frame)
            .await
            .expect("still waiting")
    };
    while let Some(frame) = next().await {
        if let Ok(trailers) = frame?.into_trailers() {
            return Ok(Status::from_header_map(&trailers).unwrap());
        }
    }
    panic!("an answer without a status");
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().unwrap().reason
}

/// Reads the whole request, as the generated services do, and answers with its size.
async fn read_all(request: axum::extract::Request) -> axum::response::Response {
    let status = match axum::body::to_bytes(request.into_body(), usize::MAX).await {
        Ok(bytes) => Status::ok(bytes.len().to_string()),
        // As the generated services find the status of a body.
        Err(error) => Status::from_error(error.into_inner()),
    };
    status.into_http()
}

fn data(bytes: &'static [u8]) -> Result<Bytes, Infallible> {
    Ok(Bytes::from_static(bytes))
}

/// An answer of these chunks, and then nothing more.
fn endless(chunks: Vec<Vec<u8>>) -> Router {
    Router::new().fallback(move || {
        let chunks = chunks
            .clone()
            .into_iter()
            .map(|chunk| Ok::<_, Infallible>(Bytes::from(chunk)));
        ready(Body::from_stream(
            stream::iter(chunks).chain(stream::pending()),
        ))
    })
}

async fn closes_after(said: &[&[u8]]) -> Duration {
    let door = Door::new(Router::new());
    let (mut client, served) = door.grpc(1 << 16, false);
    for bytes in said {
        client.write_all(bytes).await.unwrap();
        tokio::task::yield_now().await;
    }
    served.await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_client_has_ten_seconds_to_say_what_it_speaks() {
    let ten = Duration::from_secs(10);
    for said in [
        &[][..],
        &[&b"P"[..]],
        &[PREFACE],
        &[PREFACE, &SETTINGS[..8]],
        &[PREFACE, &[0, 0, 6, 4, 0, 0, 0, 0, 0], &[0, 3, 0]],
        &[&PREFACE[..5], &PREFACE[5..], &SETTINGS[..1]],
    ] {
        assert_eq!(closes_after(said).await, ten, "{said:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_http2_is_closed_at_once() {
    for said in [
        &[&b"GET / HTTP/1.1\r\n\r\n"[..]][..],
        &[&b"\x16\x03\x01"[..]],
        &[PREFACE, &[0, 0, 0, 6, 0, 0, 0, 0, 0]],
    ] {
        assert_eq!(closes_after(said).await, Duration::ZERO, "{said:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_client_stays_as_long_as_it_answers_pings() {
    let door = Door::new(Router::new().fallback(read_all));
    let mut client = door.client(65_535).await;
    sleep(Duration::from_secs(3600)).await;
    let answer = client.call(GENERATE, Body::empty(), None).await.unwrap();
    assert_eq!(status_of(answer).await.unwrap().code(), Code::Ok);
    let silent = closes_after(&[PREFACE, SETTINGS]).await;
    assert_eq!(silent, KEEPALIVE_INTERVAL + KEEPALIVE_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_does_not_come_ends_its_call() {
    let door = Door::new(Router::new().fallback(read_all));
    let mut client = door.client(65_535).await;
    let began = Instant::now();
    let nothing = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
    let trickled = Body::from_stream(stream::unfold((), |()| async {
        sleep(Duration::from_secs(1)).await;
        Some((data(b"."), ()))
    }));
    let calls = [nothing, trickled].map(|body| client.call(GENERATE, body, None));
    for call in calls {
        let status = status_of(call.await.unwrap()).await.unwrap();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
        assert_eq!(reason(&status), "REQUEST_TIMEOUT");
        assert_eq!(began.elapsed().as_secs(), 30);
    }
    sleep(Duration::from_millis(1)).await;
    assert_eq!((door.working(), door.calls.service.held().0.used()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn unfinished_requests_share_a_budget() {
    let door = Door::new(Router::new().fallback(read_all));
    let unfinished = |bytes: usize| {
        let first = stream::iter([Ok::<_, Infallible>(Bytes::from(vec![0; bytes]))]);
        Body::from_stream(first.chain(stream::pending()))
    };
    let mut client = door.client(65_535).await;
    // 27 % of 100,000 bytes is the most for one alone.
    let first = client.call(GENERATE, unfinished(20_000), None);
    let mut first = Box::pin(first);
    let soon = tokio::time::timeout(Duration::from_secs(1), first.as_mut());
    assert!(soon.await.is_err());
    assert_eq!(door.calls.service.held().0.used(), 20_000);
    let second = client.call(GENERATE, unfinished(28_000), None).await;
    let status = status_of(second.unwrap()).await.unwrap();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert_eq!(reason(&status), "REQUEST_BYTES_FULL");
    let small = Body::from(vec![0; 1000]);
    let third = client.call(GENERATE, small, None).await.unwrap();
    let status = status_of(third).await.unwrap();
    assert_eq!((status.code(), status.message()), (Code::Ok, "1000"));
    drop(first);
    drop(client);
    sleep(Duration::from_secs(1)).await;
    assert_eq!((door.working(), door.calls.service.held().0.used()), (0, 0));
}

/// What was read stays charged while nothing has been answered: it may still be in memory.
#[tokio::test(start_paused = true)]
async fn a_request_is_charged_until_its_answer_begins() {
    let slow = |request: axum::extract::Request| async {
        let answer = read_all(request).await;
        sleep(Duration::from_secs(5)).await;
        answer
    };
    let door = Door::new(Router::new().fallback(slow));
    let mut client = door.client(65_535).await;
    let call = client.call(GENERATE, Body::from(vec![0; 1000]), None);
    let call = tokio::spawn(call);
    sleep(Duration::from_secs(4)).await;
    assert_eq!(door.calls.service.held().0.used(), 1000);
    assert!(call.await.unwrap().is_ok());
    assert_eq!(door.calls.service.held().0.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_read_is_cut_off() {
    for window in [0, 1, 20_000] {
        let door = Door::new(endless(vec![vec![1; 100_000]]));
        let mut client = door.client(window).await;
        let answer = client.call(GENERATE, Body::empty(), None).await.unwrap();
        sleep(Duration::from_secs(29)).await;
        assert_eq!(door.working(), 1, "window {window}");
        assert_eq!(
            door.calls.service.held().1.used(),
            100_000 - u64::from(window) / 16_384 * 16_384
        );
        sleep(Duration::from_secs(2)).await;
        assert_eq!(
            (door.working(), door.calls.service.held().1.used()),
            (0, 0),
            "window {window}"
        );
        assert!(status_of(answer).await.is_err(), "it was reset");
        // Its connection lives on.
        let answer = client.call(GENERATE, Body::empty(), None).await;
        assert!(answer.is_ok());
    }
}

/// A complete answer that is not read is still a call in progress.
#[tokio::test(start_paused = true)]
async fn a_finished_answer_that_is_not_read_is_cut_off() {
    let door = Door::new(Router::new().fallback(|| ready(vec![1_u8; 50])));
    let mut client = door.client(0).await;
    let answer = client.call(GENERATE, Body::empty(), None).await.unwrap();
    sleep(Duration::from_secs(29)).await;
    assert_eq!(
        (door.working(), door.calls.service.held().1.used()),
        (1, 50)
    );
    sleep(Duration::from_secs(2)).await;
    assert_eq!((door.working(), door.calls.service.held().1.used()), (0, 0));
    drop(answer);
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_read_slowly_are_not_cut_off() {
    let door = Door::new(Router::new().fallback(|| ready(vec![1_u8; 50_000])));
    let mut client = door.client(16_384).await;
    let answer = client.call(GENERATE, Body::empty(), None).await.unwrap();
    let mut body = answer.into_body();
    let mut read = 0;
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        read += frame.unwrap().into_data().unwrap().len();
        sleep(Duration::from_secs(20)).await;
    }
    assert_eq!(read, 50_000);
    assert_eq!((door.working(), door.calls.service.held().1.used()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_an_answer_that_has_begun() {
    let began = Instant::now();
    for (path, class) in [
        (GENERATE, Class::Work),
        ("/maitre.v1.AdminService/WatchCacheEvents", Class::Watch),
        ("/grpc.health.v1.Health/Watch", Class::Watch),
    ] {
        let door = Door::new(endless(vec![vec![1; 10]]));
        let mut client = door.client(65_535).await;
        let answer = client.call(path, Body::empty(), Some("5S")).await.unwrap();
        let status = status_of(answer).await.unwrap();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{path}: {status:?}");
        assert_eq!(reason(&status), "DEADLINE_EXCEEDED");
        sleep(Duration::from_millis(1)).await;
        assert_eq!(door.calls.service.taken(class), 0);
        // Without a window there is no way to say so.
        let mut client = door.client(0).await;
        let answer = client.call(path, Body::empty(), Some("5S")).await.unwrap();
        sleep(Duration::from_millis(5990)).await;
        assert_eq!(door.calls.service.taken(class), 1);
        assert!(status_of(answer).await.is_err(), "{path}");
        sleep(Duration::from_millis(20)).await;
        assert_eq!(door.calls.service.taken(class), 0);
    }
    assert!(began.elapsed() < Duration::from_secs(34));
}

#[tokio::test(start_paused = true)]
async fn an_answer_beyond_the_budget_is_refused() {
    let door = Door::new(endless(vec![vec![1; 10], vec![1; 275_501]]));
    let mut client = door.client(65_535).await;
    let answer = client.call(GENERATE, Body::empty(), None).await.unwrap();
    let status = status_of(answer).await.unwrap();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert_eq!(reason(&status), "ANSWER_BYTES_FULL");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_takes_nothing_is_closed() {
    let door = Door::new(Router::new());
    let (mut client, served) = door.grpc(64, false);
    client.write_all(PREFACE).await.unwrap();
    client.write_all(SETTINGS).await.unwrap();
    // Each wants an answer.
    let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    let flood = async {
        while client.write_all(&ping).await.is_ok() {}
        std::future::pending::<()>().await
    };
    let closed = tokio::select! {
        closed = served => closed.unwrap(),
        () = flood => unreachable!(),
    };
    assert_eq!(closed, Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn a_reserved_connection_checks_health_and_goes() {
    let door = Door::new(Router::new().fallback(read_all));
    let (client, served) = door.grpc(1 << 20, true);
    let mut client = connect(client, 65_535, served).await;
    let answer = client.call(GENERATE, Body::empty(), None).await.unwrap();
    assert_eq!(
        reason(&status_of(answer).await.unwrap()),
        "TOO_MANY_CONNECTIONS"
    );
    let health = client.call("/grpc.health.v1.Health/Check", Body::empty(), None);
    let status = status_of(health.await.unwrap()).await.unwrap();
    assert_eq!(status.code(), Code::Ok, "{status:?}");
    assert_eq!(client.served.await.unwrap(), Duration::from_secs(10));
}

/// Many clients that do not read what they are told keep no other client from asking.
#[tokio::test(start_paused = true)]
async fn health_checks_whose_answers_are_not_read_make_way() {
    let door = Door::new(endless(vec![vec![0; 10]]));
    let check = "/grpc.health.v1.Health/Check";
    let mut held = Vec::new();
    for _ in 0..MAX_HEALTH_CHECKS {
        let mut client = door.client(0).await;
        let answer = client.call(check, Body::empty(), None).await.unwrap();
        assert!(Status::from_header_map(answer.headers()).is_none());
        held.push((client, answer));
    }
    let mut other = door.client(65_535).await;
    let answer = other.call(check, Body::empty(), None).await.unwrap();
    assert!(Status::from_header_map(answer.headers()).is_none());
    let (_client, oldest) = held.swap_remove(0);
    status_of(oldest).await.unwrap_err();
    assert_eq!(door.calls.service.taken(Class::Health), MAX_HEALTH_CHECKS);
}

fn site() -> Router {
    Router::new().fallback(|| ready("a".repeat(1000)))
}

#[tokio::test(start_paused = true)]
async fn http_requests_come_in_time() {
    let (door, ten) = (Door::new(Router::new()), Duration::from_secs(10));
    for said in [&b""[..], b"GET /", b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "] {
        let (mut client, served) = door.http(site(), 1 << 16);
        client.write_all(said).await.unwrap();
        assert_eq!(served.await.unwrap(), ten, "{said:?}");
    }
    let (mut client, served) = door.http(site(), 1 << 16);
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert!(answer.ends_with(b"aaa"));
    assert_eq!(served.await.unwrap(), KEEP_ALIVE, "idle after an answer");
}

#[tokio::test(start_paused = true)]
async fn pipelined_requests_whose_answers_are_not_read_end_their_connection() {
    let door = Door::new(Router::new());
    let (mut client, served) = door.http(site(), 256);
    let flood = async {
        while client
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .is_ok()
        {}
        std::future::pending::<()>().await
    };
    let closed = tokio::select! {
        closed = served => closed.unwrap(),
        () = flood => unreachable!(),
    };
    assert_eq!(closed, Duration::from_secs(30));
}
