//! A Maitre server over gRPC as a target.

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use maitre_proto::v1::generation_service_client::GenerationServiceClient;
use maitre_proto::v1::stream_generate_request::Input;
use maitre_proto::v1::stream_generate_response::Event;
use maitre_proto::v1::{
    GetModelRequest, SamplingParams, StoppingParams, StreamGenerateRequest, StreamGenerateResponse,
    TokenIds, TokenizeRequest,
};
use tonic::transport::{Channel, Endpoint};

use crate::{BenchError, BenchRequest, ModelFacts, RequestError, Target, TokenStream};

/// Connections to spread the users over: an HTTP/2 server may allow no more than about 100 streams
/// on each (RFC 9113, section 6.5.2), and users beyond that would wait inside the client.
const CONNECTIONS: usize = 8;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// `GenerationService.StreamGenerate` of a running server.
#[derive(Debug)]
pub struct GrpcTarget {
    address: String,
    clients: Vec<GenerationServiceClient<Channel>>,
    next: AtomicUsize,
    model: ModelFacts,
}

impl GrpcTarget {
    /// Connects to `HOST:PORT` and asks what model is served there.
    ///
    /// # Errors
    /// [`BenchError::Connect`] if no server answers within five seconds, or not as Maitre does.
    pub async fn connect(authority: &str) -> Result<Self, BenchError> {
        let address = format!("grpc://{authority}");
        let failed = |reason: String| BenchError::Connect {
            address: address.clone(),
            reason,
        };
        let endpoint = Endpoint::from_shared(format!("http://{authority}"))
            .map_err(|error| failed(reason(&error)))?
            .connect_timeout(CONNECT_TIMEOUT);
        let mut clients = Vec::with_capacity(CONNECTIONS);
        for _ in 0..CONNECTIONS {
            let channel = endpoint
                .connect()
                .await
                .map_err(|error| failed(reason(&error)))?;
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
            let answer = client.tokenize(request).await.map_err(failure)?;
            Ok(answer.into_inner().token_ids)
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
                .map(|event| event.map(tokens_of).map_err(failure))
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

fn tokens_of(message: StreamGenerateResponse) -> usize {
    match message.event {
        Some(Event::Delta(delta)) => delta.token_ids.len(),
        _ => 0,
    }
}

fn failure(status: tonic::Status) -> RequestError {
    RequestError::new(screaming(&format!("{:?}", status.code())), status.message())
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
