//! What stands around the API itself: health, reflection, metrics.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::test_server::{TestServer, short_request, soon};

const GENERATION: &str = "maitre.v1.GenerationService";
const ADMIN: &str = "maitre.v1.AdminService";

/// The whole answer to a GET, headers included.
pub(crate) async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn every_service_is_healthy_and_an_unknown_one_is_not_found() {
    let served = TestServer::open().await;
    let mut health = HealthClient::new(served.channel.clone());
    for service in ["", GENERATION, ADMIN] {
        let request = HealthCheckRequest {
            service: service.into(),
        };
        let status = health.check(request).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving, "{service:?}");
    }
    let request = HealthCheckRequest {
        service: "maitre.v1.Nothing".into(),
    };
    assert_eq!(
        health.check(request).await.unwrap_err().code(),
        tonic::Code::NotFound
    );
    for path in ["/health", "/health/live", "/health/ready"] {
        let answer = get(served.http, path).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
    assert!(
        get(served.http, "/nothing")
            .await
            .starts_with("HTTP/1.1 404")
    );
}

/// The server itself is up; it is the engine that says it can't serve.
#[tokio::test(flavor = "multi_thread")]
async fn readiness_is_the_engines() {
    let served = TestServer::open().await;
    let mut health = HealthClient::new(served.channel.clone());
    let service = || HealthCheckRequest {
        service: GENERATION.into(),
    };
    let mut watch = health.watch(service()).await.unwrap().into_inner();
    let seen = watch.message().await.unwrap().unwrap();
    assert_eq!(seen.status(), ServingStatus::Serving);
    served.engine.drain(std::time::Duration::ZERO).await;
    let seen = soon(watch.message()).await.unwrap().unwrap();
    assert_eq!(seen.status(), ServingStatus::NotServing);
    for (path, status) in [
        ("/health", 503),
        ("/health/ready", 503),
        ("/health/live", 200),
    ] {
        let answer = get(served.http, path).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{path}: {answer}"
        );
    }
}

/// Lists services and finds a symbol, in either version of the protocol.
macro_rules! reflection_test {
    ($name:ident, $version:ident) => {
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            use tonic_reflection::pb::$version::ServerReflectionRequest;
            use tonic_reflection::pb::$version::server_reflection_client::ServerReflectionClient;
            use tonic_reflection::pb::$version::server_reflection_request::MessageRequest;
            use tonic_reflection::pb::$version::server_reflection_response::MessageResponse;
            let served = TestServer::open().await;
            let ask = |request| ServerReflectionRequest {
                host: String::new(),
                message_request: Some(request),
            };
            let questions = tokio_stream::iter([
                ask(MessageRequest::ListServices(String::new())),
                ask(MessageRequest::FileContainingSymbol(
                    "maitre.v1.GenerateRequest".into(),
                )),
            ]);
            let mut client = ServerReflectionClient::new(served.channel.clone());
            let mut answers = client
                .server_reflection_info(questions)
                .await
                .unwrap()
                .into_inner();

            let answer = answers
                .message()
                .await
                .unwrap()
                .unwrap()
                .message_response
                .unwrap();
            let MessageResponse::ListServicesResponse(services) = answer else {
                panic!("not a list: {answer:?}");
            };
            let names: Vec<String> = services.service.into_iter().map(|s| s.name).collect();
            for name in [GENERATION, ADMIN, "grpc.health.v1.Health"] {
                assert!(
                    names.iter().any(|listed| listed == name),
                    "{name} not in {names:?}"
                );
            }
            let answer = answers
                .message()
                .await
                .unwrap()
                .unwrap()
                .message_response
                .unwrap();
            assert!(
                matches!(answer, MessageResponse::FileDescriptorResponse(_)),
                "{answer:?}"
            );
        }
    };
}

reflection_test!(reflection_v1_describes_the_services, v1);
reflection_test!(reflection_v1alpha_describes_the_services, v1alpha);

#[tokio::test(flavor = "multi_thread")]
async fn calls_and_tokens_are_counted() {
    let served = TestServer::open().await;
    let answer = served
        .generation()
        .generate(short_request("Hello"))
        .await
        .unwrap()
        .into_inner();
    assert!(answer.answers[0].usage.unwrap().completion_tokens > 0);
    let unknown = maitre_proto::v1::GetModelRequest {
        model: "gpt-7".into(),
    };
    assert!(served.generation().get_model(unknown).await.is_err());
    served.until_empty().await;
    // The end of a call is counted when its last frame has been handed over, which the client
    // may see first.
    let counted = async {
        loop {
            let text = get(served.http, "/metrics").await;
            if text.contains(r#"method="maitre.v1.GenerationService/GetModel",code="NOT_FOUND""#) {
                return text;
            }
        }
    };
    let text = soon(counted).await;
    for expected in [
        r#"maitre_grpc_requests_total{method="maitre.v1.GenerationService/Generate",code="OK"}"#,
        r#"maitre_grpc_request_seconds_bucket{method="maitre.v1.GenerationService/Generate",le="0.001"}"#,
        "maitre_grpc_requests_in_progress",
        "maitre_requests_finished_total",
        "maitre_generation_tokens_total",
        "maitre_time_to_first_token_seconds_bucket",
        "maitre_kv_blocks_total",
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        "vllm:kv_cache_usage_perc",
        "vllm:time_to_first_token_seconds_bucket",
        "vllm:e2e_request_latency_seconds_bucket",
        "vllm:request_queue_time_seconds_bucket",
    ] {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
    assert!(
        text.contains("content-type: text/plain; version=0.0.4"),
        "{text}"
    );
}
