//! A server whose model is still loading: probes are answered, calls are told to come back.

use std::net::SocketAddr;
use std::time::Duration;

use maitre_server::{Listeners, Server, ServerError, Startup};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;

use crate::raw::{framed, send};
use crate::surroundings::get;
use crate::test_server::{connect, engine, reason, short_request, soon};

struct Starting {
    startup: Startup,
    grpc: SocketAddr,
    http: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<Result<(), ServerError>>,
}

impl Starting {
    async fn open() -> Self {
        maitre_server::install_recorder();
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let listeners = Listeners::bind(any_port, Some(any_port)).await.unwrap();
        let (grpc, http) = (listeners.grpc_address(), listeners.http_address().unwrap());
        let startup = Startup::new("downloading tiny/model: 3 B of 7 B");
        let (stop, stopped) = oneshot::channel::<()>();
        let server = Server::starting(&startup).serve(listeners, async {
            let _ = stopped.await;
        });
        Self {
            startup,
            grpc,
            http,
            stop,
            served: tokio::spawn(server),
        }
    }
}

/// The paths of all methods of the API.
fn methods() -> Vec<String> {
    let set = FileDescriptorSet::decode(maitre_proto::FILE_DESCRIPTOR_SET).unwrap();
    let ours = set.file.iter().filter(|file| file.package() == "maitre.v1");
    ours.flat_map(|file| &file.service)
        .flat_map(|service| {
            let name = |method: &prost_types::MethodDescriptorProto| {
                format!("/maitre.v1.{}/{}", service.name(), method.name())
            };
            service.method.iter().map(name)
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_are_answered_before_there_is_an_engine() {
    let starting = Starting::open().await;
    let live = get(starting.http, "/health/live").await;
    assert!(live.starts_with("HTTP/1.1 200"), "{live}");
    for path in ["/health", "/health/ready"] {
        let ready = get(starting.http, path).await;
        assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
        assert!(
            ready.contains("downloading tiny/model: 3 B of 7 B"),
            "{ready}"
        );
    }
    starting.startup.doing("loading tiny/model");
    let ready = get(starting.http, "/health/ready").await;
    assert!(ready.ends_with("loading tiny/model\n"), "{ready}");
    let metrics = get(starting.http, "/metrics").await;
    assert!(metrics.starts_with("HTTP/1.1 200"), "{metrics}");

    let mut health = HealthClient::new(connect(starting.grpc).await);
    for service in ["", "maitre.v1.GenerationService", "maitre.v1.AdminService"] {
        let service = service.to_owned();
        let answer = health.check(HealthCheckRequest { service }).await.unwrap();
        assert_eq!(answer.into_inner().status(), ServingStatus::NotServing);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_is_told_to_come_back() {
    let starting = Starting::open().await;
    let methods = methods();
    assert!(methods.len() > 10, "{methods:?}");
    for path in methods {
        // Whatever its message says: it is not looked at.
        for body in [framed(&[]), framed(&[0xff; 40])] {
            let (_, status) = send(starting.grpc, &path, body, &[]).await;
            assert_eq!(status.code(), Code::Unavailable, "{path}: {status:?}");
            assert_eq!(reason(&status), "MODEL_LOADING", "{path}");
            assert!(status.message().contains("downloading"), "{status:?}");
            let delay = status.get_details_retry_info().unwrap().retry_delay;
            assert!(delay.unwrap() > Duration::ZERO);
        }
    }
    let path = "/maitre.v1.GenerationService/Embed";
    let (_, status) = send(starting.grpc, path, framed(&[]), &[]).await;
    assert_eq!(reason(&status), "UNKNOWN_METHOD");

    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    let mut reflection = ServerReflectionClient::new(connect(starting.grpc).await);
    let question = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let answers = reflection.server_reflection_info(tokio_stream::iter([question]));
    let answer = answers.await.unwrap().into_inner().message().await.unwrap();
    assert!(answer.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn it_serves_on_the_same_connections_once_the_engine_is_there() {
    let starting = Starting::open().await;
    let channel = connect(starting.grpc).await;
    let mut health = HealthClient::new(channel.clone());
    let watch = health.watch(HealthCheckRequest::default()).await;
    let mut watch = watch.unwrap().into_inner();
    let seen = watch.message().await.unwrap().unwrap();
    assert_eq!(seen.status(), ServingStatus::NotServing);
    let mut client =
        maitre_proto::v1::generation_service_client::GenerationServiceClient::new(channel.clone());
    let refused = client.generate(short_request("Hello")).await.unwrap_err();
    assert_eq!(reason(&refused), "MODEL_LOADING");

    starting.startup.ready(engine());
    assert!(client.generate(short_request("Hello")).await.is_ok());
    let seen = soon(watch.message()).await.unwrap().unwrap();
    assert_eq!(seen.status(), ServingStatus::Serving);
    soon(starting.startup.announced()).await;
    let answer = health.check(HealthCheckRequest::default()).await.unwrap();
    assert_eq!(answer.into_inner().status(), ServingStatus::Serving);
    let ready = get(starting.http, "/health/ready").await;
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    let mut admin = maitre_proto::v1::admin_service_client::AdminServiceClient::new(channel);
    let info = admin.get_server_info(maitre_proto::v1::GetServerInfoRequest {});
    let limits = info.await.unwrap().into_inner().limits.unwrap();
    assert_eq!(
        limits.max_calls,
        8 + 16 + 256,
        "counted from the engine's own"
    );

    starting.startup.doing("loading again");
    let ready = get(starting.http, "/health/ready").await;
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_nothing_to_drain_before_there_is_an_engine() {
    let starting = Starting::open().await;
    let channel = connect(starting.grpc).await;
    let mut health = HealthClient::new(channel);
    health.check(HealthCheckRequest::default()).await.unwrap();
    starting.stop.send(()).unwrap();
    soon(starting.served).await.unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(starting.http).await.is_err());
}
