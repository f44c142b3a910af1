//! `/tokenize` and `/detokenize`, as vLLM has them.

use axum::body::Body;
use axum::http::Response;
use maitre_engine::ChatRequest;

use super::continuation::PromptEnd;
use super::handlers::{Came, Handlers};
use super::json;
use super::types::text::{
    DetokenizeRequest, DetokenizeResponse, TokenizeRequest, TokenizeResponse,
};
use crate::service::api_error::ApiError;
use crate::service::text::{Detokenize, Tokenize};
use crate::service::violations::Violations;

/// What the service calls a text and its tokens.
const TOKENIZE_NAMES: [(&str, &str); 3] = [
    ("text", "prompt"),
    ("token_ids", "tokens"),
    ("template_kwargs", "chat_template_kwargs"),
];

/// The same failure, its fields as the client knows them.
fn renamed(mut error: ApiError) -> ApiError {
    for violation in &mut error.violations {
        for (service, here) in TOKENIZE_NAMES {
            if let Some(rest) = violation.field.strip_prefix(service) {
                violation.field = format!("{here}{rest}");
            }
        }
    }
    if error.reason == "INVALID_REQUEST" {
        return ApiError::invalid(error.violations);
    }
    error
}

/// The tokens of a text or of a conversation.
pub(super) async fn tokenize(handlers: &Handlers, came: Came) -> Result<Response<Body>, ApiError> {
    let (call, request) = handlers
        .read(came, |_, message, _| {
            json::fields::<TokenizeRequest>(message)
        })
        .await?;
    let service = &handlers.service;
    let wants_texts = request.return_token_strs.unwrap_or(false);
    let model = request.model.clone().unwrap_or_default();
    let (tokens, texts) = match (request.prompt, request.messages) {
        (Some(text), None) => {
            let request = Tokenize {
                model,
                text,
                special_tokens: request.add_special_tokens.unwrap_or(true),
                token_texts: wants_texts,
            };
            let tokens = service.tokenize(call, request).await.map_err(renamed)?;
            (tokens.token_ids, tokens.token_texts)
        }
        (None, Some(messages)) => {
            let mut found = Violations::default();
            let messages = messages.into_iter().enumerate();
            let mut chat = ChatRequest {
                messages: messages
                    .map(|(index, message)| message.message(index, &mut found))
                    .collect(),
                tools: request.tools.unwrap_or_default(),
                template_kwargs: request.chat_template_kwargs.unwrap_or_default(),
                ..ChatRequest::default()
            };
            let end = PromptEnd {
                add_generation_prompt: request.add_generation_prompt,
                continue_final_message: request.continue_final_message,
            };
            end.apply(&mut chat, &mut found);
            if !found.is_empty() {
                return Err(ApiError::invalid(found.into_vec()));
            }
            let ids = service.tokenize_chat(call, model, chat).await;
            let ids = ids.map_err(renamed)?;
            let tokenizer = service.engine()?.tokenizer();
            let text_of = |id: &u32| tokenizer.token_text(*id).unwrap_or_default();
            let texts = if wants_texts {
                ids.iter().map(text_of).collect()
            } else {
                Vec::new()
            };
            (ids, texts)
        }
        (prompt, _) => {
            let (field, description) = match prompt {
                None => ("prompt", "is missing; give a text, or messages"),
                Some(_) => ("messages", "is given beside prompt; give one of them"),
            };
            return Err(ApiError::unusable(field, description));
        }
    };
    Ok(json::response(&TokenizeResponse {
        count: tokens.len(),
        max_model_len: service.info()?.limits.max_model_len,
        tokens,
        token_strs: wants_texts.then_some(texts),
    }))
}

/// The text of tokens.
pub(super) async fn detokenize(
    handlers: &Handlers,
    came: Came,
) -> Result<Response<Body>, ApiError> {
    let (call, request) = handlers
        .read(came, |_, message, _| {
            json::fields::<DetokenizeRequest>(message)
        })
        .await?;
    let Some(token_ids) = request.tokens else {
        return Err(ApiError::unusable(
            "tokens",
            "is missing; give the ids of tokens",
        ));
    };
    let request = Detokenize {
        model: request.model.unwrap_or_default(),
        token_ids,
        // As vLLM has it: what was tokenized comes back as it was.
        skip_special_tokens: false,
    };
    let prompt = handlers
        .service
        .detokenize(call, request)
        .await
        .map_err(renamed)?;
    Ok(json::response(&DetokenizeResponse { prompt }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_the_names_that_the_client_wrote() {
        let error = renamed(ApiError::unusable("token_ids[3]", "is 9"));
        assert_eq!(error.violations[0].field, "tokens[3]");
        assert_eq!(error.message, "invalid request: tokens[3]: is 9");
        let error = renamed(ApiError::unusable("text", "is long"));
        assert_eq!(error.violations[0].field, "prompt");
    }
}
