//! A server in a test: opened with an engine of its own, closed when the test ends.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use maitre_engine::{Engine, Load, ModelSource};
use maitre_proto::v1;
use maitre_proto::v1::admin_service_client::AdminServiceClient;
use maitre_proto::v1::generation_service_client::GenerationServiceClient;
use maitre_server::{Listeners, Server, ServerError};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Far longer than anything takes: it bounds how long a broken server keeps a test waiting.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct TestServer {
    pub(crate) engine: Engine,
    pub(crate) channel: Channel,
    pub(crate) grpc: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) stop: oneshot::Sender<()>,
    pub(crate) served: JoinHandle<Result<(), ServerError>>,
}

/// The bundled model on one thread, with few sequences at once.
pub(crate) fn engine() -> Engine {
    let bundled = &maitre_bundled::TARGET;
    engine_of(ModelSource::Memory {
        name: bundled.name,
        files: bundled.files,
    })
}

pub(crate) fn engine_of(source: ModelSource) -> Engine {
    maitre_server::install_recorder();
    Engine::builder(source)
        .threads(Some(1))
        .max_seqs(8)
        .max_queue(16)
        .build()
        .unwrap()
}

impl TestServer {
    pub(crate) async fn open() -> Self {
        Self::with(engine(), |server| server).await
    }

    pub(crate) async fn with(engine: Engine, bounds: impl FnOnce(Server) -> Server) -> Self {
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let listeners = Listeners::bind(any_port, Some(any_port)).await.unwrap();
        let grpc = listeners.grpc_address();
        let http = listeners.http_address().unwrap();
        let server = bounds(Server::builder(engine.clone()));
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(server.serve(listeners, async {
            let _ = stopped.await;
        }));
        let channel = connect(grpc).await;
        Self {
            engine,
            channel,
            grpc,
            http,
            stop,
            served,
        }
    }

    pub(crate) fn generation(&self) -> GenerationServiceClient<Channel> {
        GenerationServiceClient::new(self.channel.clone())
    }

    pub(crate) fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel.clone())
    }

    /// Waits until the engine's load is as wanted: for a state, not for a time.
    pub(crate) async fn until(&self, wanted: impl Fn(&Load) -> bool) {
        let seen = async {
            while !wanted(&self.engine.load()) {
                tokio::task::yield_now().await;
            }
        };
        if tokio::time::timeout(PATIENCE, seen).await.is_err() {
            panic!(
                "after {PATIENCE:?} the load is still {:?}",
                self.engine.load()
            );
        }
    }

    /// Nothing in flight and not one block held.
    pub(crate) async fn until_empty(&self) {
        self.until(|load| {
            (
                load.running,
                load.waiting,
                load.in_flight,
                load.kv_used_blocks,
            ) == (0, 0, 0, 0)
        })
        .await;
    }

    /// Starts a request that runs for thousands of tokens, and returns once it has begun to answer.
    pub(crate) async fn busy(&self, id: &str) -> tonic::Streaming<v1::StreamGenerateResponse> {
        let mut stream = self
            .generation()
            .stream_generate(long_request(id))
            .await
            .unwrap()
            .into_inner();
        stream.message().await.unwrap().unwrap();
        stream
    }
}

/// What must come, but might never come if the server is broken.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("still waiting")
}

pub(crate) async fn connect(address: SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{address}"))
        .unwrap()
        .connect()
        .await
        .unwrap()
}

pub(crate) fn prompt(text: &str) -> Option<v1::generate_request::Input> {
    Some(v1::generate_request::Input::Text(text.to_owned()))
}

/// Greedy and short.
pub(crate) fn short_request(text: &str) -> v1::GenerateRequest {
    v1::GenerateRequest {
        input: prompt(text),
        sampling: Some(v1::SamplingParams {
            temperature: Some(0.0),
            ..Default::default()
        }),
        stopping: Some(v1::StoppingParams {
            max_tokens: Some(8),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The same request for the streaming call.
pub(crate) fn stream_of(request: v1::GenerateRequest) -> v1::StreamGenerateRequest {
    v1::StreamGenerateRequest {
        request_id: request.request_id,
        model: request.model,
        sampling: request.sampling,
        stopping: request.stopping,
        output: request.output,
        service: request.service,
        cache: request.cache,
        speculation: request.speculation,
        constraint: request.constraint,
        input: request.input.map(|input| match input {
            v1::generate_request::Input::Text(text) => {
                v1::stream_generate_request::Input::Text(text)
            }
            v1::generate_request::Input::TokenIds(ids) => {
                v1::stream_generate_request::Input::TokenIds(ids)
            }
        }),
    }
}

/// As long as the context allows.
pub(crate) fn long_request(id: &str) -> v1::StreamGenerateRequest {
    v1::StreamGenerateRequest {
        request_id: id.to_owned(),
        input: Some(v1::stream_generate_request::Input::Text(
            "Once upon a time".to_owned(),
        )),
        stopping: Some(v1::StoppingParams {
            ignore_eos: true,
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The reason in the status's `ErrorInfo`; every status of this server has one.
pub(crate) fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details
        .error_info()
        .unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!(info.domain, "maitre.dev");
    info.reason.clone()
}

/// The fields of the status's `BadRequest`, sorted.
pub(crate) fn fields(status: &Status) -> Vec<String> {
    let violations = status
        .get_details_bad_request()
        .map(|bad| bad.field_violations);
    let mut fields: Vec<String> = violations
        .into_iter()
        .flatten()
        .map(|violation| violation.field)
        .collect();
    fields.sort();
    fields
}

/// Checks code, reason and fields of a refusal.
pub(crate) fn refused<T: std::fmt::Debug>(
    result: Result<T, Status>,
    code: Code,
    expected_reason: &str,
    expected_fields: &[&str],
) {
    let status = result.expect_err("should have been refused");
    assert_eq!(status.code(), code, "{status:?}");
    assert_eq!(reason(&status), expected_reason, "{status:?}");
    assert_eq!(fields(&status), expected_fields, "{status:?}");
}
