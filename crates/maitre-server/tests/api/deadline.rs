//! The gRPC deadline as a hostile or careless client may send it.

use maitre_proto::v1;
use tonic::Code;

use crate::raw::call;
use crate::test_server::{TestServer, long_request, reason, short_request};

const GENERATE: &str = "/maitre.v1.GenerationService/Generate";
const STREAM: &str = "/maitre.v1.GenerationService/StreamGenerate";

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_timeout_is_refused_rather_than_ignored() {
    let served = TestServer::open().await;
    for value in [
        &b""[..],
        b"5",
        b"S",
        b"5s",
        b"-1S",
        b"1.5S",
        b"123456789S",
        b"soon",
        b"\xff",
    ] {
        let header = [("grpc-timeout", value)];
        let (_, status) = call(served.grpc, GENERATE, &short_request("Hello"), &header).await;
        assert_eq!(
            status.code(),
            Code::InvalidArgument,
            "{value:?}: {status:?}"
        );
        assert_eq!(reason(&status), "MALFORMED_HEADER");
    }
    let twice = [("grpc-timeout", &b"1S"[..]), ("grpc-timeout", &b"2S"[..])];
    let (_, status) = call(served.grpc, GENERATE, &short_request("Hello"), &twice).await;
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_deadline_ends_the_call_before_it_begins() {
    let served = TestServer::open().await;
    for path in [
        GENERATE,
        "/maitre.v1.GenerationService/Tokenize",
        "/maitre.v1.AdminService/GetLoad",
    ] {
        let message = v1::GenerateRequest::default();
        let (_, status) = call(served.grpc, path, &message, &[("grpc-timeout", b"0n")]).await;
        assert_eq!(status.code(), Code::DeadlineExceeded, "{path}: {status:?}");
        assert_eq!(reason(&status), "DEADLINE_EXCEEDED");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_a_whole_answer_and_a_stream_alike() {
    let served = TestServer::open().await;
    let long = long_request("");
    let whole = v1::GenerateRequest {
        input: crate::test_server::prompt("Once upon a time"),
        stopping: long.stopping.clone(),
        ..Default::default()
    };
    let header = [("grpc-timeout", &b"150m"[..])];
    let (data, status) = call(served.grpc, GENERATE, &whole, &header).await;
    assert_eq!(
        (status.code(), data.len()),
        (Code::DeadlineExceeded, 0),
        "{status:?}"
    );
    assert_eq!(reason(&status), "DEADLINE_EXCEEDED");
    served.until_empty().await;

    let (data, status) = call(served.grpc, STREAM, &long, &header).await;
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert_eq!(reason(&status), "DEADLINE_EXCEEDED");
    assert!(!data.is_empty(), "what was generated in time has arrived");
    served.until_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_distant_deadline_is_no_trouble() {
    let served = TestServer::open().await;
    for value in [&b"1M"[..], b"99999999H"] {
        let header = [("grpc-timeout", value)];
        let (data, status) = call(served.grpc, GENERATE, &short_request("Hello"), &header).await;
        assert_eq!(status.code(), Code::Ok, "{status:?}");
        assert!(!data.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_requests_own_deadline_ends_it_the_same_way() {
    let served = TestServer::open().await;
    let mut request = long_request("");
    request.service = Some(v1::ServiceOptions {
        deadline: Some(prost_types::Duration {
            seconds: 0,
            nanos: 150_000_000,
        }),
        ..Default::default()
    });
    let (_, status) = call(served.grpc, STREAM, &request, &[]).await;
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    served.until_empty().await;
}
