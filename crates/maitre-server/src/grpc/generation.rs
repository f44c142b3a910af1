//! `GenerationService`: from a message to the service and back.
//!
//! A call owns its [`AnswerStream`]: when the client goes away, the transport drops the call's
//! future or its response stream, the answer with it, and the engine frees what it held.

use std::pin::Pin;

use futures_core::Stream;
use futures_util::StreamExt as _;
use maitre_engine::{EngineInfo, Input};
use maitre_proto::codec::Encoded;
use maitre_proto::v1;
use maitre_proto::v1::generation_service_server::GenerationService;
use prost::Message;
use tonic::{Request, Response, Status};

use super::convert::fields::field_name;
use super::convert::request;
use super::convert::response::{self, StreamEvent};
use super::convert::saturating_u32;
use super::convert::size::Measured;
use super::decoded;
use crate::service::Service;
use crate::service::answer::AnswerStream;
use crate::service::api_error::ApiError;
use crate::service::call::Call;
use crate::service::call_ids::CallIds;
use crate::service::deadline::Deadline;
use crate::service::request::ApiRequest;
use crate::service::text::{Detokenize, Tokenize};
use crate::service::turns::Turns;

type ResponseStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The service of the API; one per server.
#[derive(Debug)]
pub(super) struct Generations {
    service: Service,
}

impl Generations {
    pub(super) fn new(service: Service) -> Self {
        Self { service }
    }

    /// Decodes a request for answers and submits it.
    async fn start<M: Message + Measured + Default + 'static>(
        &self,
        request: Request<Encoded<M>>,
        convert: fn(M) -> ApiRequest,
    ) -> Result<(AnswerStream, CallIds), ApiError> {
        let mut call = call_of(&request);
        let message = request.into_inner();
        let work = self.service.work(&mut call, message.len(), move |engine| {
            let message = decoded(message)?;
            let oversize = message.size().oversize(engine.info().limits.max_model_len);
            if !oversize.is_empty() {
                let mut found = oversize.into_vec();
                let fields = found.iter_mut().map(|violation| &mut violation.field);
                fields.for_each(|field| *field = field_name(field));
                return Err(ApiError::invalid(found));
            }
            Ok(convert(message))
        });
        let request = work.await?;
        let calls_before = match &request.request.input {
            Input::Chat(chat) => chat.messages.iter().map(|it| it.tool_calls.len()).sum(),
            Input::Text(_) | Input::Tokens(_) => 0,
        };
        let stream = self.service.generate(call, request).await?;
        let ids = CallIds::new(self.service.info()?.tool_format, calls_before);
        Ok((stream, ids))
    }

    /// All answers of a request: its id, the model, and the answers.
    async fn answers<M: Message + Measured + Default + 'static>(
        &self,
        request: Request<Encoded<M>>,
        convert: fn(M) -> ApiRequest,
    ) -> Result<(String, String, Vec<v1::Answer>), ApiError> {
        let (stream, ids) = self.start(request, convert).await?;
        let request_id = stream.request_id().to_owned();
        let answers = stream.whole().await?;
        let answers = answers.into_iter();
        let answers = answers.map(|it| response::answer(it, &ids)).collect();
        let model = self.service.info()?.model.clone();
        Ok((request_id, model, answers))
    }

    /// A stream of messages, each made of the request's id (in the first) and an event.
    async fn stream<M: Message + Measured + Default + 'static, T: Send + 'static>(
        &self,
        request: Request<Encoded<M>>,
        convert: fn(M) -> ApiRequest,
        message: impl Fn(String, StreamEvent) -> T + Send + 'static,
    ) -> Result<Response<ResponseStream<T>>, Status> {
        let (stream, ids) = self.start(request, convert).await?;
        let events = stream.begun().await?;
        let mut request_id = events.request_id().to_owned();
        let messages = events.map(move |event| {
            let event = response::event(event?, &ids);
            Ok(message(std::mem::take(&mut request_id), event))
        });
        Ok(Response::new(Box::pin(messages)))
    }

    /// Decodes a message as the service works on requests.
    async fn message<M: Message + Default + 'static>(
        &self,
        call: &mut Call,
        message: Encoded<M>,
    ) -> Result<M, ApiError> {
        let bytes = message.len();
        let decode = self.service.work(call, bytes, |_engine| decoded(message));
        decode.await
    }
}

/// What came beside a message.
fn call_of<T>(request: &Request<T>) -> Call {
    let extensions = request.extensions();
    let turns = extensions.get::<Turns>().cloned();
    let mut call = Call::new(turns.unwrap_or_default(), field_name);
    call.deadline = extensions.get::<Deadline>().copied();
    call
}

fn model(info: &EngineInfo) -> v1::Model {
    v1::Model {
        name: info.model.clone(),
        architecture: info.architecture.clone(),
        num_parameters: info.parameters,
        weight_bytes: info.memory.weights,
        dtype: info.dtype.clone(),
        kv_dtype: info.kv_dtype.clone(),
        vocab_size: saturating_u32(info.vocab_size),
        max_model_len: saturating_u32(info.limits.max_model_len),
        has_chat_template: info.has_chat_template,
        eos_token_ids: info.eos_token_ids.clone(),
    }
}

#[tonic::async_trait]
impl GenerationService for Generations {
    async fn generate(
        &self,
        request: Request<Encoded<v1::GenerateRequest>>,
    ) -> Result<Response<v1::GenerateResponse>, Status> {
        let (request_id, model, answers) = self.answers(request, request::generate).await?;
        Ok(Response::new(v1::GenerateResponse {
            request_id,
            model,
            answers,
        }))
    }

    type StreamGenerateStream = ResponseStream<v1::StreamGenerateResponse>;

    async fn stream_generate(
        &self,
        request: Request<Encoded<v1::StreamGenerateRequest>>,
    ) -> Result<Response<Self::StreamGenerateStream>, Status> {
        let message = |request_id, event: StreamEvent| v1::StreamGenerateResponse {
            request_id,
            event: Some(event.into()),
        };
        self.stream(request, request::stream_generate, message)
            .await
    }

    async fn chat(
        &self,
        request: Request<Encoded<v1::ChatRequest>>,
    ) -> Result<Response<v1::ChatResponse>, Status> {
        let (request_id, model, answers) = self.answers(request, request::chat).await?;
        Ok(Response::new(v1::ChatResponse {
            request_id,
            model,
            answers,
        }))
    }

    type StreamChatStream = ResponseStream<v1::StreamChatResponse>;

    async fn stream_chat(
        &self,
        request: Request<Encoded<v1::StreamChatRequest>>,
    ) -> Result<Response<Self::StreamChatStream>, Status> {
        let message = |request_id, event: StreamEvent| v1::StreamChatResponse {
            request_id,
            event: Some(event.into()),
        };
        self.stream(request, request::stream_chat, message).await
    }

    async fn tokenize(
        &self,
        request: Request<Encoded<v1::TokenizeRequest>>,
    ) -> Result<Response<v1::TokenizeResponse>, Status> {
        let mut call = call_of(&request);
        let message = self.message(&mut call, request.into_inner()).await?;
        let request = Tokenize {
            model: message.model,
            text: message.text,
            special_tokens: message.special_tokens.unwrap_or(true),
            token_texts: message.return_token_texts,
        };
        let tokens = self.service.tokenize(call, request).await?;
        Ok(Response::new(v1::TokenizeResponse {
            token_ids: tokens.token_ids,
            token_texts: tokens.token_texts,
        }))
    }

    async fn detokenize(
        &self,
        request: Request<Encoded<v1::DetokenizeRequest>>,
    ) -> Result<Response<v1::DetokenizeResponse>, Status> {
        let mut call = call_of(&request);
        let message = self.message(&mut call, request.into_inner()).await?;
        let request = Detokenize {
            model: message.model,
            token_ids: message.token_ids,
            skip_special_tokens: message.skip_special_tokens.unwrap_or(true),
        };
        let text = self.service.detokenize(call, request).await?;
        Ok(Response::new(v1::DetokenizeResponse { text }))
    }

    async fn abort(
        &self,
        request: Request<Encoded<v1::AbortRequest>>,
    ) -> Result<Response<v1::AbortResponse>, Status> {
        let call = call_of(&request);
        let v1::AbortRequest { request_id, tenant } = decoded(request.into_inner())?;
        let aborted = self.service.abort(&call, tenant, &request_id)?;
        Ok(Response::new(v1::AbortResponse { aborted }))
    }

    async fn list_models(
        &self,
        request: Request<Encoded<v1::ListModelsRequest>>,
    ) -> Result<Response<v1::ListModelsResponse>, Status> {
        decoded(request.into_inner())?;
        Ok(Response::new(v1::ListModelsResponse {
            models: vec![model(self.service.info()?)],
        }))
    }

    async fn get_model(
        &self,
        request: Request<Encoded<v1::GetModelRequest>>,
    ) -> Result<Response<v1::GetModelResponse>, Status> {
        self.service
            .check_model(&decoded(request.into_inner())?.model)?;
        Ok(Response::new(v1::GetModelResponse {
            model: Some(model(self.service.info()?)),
        }))
    }
}
