//! A Maitre server over gRPC as a target.

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use maitre_proto::v1::admin_service_client::AdminServiceClient;
use maitre_proto::v1::generation_service_client::GenerationServiceClient;
use maitre_proto::v1::stream_generate_request::Input;
use maitre_proto::v1::stream_generate_response::Event;
use maitre_proto::v1::{
    Finished, GetLoadRequest, GetModelRequest, SamplingParams, StoppingParams,
    StreamGenerateRequest, StreamGenerateResponse, TokenIds, TokenizeRequest,
};
use tonic::transport::{Channel, Endpoint};

use tonic_types::StatusExt;

use super::openai::MetricsPage;
use super::{STATE_TIMEOUT, TOKENIZE_TIMEOUT, in_time};
use crate::{
    Arrival, BenchError, BenchRequest, ModelFacts, RequestError, ServerState, ServerTimes, Target,
    TokenStream,
};

/// Connections to spread the users over: an HTTP/2 server may allow no more than about 100 streams
/// on each (RFC 9113, section 6.5.2), and users beyond that would wait inside the client.
const CONNECTIONS: usize = 8;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// `GenerationService.StreamGenerate` of a running server.
#[derive(Debug)]
pub struct GrpcTarget {
    address: String,
    clients: Vec<GenerationServiceClient<Channel>>,
    admin: AdminServiceClient<Channel>,
    metrics: Option<MetricsPage>,
    next: AtomicUsize,
    model: ModelFacts,
}

impl GrpcTarget {
    /// Connects to `HOST:PORT` and asks what model is served there.
    ///
    /// # Errors
    /// [`BenchError::Connect`] if no server answers within five seconds, or not as Maitre does.
    pub async fn connect(authority: &str) -> Result<Self, BenchError> {
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, Self::connect_slowly(authority));
        connected.await.unwrap_or_else(|_| {
            Err(BenchError::Connect {
                address: format!("grpc://{authority}"),
                reason: format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()),
            })
        })
    }

    /// Reads what the server counts from this address, such as `http://HOST:PORT/metrics`. Without it there is what it says
    /// over gRPC, which leaves out its steps.
    ///
    /// # Errors
    /// [`BenchError::Connect`] for what is no address.
    pub fn with_metrics(mut self, address: &str) -> Result<Self, BenchError> {
        self.metrics = Some(MetricsPage::new(address)?);
        Ok(self)
    }

    async fn connect_slowly(authority: &str) -> Result<Self, BenchError> {
        let address = format!("grpc://{authority}");
        let failed = |reason: String| BenchError::Connect {
            address: address.clone(),
            reason,
        };
        let endpoint = Endpoint::from_shared(format!("http://{authority}"))
            .map_err(|error| failed(reason(&error)))?
            .connect_timeout(CONNECT_TIMEOUT);
        let mut admin = None;
        let mut clients = Vec::with_capacity(CONNECTIONS);
        for _ in 0..CONNECTIONS {
            let channel = endpoint
                .connect()
                .await
                .map_err(|error| failed(reason(&error)))?;
            admin = Some(AdminServiceClient::new(channel.clone()));
            clients.push(GenerationServiceClient::new(channel));
        }
        let mut client = clients[0].clone();
        let answer = client.get_model(GetModelRequest::default()).await;
        let answer = answer.map_err(|status| failed(status.to_string()))?;
        let model = answer
            .into_inner()
            .model
            .ok_or_else(|| failed("it names no model".into()))?;
        let model = ModelFacts {
            name: model.name,
            vocab_size: model.vocab_size as usize,
            max_model_len: model.max_model_len as usize,
        };
        Ok(Self {
            admin: admin.ok_or_else(|| failed("no connection".into()))?,
            metrics: None,
            address,
            clients,
            next: AtomicUsize::new(0),
            model,
        })
    }
}

impl Target for GrpcTarget {
    fn name(&self) -> String {
        self.address.clone()
    }

    fn model(&self) -> ModelFacts {
        self.model.clone()
    }

    fn tokenize(&self, text: &str) -> BoxFuture<'_, Result<Vec<u32>, RequestError>> {
        let mut client = self.clients[0].clone();
        let request = TokenizeRequest {
            text: text.to_owned(),
            ..Default::default()
        };
        async move {
            let answer = async { client.tokenize(request).await.map_err(failure) };
            let answer = in_time(TOKENIZE_TIMEOUT, answer).await?;
            Ok(answer.into_inner().token_ids)
        }
        .boxed()
    }

    fn state(&self) -> BoxFuture<'_, Option<ServerState>> {
        async move {
            if let Some(metrics) = &self.metrics {
                return metrics.state().await;
            }
            let mut admin = self.admin.clone();
            let request = GetLoadRequest::default();
            let load = async { admin.get_load(request).await.map_err(failure) };
            let load = in_time(STATE_TIMEOUT, load).await.ok()?.into_inner();
            let total = load.kv_total_blocks.max(1);
            Some(ServerState {
                running: Some(load.running.into()),
                waiting: Some((load.waiting + load.preempted_waiting).into()),
                kv_used: Some(f64::from(load.kv_used_blocks) / f64::from(total)),
                preemptions: Some(load.preemptions as f64),
                prefix_queries: Some(load.prefix_queries as f64),
                prefix_hits: Some(load.prefix_hits as f64),
                ..ServerState::default()
            })
        }
        .boxed()
    }

    fn start(&self, request: BenchRequest) -> BoxFuture<'_, Result<TokenStream, RequestError>> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let mut client = self.clients[turn % self.clients.len()].clone();
        async move {
            let answer = client
                .stream_generate(message(request))
                .await
                .map_err(failure)?;
            let arrivals = answer.into_inner();
            Ok(arrivals
                .map(|event| event.map(arrival_of).map_err(failure))
                .boxed())
        }
        .boxed()
    }
}

fn message(request: BenchRequest) -> StreamGenerateRequest {
    let length = u32::try_from(request.output_tokens).unwrap_or(u32::MAX);
    StreamGenerateRequest {
        input: Some(Input::TokenIds(TokenIds {
            ids: request.prompt,
        })),
        sampling: Some(SamplingParams {
            temperature: Some(0.0),
            ..Default::default()
        }),
        stopping: Some(StoppingParams {
            max_tokens: Some(length),
            ignore_eos: true,
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn arrival_of(message: StreamGenerateResponse) -> Arrival {
    match message.event {
        Some(Event::Delta(delta)) => delta.token_ids.len().into(),
        Some(Event::Finished(finished)) => end_of(&finished),
        _ => Arrival::default(),
    }
}

fn end_of(finished: &Finished) -> Arrival {
    let usage = finished.usage.as_ref();
    let times = finished.timings.as_ref().map(|times| {
        // A duration that is no time, such as a negative one, is none.
        let time = |sent: Option<prost_types::Duration>| {
            sent.and_then(|it| Duration::try_from(it).ok())
                .unwrap_or_default()
        };
        ServerTimes {
            queue: time(times.queue),
            ttft: time(times.ttft),
            tpot: time(times.tpot),
        }
    });
    Arrival {
        tokens: 0,
        cached_tokens: usage.map(|usage| usage.cached_prompt_tokens),
        server: times,
    }
}

fn failure(status: tonic::Status) -> RequestError {
    let reason = status.get_details_error_info();
    let reason = reason.map(|info| info.reason.to_ascii_lowercase());
    RequestError::new(screaming(&format!("{:?}", status.code())), status.message()).because(reason)
}

/// `ResourceExhausted`, as tonic prints a code, in the form of the gRPC specification.
fn screaming(camel: &str) -> String {
    let mut name = String::with_capacity(camel.len() + 4);
    for letter in camel.chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

/// What lies behind an error, in one line: tonic's own says only "transport error".
pub(crate) fn reason(error: &dyn Error) -> String {
    let causes = std::iter::successors(Some(error), |error| (*error).source());
    let mut parts: Vec<String> = causes.map(ToString::to_string).collect();
    parts.dedup();
    parts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_the_specification_s_names() {
        for (code, name) in [
            (tonic::Code::ResourceExhausted, "RESOURCE_EXHAUSTED"),
            (tonic::Code::Unavailable, "UNAVAILABLE"),
            (tonic::Code::InvalidArgument, "INVALID_ARGUMENT"),
        ] {
            assert_eq!(failure(tonic::Status::new(code, "")).code, name);
        }
    }
}
