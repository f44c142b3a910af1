//! `/v1/completions/render` and `/v1/chat/completions/render`: what the engine would be given, without running it.
//! Routers that send requests to where their prefix is cached need the tokens of a prompt before they have chosen a
//! server.

use axum::body::Body;
use axum::http::Response;
use maitre_engine::GenerateRequest;
use serde_json::{Map, Value, json};

use super::handlers::{Came, Handlers};
use super::names::{Names, engine_names};
use super::types::text::Rendered;
use super::{chat, completions, json};
use crate::service::api_error::ApiError;
use crate::service::call::Call;
use crate::service::request::ApiRequest;

/// The parameters of a request in vLLM's names, those that were given.
fn sampling_params(request: &GenerateRequest) -> Value {
    let (sampling, stopping) = (&request.sampling, &request.stopping);
    let bias = sampling.logit_bias.iter();
    let bias: Map<String, Value> = bias
        .map(|(id, bias)| (id.to_string(), json!(bias)))
        .collect();
    let mut all = json!({
        "n": request.n,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "repetition_penalty": sampling.repetition_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "presence_penalty": sampling.presence_penalty,
        "seed": sampling.seed.map(u64::cast_signed),
        "logit_bias": (!bias.is_empty()).then_some(bias),
        "max_tokens": stopping.max_tokens,
        "min_tokens": stopping.min_tokens,
        "stop": stopping.stop,
        "stop_token_ids": stopping.stop_token_ids,
        "ignore_eos": stopping.ignore_eos,
        "include_stop_str_in_output": stopping.include_stop,
        "logprobs": request.output.logprobs,
        "prompt_logprobs": request.output.prompt_logprobs,
        "skip_special_tokens": request.output.skip_special_tokens,
    });
    if let Some(all) = all.as_object_mut() {
        all.retain(|_, value| !value.is_null());
    }
    all
}

async fn rendered(
    handlers: &Handlers,
    call: Call,
    (id, streams): (String, bool),
    request: ApiRequest,
    (names, prompt): (&Names, usize),
) -> Result<Rendered, ApiError> {
    let service = &handlers.service;
    let sampling_params = sampling_params(&request.request);
    let salt = request.request.cache.salt.clone();
    let priority = request.request.service.priority.saturating_neg();
    let tokens = service.render(call, request).await;
    Ok(Rendered {
        request_id: id,
        model: service.info()?.model.clone(),
        token_ids: tokens.map_err(|error| names.rename(error, prompt))?,
        sampling_params,
        stream: streams,
        cache_salt: (!salt.is_empty()).then_some(salt),
        priority,
    })
}

/// What the engine would be given of a conversation.
pub(super) async fn chat(handlers: &Handlers, came: Came) -> Result<Response<Body>, ApiError> {
    let (call, mut chat) = handlers.read(came, chat::request::read).await?;
    let call = chat.truncated(&handlers.service, call).await?;
    let about = (chat.shape.id, chat.streams);
    let place = (&chat.names, 0);
    let rendered = rendered(handlers, call, about, chat.request, place).await?;
    Ok(json::response(&rendered))
}

/// What the engine would be given of each prompt.
pub(super) async fn completions(
    handlers: &Handlers,
    came: Came,
) -> Result<Response<Body>, ApiError> {
    let (call, read) = handlers.read(came, completions::request::read).await?;
    let (turns, mut call) = (call.turns.clone(), Some(call));
    let mut all = Vec::with_capacity(read.requests.len());
    for (prompt, request) in read.requests.into_iter().enumerate() {
        let call = call.take();
        let call = call.unwrap_or_else(|| Call::new(turns.clone(), engine_names));
        let about = (format!("{}-{prompt}", read.shape.id), read.streams);
        let place = (&read.names, prompt);
        all.push(rendered(handlers, call, about, request, place).await?);
    }
    Ok(json::response(&all))
}
