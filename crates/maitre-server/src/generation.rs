//! `GenerationService`: from a message to the engine and back.
//!
//! A call owns its [`Generation`]: when the client goes away, the transport drops the call's
//! future or its response stream, the generation with it, and the engine frees what it held.

use std::pin::Pin;

use futures_core::Stream;
use futures_util::{StreamExt as _, stream};
use maitre_engine::byte_budget::{ByteAccount, ByteBudget, ByteCharge};
use maitre_engine::{Engine, Event, Generation};
use maitre_proto::codec::Encoded;
use maitre_proto::v1;
use maitre_proto::v1::generation_service_server::GenerationService;
use prost::Message;
use tonic::{Request, Response, Status};

use crate::convert::request::{self, Converted};
use crate::convert::response::{self, Answers, StreamEvent};
use crate::convert::size::RequestSize;
use crate::convert::{Violations, saturating_u32};
use crate::deadline::Deadline;
use crate::service::limits::{MAX_DETOKENIZED_IDS, MAX_TOKENIZED_BYTES};
use crate::service::turns::Turns;
use crate::status;

type ResponseStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The service; one per server.
#[derive(Debug)]
pub(crate) struct Generations {
    engine: Engine,
    /// Memory for whole answers until they are complete.
    answer_bytes: ByteBudget,
}

impl Generations {
    pub(crate) fn new(engine: Engine, answer_bytes: ByteBudget) -> Self {
        Self {
            engine,
            answer_bytes,
        }
    }

    fn served(&self) -> &str {
        &self.engine.info().model
    }

    fn check_model(&self, asked: &str) -> Result<(), Status> {
        check_model(&self.engine, asked)
    }

    /// Submits what can run; of what can't, says everything that is wrong. A large message is taken apart
    /// away from the threads that serve the network.
    async fn start<M: Message + RequestSize + Default + 'static>(
        &self,
        request: Request<Encoded<M>>,
        convert: fn(M, Option<Deadline>) -> Converted,
    ) -> Result<Running, Status> {
        let deadline = deadline_of(&request);
        let turns = turns_of(&request);
        // Held until the engine has the request: it works on it, too.
        let _turn = turns.turn().await;
        let converted = self
            .away(request.into_inner(), move |engine, message| {
                let oversize = message.oversize(engine.info().limits.max_model_len);
                if !oversize.is_empty() {
                    return Err(status::invalid(&oversize.with_those_of(None)));
                }
                let converted = convert(message, deadline);
                check_model(engine, &converted.model)?;
                Ok(converted)
            })
            .await?;
        if !converted.violations.is_empty() {
            let refusal = self.engine.check(converted.request).await.err();
            return Err(status::invalid(
                &converted.violations.with_those_of(refusal.as_ref()),
            ));
        }
        let n = converted.request.n;
        let result = self.engine.generate(converted.request).await;
        let generation = result
            .map_err(|error| status::from_engine(&Violations::in_terms_of_the_message(error)))?;
        Ok(Running {
            generation,
            answer_bytes: self.answer_bytes.account(),
            n,
            token_ids: converted.return_token_ids,
        })
    }

    fn model(&self) -> v1::Model {
        let info = self.engine.info();
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

    /// Decodes a message and works on it; on a large one away from the threads that serve the network.
    async fn away<M: Message + Default + 'static, T: Send + 'static>(
        &self,
        message: Encoded<M>,
        work: impl FnOnce(&Engine, M) -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        let engine = self.engine.clone();
        let bytes = message.len();
        let work = move || work(&engine, decoded(message)?);
        let worked = self.engine.offload().run(bytes, work).await;
        worked.map_err(|error| status::internal(error.to_string()))?
    }
}

/// A message; what is none gets the status that the library gives it.
pub(crate) fn decoded<M: Message + Default>(message: Encoded<M>) -> Result<M, Status> {
    let message = message.decode();
    message.map_err(|error| status::from_library(Status::internal(error.to_string())))
}

fn check_model(engine: &Engine, asked: &str) -> Result<(), Status> {
    let served = &engine.info().model;
    if asked.is_empty() || asked == served {
        return Ok(());
    }
    Err(status::unknown_model(asked, served))
}

/// A request in flight and how its caller wants the answer.
#[derive(Debug)]
struct Running {
    generation: Generation,
    answer_bytes: ByteAccount,
    n: u32,
    token_ids: bool,
}

impl Running {
    fn request_id(&self) -> String {
        self.generation.request_id().to_owned()
    }

    /// All answers, once the last is complete.
    async fn answers(mut self) -> Result<Vec<v1::Answer>, Status> {
        let mut answers = Answers::new(self.n);
        let mut charge: Option<ByteCharge> = None;
        while let Some(event) = self.generation.next().await {
            let event = event.map_err(|error| status::from_engine(&error))?;
            let bytes = event.size_in_bytes();
            let charged = match &mut charge {
                Some(charge) => charge.grow(bytes),
                None => self
                    .answer_bytes
                    .charge(bytes)
                    .map(|new| charge = Some(new)),
            };
            charged.map_err(|spent| status::answer_bytes_spent(&spent))?;
            answers.add(response::event(event, self.token_ids));
        }
        Ok(answers.into_inner())
    }

    /// A stream of messages, built from the request's id (in the first message) and its events.
    ///
    /// Waits for the first event, so that a failure before it is the status of the call rather
    /// than the end of a stream that had begun.
    async fn stream<T: Send + 'static>(
        mut self,
        message: impl Fn(String, StreamEvent) -> T + Send + 'static,
    ) -> Result<ResponseStream<T>, Status> {
        let first = match self.generation.next().await {
            Some(first) => Some(first.map_err(|error| status::from_engine(&error))?),
            None => None,
        };
        let mut request_id = self.request_id();
        let token_ids = self.token_ids;
        let events = stream::iter(first.map(Ok)).chain(self.generation);
        Ok(Box::pin(events.map(move |event: Result<Event, _>| {
            let event = event.map_err(|error| status::from_engine(&error))?;
            Ok(message(
                std::mem::take(&mut request_id),
                response::event(event, token_ids),
            ))
        })))
    }
}

/// Whose turn it is among the calls of the request's connection.
fn turns_of<T>(request: &Request<T>) -> Turns {
    let turns = request.extensions().get::<Turns>();
    turns.cloned().unwrap_or_default()
}

fn check_length(field: &str, what: &str, length: usize, most: usize) -> Result<(), Status> {
    if length <= most {
        return Ok(());
    }
    let description = format!("has {length} {what}; at most {most} are taken in one call");
    Err(unusable(field, description))
}

fn deadline_of<T>(request: &Request<T>) -> Option<Deadline> {
    request.extensions().get::<Deadline>().copied()
}

#[tonic::async_trait]
impl GenerationService for Generations {
    async fn generate(
        &self,
        request: Request<Encoded<v1::GenerateRequest>>,
    ) -> Result<Response<v1::GenerateResponse>, Status> {
        let running = self.start(request, request::generate).await?;
        let request_id = running.request_id();
        let answers = running.answers().await?;
        let model = self.served().to_owned();
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
        let running = self.start(request, request::stream_generate).await?;
        let stream = running
            .stream(|request_id, event| v1::StreamGenerateResponse {
                request_id,
                event: Some(event.into()),
            })
            .await?;
        Ok(Response::new(stream))
    }

    async fn chat(
        &self,
        request: Request<Encoded<v1::ChatRequest>>,
    ) -> Result<Response<v1::ChatResponse>, Status> {
        let running = self.start(request, request::chat).await?;
        let request_id = running.request_id();
        let answers = running.answers().await?;
        let model = self.served().to_owned();
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
        let running = self.start(request, request::stream_chat).await?;
        let stream = running
            .stream(|request_id, event| v1::StreamChatResponse {
                request_id,
                event: Some(event.into()),
            })
            .await?;
        Ok(Response::new(stream))
    }

    async fn tokenize(
        &self,
        request: Request<Encoded<v1::TokenizeRequest>>,
    ) -> Result<Response<v1::TokenizeResponse>, Status> {
        let turns = turns_of(&request);
        let _turn = turns.turn().await;
        let response = self
            .away(request.into_inner(), |engine, request| {
                check_model(engine, &request.model)?;
                check_length("text", "bytes", request.text.len(), MAX_TOKENIZED_BYTES)?;
                tokenized(engine, &request)
            })
            .await?;
        Ok(Response::new(response))
    }

    async fn detokenize(
        &self,
        request: Request<Encoded<v1::DetokenizeRequest>>,
    ) -> Result<Response<v1::DetokenizeResponse>, Status> {
        let turns = turns_of(&request);
        let _turn = turns.turn().await;
        let response = self
            .away(request.into_inner(), |engine, request| {
                check_model(engine, &request.model)?;
                let ids = request.token_ids.len();
                check_length("token_ids", "ids", ids, MAX_DETOKENIZED_IDS)?;
                detokenized(engine, &request)
            })
            .await?;
        Ok(Response::new(response))
    }

    async fn abort(
        &self,
        request: Request<Encoded<v1::AbortRequest>>,
    ) -> Result<Response<v1::AbortResponse>, Status> {
        let v1::AbortRequest { request_id, tenant } = decoded(request.into_inner())?;
        if request_id.is_empty() {
            let description = "is empty; name the request to end".to_owned();
            return Err(unusable("request_id", description));
        }
        Ok(Response::new(v1::AbortResponse {
            aborted: self.engine.abort(&tenant, &request_id),
        }))
    }

    async fn list_models(
        &self,
        request: Request<Encoded<v1::ListModelsRequest>>,
    ) -> Result<Response<v1::ListModelsResponse>, Status> {
        decoded(request.into_inner())?;
        Ok(Response::new(v1::ListModelsResponse {
            models: vec![self.model()],
        }))
    }

    async fn get_model(
        &self,
        request: Request<Encoded<v1::GetModelRequest>>,
    ) -> Result<Response<v1::GetModelResponse>, Status> {
        self.check_model(&decoded(request.into_inner())?.model)?;
        Ok(Response::new(v1::GetModelResponse {
            model: Some(self.model()),
        }))
    }
}

fn tokenized(
    engine: &Engine,
    request: &v1::TokenizeRequest,
) -> Result<v1::TokenizeResponse, Status> {
    let tokenizer = engine.tokenizer();
    let token_ids = if request.special_tokens.unwrap_or(true) {
        tokenizer.encode(&request.text)
    } else {
        tokenizer.encode_plain(&request.text)
    }
    .map_err(|error| unusable("text", error.to_string()))?;
    let text_of = |id: &u32| tokenizer.token_text(*id).unwrap_or_default();
    let token_texts = if request.return_token_texts {
        token_ids.iter().map(text_of).collect()
    } else {
        Vec::new()
    };
    Ok(v1::TokenizeResponse {
        token_ids,
        token_texts,
    })
}

fn detokenized(
    engine: &Engine,
    request: &v1::DetokenizeRequest,
) -> Result<v1::DetokenizeResponse, Status> {
    let vocab_size = engine.info().vocab_size;
    let outside = |id: &u32| usize::try_from(*id).is_ok_and(|id| id >= vocab_size);
    if let Some(index) = request.token_ids.iter().position(outside) {
        let id = request.token_ids[index];
        let largest = vocab_size.saturating_sub(1);
        let description = format!("is {id}; the vocabulary has ids 0 to {largest}");
        return Err(unusable(&format!("token_ids[{index}]"), description));
    }
    let skip_special = request.skip_special_tokens.unwrap_or(true);
    engine
        .tokenizer()
        .decode(&request.token_ids, skip_special)
        .map(|text| v1::DetokenizeResponse { text })
        .map_err(|error| unusable("token_ids", error.to_string()))
}

fn unusable(field: &str, description: String) -> Status {
    status::invalid(&[maitre_engine::Violation::new(field, description)])
}
