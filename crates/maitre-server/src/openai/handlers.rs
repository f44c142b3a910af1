//! The routes: each reads its message, calls the service, and writes what comes of it.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{Method, Response, Uri};
use axum::routing::{get, post};
use axum::{Extension, Router};
use maitre_engine::Engine;

use super::chat::answer::{ChatChunks, ChatShape};
use super::completions::answer::{CompletionChunks, CompletionShape};
use super::generations::Generations;
use super::names::engine_names;
use super::{chat, completions, document, error, events, json, models, render, text};
use crate::http::calls::Beside;
use crate::http::message;
use crate::service::Service;
use crate::service::api_error::ApiError;
use crate::service::call::Call;

/// What all routes answer from. Clones are handles to the same.
#[derive(Debug, Clone)]
pub(super) struct Handlers {
    pub(super) service: Service,
    /// When the server started, in seconds since 1970.
    pub(super) started: u64,
}

/// A call as it came.
pub(super) struct Came {
    beside: Beside,
    request: Request,
}

impl Handlers {
    pub(super) fn new(service: &Service) -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            service: service.clone(),
            started: since_1970.map_or(0, |it| it.as_secs()),
        }
    }

    /// Reads a call's message as the service works on requests: with the engine, the message and the call's name.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        came: Came,
        convert: impl FnOnce(&Engine, &[u8], &str) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<(Call, T), ApiError> {
        let Came { beside, request } = came;
        message::require_json(request.headers())?;
        let most = self.service.limits().max_message_bytes;
        let message = message::read(request.into_body(), most).await?;
        let mut call = Call::new(beside.turns, engine_names);
        let (bytes, name) = (message.len(), beside.name);
        let convert = move |engine: &Engine| convert(engine, &message, name.as_str());
        let converted = self.service.work(&mut call, bytes, convert).await?;
        Ok((call, converted))
    }
}

async fn chat(handlers: &Handlers, came: Came) -> Result<Response<Body>, ApiError> {
    let (call, mut read) = handlers.read(came, chat::request::read).await?;
    let shape = ChatShape::from(&read);
    let service = &handlers.service;
    let call = read.truncated(service, call).await?;
    let begun = Generations::begin(service, call, vec![read.request], read.names).await?;
    if read.streams {
        let events = begun.events().await?;
        return Ok(events::response(events, ChatChunks::new(shape), None));
    }
    let answers = begun.whole().await?.into_iter().flatten().collect();
    Ok(json::response(&shape.whole(answers)))
}

async fn completions(handlers: &Handlers, came: Came) -> Result<Response<Body>, ApiError> {
    let bytes = came.beside.bytes.clone();
    let (call, read) = handlers.read(came, completions::request::read).await?;
    let shape = CompletionShape::from(&read);
    let (service, prompts) = (&handlers.service, read.requests.len());
    let begun = Generations::begin(service, call, read.requests, read.names).await?;
    if read.streams {
        let held = (!begun.all_begun()).then_some(bytes);
        let events = begun.events().await?;
        return Ok(events::response(
            events,
            CompletionChunks::new(shape, prompts),
            held,
        ));
    }
    let answers = begun.whole().await?;
    Ok(json::response(&shape.whole(answers)))
}

/// A handler of axum's out of one of ours.
macro_rules! answered_by {
    ($handler:path) => {
        |State(handlers): State<Handlers>,
         Extension(beside): Extension<Beside>,
         request: Request| async move {
            let answered = $handler(&handlers, Came { beside, request }).await;
            answered.unwrap_or_else(|failed| error::response(&failed))
        }
    };
}

/// Everything that a call can reach.
pub(super) fn router(handlers: Handlers) -> Router {
    let told = |answer: Result<Response<Body>, ApiError>| {
        answer.unwrap_or_else(|failed| error::response(&failed))
    };
    let list = move |State(handlers): State<Handlers>| async move { told(models::list(&handlers)) };
    let one = move |State(handlers): State<Handlers>, Path(id): Path<String>| async move {
        told(models::get(&handlers, &id))
    };
    Router::new()
        .route("/v1/chat/completions", post(answered_by!(chat)))
        .route(
            "/v1/chat/completions/render",
            post(answered_by!(render::chat)),
        )
        .route("/v1/completions", post(answered_by!(completions)))
        .route(
            "/v1/completions/render",
            post(answered_by!(render::completions)),
        )
        .route("/tokenize", post(answered_by!(text::tokenize)))
        .route("/detokenize", post(answered_by!(text::detokenize)))
        .route("/v1/models", get(list))
        .route("/v1/models/{*id}", get(one))
        .route("/version", get(|| async { models::version() }))
        .route("/openapi.json", get(|| async { document::response() }))
        .method_not_allowed_fallback(|method: Method, uri: Uri| async move {
            error::response(&message::unknown_method(&method, uri.path()))
        })
        .fallback(|uri: Uri| async move { error::response(&message::unknown_path(uri.path())) })
        .with_state(handlers)
}
