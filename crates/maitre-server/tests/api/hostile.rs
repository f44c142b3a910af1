//! Clients that take places and memory and give nothing back, beside an honest one, over real sockets.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use maitre_proto::v1;
use prost::Message as _;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::raw::{framed, status_of};
use crate::test_server::{
    TestServer, connect, engine, long_request, reason, refused, short_request, soon,
};

const GENERATE: &str = "/maitre.v1.GenerationService/Generate";
const STREAM: &str = "/maitre.v1.GenerationService/StreamGenerate";
const ABORT: &str = "/maitre.v1.GenerationService/Abort";
const LOAD: &str = "/maitre.v1.AdminService/GetLoad";
const CHECK: &str = "/grpc.health.v1.Health/Check";
const WATCH: &str = "/grpc.health.v1.Health/Watch";

/// A connection whose streams have windows of `window` bytes.
async fn attacker(address: SocketAddr, window: u32) -> SendRequest<Body> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(window)
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

/// These bytes, and then nothing more.
fn unfinished(bytes: Vec<u8>) -> Body {
    // The library ends a connection of many empty DATA frames.
    let some = (!bytes.is_empty()).then(|| Ok::<_, Infallible>(Bytes::from(bytes)));
    let first = tokio_stream::iter(some);
    Body::from_stream(first.chain(tokio_stream::pending()))
}

fn call(path: &str, body: Body) -> Request<Body> {
    Request::post(format!("http://test{path}"))
        .header("content-type", "application/grpc")
        .body(body)
        .unwrap()
}

/// Opens `count` calls without a message; the set holds those that are not answered.
fn idle_calls(
    attacker: &mut SendRequest<Body>,
    path: &str,
    count: usize,
    held: &mut JoinSet<hyper::Result<Response<Incoming>>>,
) {
    for _ in 0..count {
        held.spawn(attacker.send_request(call(path, unfinished(Vec::new()))));
    }
}

/// The next of them that is answered.
async fn answered(held: &mut JoinSet<hyper::Result<Response<Incoming>>>) -> Status {
    status_of(soon(held.join_next()).await.unwrap().unwrap().unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_without_a_message_leave_places_to_others() {
    let served = TestServer::with(engine(), |server| server.max_calls(16)).await;
    let mut held = JoinSet::new();
    let mut attackers = Vec::new();
    for path in [GENERATE, ABORT, LOAD, CHECK] {
        for _ in 0..2 {
            let mut one = attacker(served.grpc, 65_535).await;
            idle_calls(&mut one, path, 300, &mut held);
            attackers.push(one);
        }
    }
    // Each connection was refused what is beyond its share, so its share is taken by then.
    for _ in 0..2 * (300 - 16) {
        let status = answered(&mut held).await;
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        let reason = reason(&status);
        assert!(reason.starts_with("TOO_MANY_CALLS"), "{reason}");
    }
    let honest = connect(served.grpc).await;
    let mut generation =
        v1::generation_service_client::GenerationServiceClient::new(honest.clone());
    generation.generate(short_request("Hello")).await.unwrap();
    let request_id = "unknown".to_owned();
    let abort = generation.abort(v1::AbortRequest {
        request_id,
        ..Default::default()
    });
    assert!(!abort.await.unwrap().into_inner().aborted);
    let mut admin = v1::admin_service_client::AdminServiceClient::new(honest.clone());
    admin.get_load(v1::GetLoadRequest {}).await.unwrap();
    admin
        .get_server_info(v1::GetServerInfoRequest {})
        .await
        .unwrap();
    let mut health = HealthClient::new(honest);
    health.check(HealthCheckRequest::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_does_not_come_ends_its_call() {
    let served = TestServer::with(engine(), |server| {
        server.request_timeout(Duration::from_millis(50))
    })
    .await;
    let mut one = attacker(served.grpc, 65_535).await;
    let half = framed(&short_request("Hello").encode_to_vec());
    let half = half[..half.len() - 1].to_vec();
    for (path, body) in [
        (GENERATE, vec![]),
        (GENERATE, half.clone()),
        (STREAM, half),
        (ABORT, vec![0, 0]),
        (WATCH, vec![]),
        ("/maitre.v1.AdminService/WatchCacheEvents", vec![]),
    ] {
        let answer = soon(one.send_request(call(path, unfinished(body)))).await;
        let status = status_of(answer.unwrap()).await;
        assert_eq!(status.code(), Code::DeadlineExceeded, "{path}: {status:?}");
        assert_eq!(reason(&status), "REQUEST_TIMEOUT", "{path}");
    }
    // A stream of requests may take its time; its client's deadline ends it.
    let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let mut request = call(reflection, unfinished(Vec::new()));
    let timeout = "200m".parse().unwrap();
    request.headers_mut().insert("grpc-timeout", timeout);
    let answer = soon(one.send_request(request)).await.unwrap();
    let status = status_of(answer).await;
    assert_eq!(reason(&status), "DEADLINE_EXCEEDED", "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_messages_share_a_budget() {
    let served = TestServer::with(engine(), |server| server.request_bytes(1_000_000)).await;
    let mut one = attacker(served.grpc, 65_535).await;
    let mut held = JoinSet::new();
    let mut message = vec![0, 0, 4, 0, 0];
    message.extend([0; 60_000]);
    for _ in 0..40 {
        held.spawn(one.send_request(call(GENERATE, unfinished(message.clone()))));
    }
    let status = answered(&mut held).await;
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert_eq!(reason(&status), "REQUEST_BYTES_FULL");
    let honest = served.generation().generate(short_request("Hello")).await;
    assert!(honest.is_ok(), "{honest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_read_is_ended_and_freed() {
    let served = TestServer::with(engine(), |server| {
        server.stall_timeout(Duration::from_millis(100))
    })
    .await;
    let mut one = attacker(served.grpc, 0).await;
    let mut answers = Vec::new();
    for path in [STREAM, GENERATE] {
        let mut request = long_request("");
        if path == GENERATE {
            request.stopping = short_request("").stopping;
        }
        // The two requests have the same fields.
        let body = Body::from(framed(&request.encode_to_vec()));
        answers.push(soon(one.send_request(call(path, body))).await.unwrap());
    }
    served.until_empty().await;
    let mut gone = 0;
    for answer in answers {
        gone += usize::from(crate::raw::try_status_of(answer).await.is_none());
    }
    assert_eq!(gone, 2, "they were reset");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_port_stays_reachable() {
    let served = TestServer::with(engine(), |server| server.max_connections(4)).await;
    for address in [served.grpc, served.http] {
        let mut silent = Vec::new();
        for _ in 0..8 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        // The first ones made way for the last ones.
        let closed = soon(silent[0].read_u8()).await;
        // HTTP/2 says its settings first.
        assert!(closed.is_err() || soon(silent[0].read_to_end(&mut Vec::new())).await.is_ok());
        let idle = [
            attacker(served.grpc, 0).await,
            attacker(served.grpc, 0).await,
        ];
        let mut health = HealthClient::new(connect(served.grpc).await);
        soon(health.check(HealthCheckRequest::default()))
            .await
            .unwrap();
        let answer = soon(crate::surroundings::get(served.http, "/health")).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        drop(idle);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_may_watch_few_things() {
    let served = TestServer::open().await;
    let channel = connect(served.grpc).await;
    let mut health = HealthClient::new(channel.clone());
    let mut watches = Vec::new();
    for _ in 0..16 {
        let mut watch = health
            .watch(HealthCheckRequest::default())
            .await
            .unwrap()
            .into_inner();
        watch.message().await.unwrap();
        watches.push(watch);
    }
    refused(
        health.watch(HealthCheckRequest::default()).await,
        Code::ResourceExhausted,
        "TOO_MANY_CALLS_ON_CONNECTION",
        &[],
    );
    health.check(HealthCheckRequest::default()).await.unwrap();
    let mut other = HealthClient::new(connect(served.grpc).await);
    assert!(other.watch(HealthCheckRequest::default()).await.is_ok());
    drop(watches);
    let again = async {
        while health.watch(HealthCheckRequest::default()).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    soon(again).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scores_of_a_prompt_need_memory_before_they_are_worked_out() {
    let bundled = &maitre_bundled::TARGET;
    let source = maitre_engine::ModelSource::Memory {
        name: bundled.name,
        files: bundled.files,
    };
    let engine = maitre_engine::Engine::builder(source)
        .threads(Some(1))
        .unread_bytes(Some(100_000))
        .build()
        .unwrap();
    let served = TestServer::with(engine, |server| server).await;
    let scored = |words: usize| {
        let mut request = short_request(&"word ".repeat(words));
        request.output = Some(v1::OutputOptions {
            prompt_logprobs: Some(20),
            ..Default::default()
        });
        request
    };
    refused(
        served.generation().generate(scored(100)).await,
        Code::InvalidArgument,
        "INVALID_REQUEST",
        &["output.prompt_logprobs"],
    );
    let answer = served.generation().generate(scored(2)).await.unwrap();
    assert!(answer.into_inner().answers[0].prompt_logprobs.len() > 1);
    served.until_empty().await;
}

/// A whole answer is in memory until it is complete.
#[tokio::test(flavor = "multi_thread")]
async fn a_whole_answer_needs_memory_while_it_grows() {
    let served = TestServer::with(engine(), |server| server.answer_bytes(5000)).await;
    let mut long = short_request("Once upon a time");
    long.stopping = long_request("").stopping;
    refused(
        served.generation().generate(long).await,
        Code::ResourceExhausted,
        "ANSWER_BYTES_FULL",
        &[],
    );
    served.until_empty().await;
    let mut stream = served.busy("read as it comes").await;
    for _ in 0..100 {
        stream.message().await.unwrap().unwrap();
    }
}
