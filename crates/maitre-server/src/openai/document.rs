//! `/openapi.json`: the API as the code has it.
//!
//! The functions here are never called: each stands for a route and carries its description, of which utoipa makes the
//! document. A test compares it with the routes that there are.
#![expect(dead_code, reason = "descriptions of routes and of messages")]
#![expect(unused_qualifications, reason = "utoipa writes them")]

use std::borrow::Cow;
use std::sync::OnceLock;

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Response};
use utoipa::openapi::schema::AllOfBuilder;
use utoipa::openapi::{Ref, RefOr, Schema};
use utoipa::{OpenApi, PartialSchema, ToSchema};

use super::chat::request::ChatFields;
use super::completions::request::CompletionFields;
use super::error::ErrorResponse;
use super::parameters::Parameters;
use super::structured::Structured;
use super::tools::Tools;
use super::types::answer::{ChatChunk, ChatCompletion, Completion};
use super::types::text::{
    DetokenizeRequest, DetokenizeResponse, Model, ModelList, Rendered, TokenizeRequest,
    TokenizeResponse, Version,
};

/// The document as it is sent.
pub(super) fn response() -> Response<Body> {
    static DOCUMENT: OnceLock<Bytes> = OnceLock::new();
    let document = DOCUMENT.get_or_init(|| {
        // A document is made of texts and lists: it can be written.
        Bytes::from(Document::openapi().to_json().unwrap_or_default())
    });
    let mut response = Response::new(Body::from(document.clone()));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

/// A message whose fields are read in groups.
macro_rules! message {
    ($name:ident: $($group:ty),+) => {
        struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let groups = AllOfBuilder::new();
                $(let groups = groups.item(Ref::from_schema_name(<$group as ToSchema>::name()));)+
                RefOr::T(Schema::AllOf(groups.build()))
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                Cow::Borrowed(stringify!($name))
            }

            fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
                $(
                    schemas.push((<$group as ToSchema>::name().into_owned(), <$group>::schema()));
                    <$group as ToSchema>::schemas(schemas);
                )+
            }
        }
    };
}

message!(ChatCompletionRequest: ChatFields, Parameters, Tools, Structured);
message!(CompletionRequest: CompletionFields, Parameters, Structured);

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Maitre",
        description = "OpenAI's API, with the extensions that clients of vLLM send."
    ),
    paths(
        chat,
        render_chat,
        completions,
        render_completions,
        tokenize,
        detokenize,
        list_models,
        get_model,
        version,
        openapi
    ),
    components(schemas(ChatChunk<'static>))
)]
struct Document;

/// Answers a conversation. With `stream`, the answer comes as server-sent events, each a `ChatChunk`; the last is
/// `[DONE]`.
#[utoipa::path(post, path = "/v1/chat/completions", request_body = ChatCompletionRequest, responses(
    (status = 200, description = "the answers", body = ChatCompletion),
    (status = "4XX", description = "the request was refused", body = ErrorResponse),
    (status = "5XX", description = "the server cannot serve it", body = ErrorResponse),
))]
fn chat() {}

/// What the engine would be given of a conversation, without running it.
#[utoipa::path(post, path = "/v1/chat/completions/render", request_body = ChatCompletionRequest, responses(
    (status = 200, description = "the prompt's tokens and the parameters", body = Rendered),
    (status = "4XX", description = "the request was refused", body = ErrorResponse),
))]
fn render_chat() {}

/// Continues prompts. With `stream`, the continuations come as server-sent events, each a `Completion` with one choice;
/// the last is `[DONE]`.
#[utoipa::path(post, path = "/v1/completions", request_body = CompletionRequest, responses(
    (status = 200, description = "the continuations", body = Completion<'static>),
    (status = "4XX", description = "the request was refused", body = ErrorResponse),
    (status = "5XX", description = "the server cannot serve it", body = ErrorResponse),
))]
fn completions() {}

/// What the engine would be given of each prompt, without running it.
#[utoipa::path(post, path = "/v1/completions/render", request_body = CompletionRequest, responses(
    (status = 200, description = "one for each prompt", body = Vec<Rendered>),
    (status = "4XX", description = "the request was refused", body = ErrorResponse),
))]
fn render_completions() {}

/// The tokens of a text or of a conversation.
#[utoipa::path(post, path = "/tokenize", request_body = TokenizeRequest, responses(
    (status = 200, description = "the tokens", body = TokenizeResponse),
    (status = "4XX", description = "the request was refused", body = ErrorResponse),
))]
fn tokenize() {}

/// The text of tokens, special ones included.
#[utoipa::path(post, path = "/detokenize", request_body = DetokenizeRequest, responses(
    (status = 200, description = "the text", body = DetokenizeResponse),
    (status = "4XX", description = "the request was refused", body = ErrorResponse),
))]
fn detokenize() {}

/// The models that are served.
#[utoipa::path(get, path = "/v1/models", responses(
    (status = 200, description = "the models", body = ModelList),
    (status = 503, description = "none is loaded yet", body = ErrorResponse),
))]
fn list_models() {}

/// One model.
#[utoipa::path(get, path = "/v1/models/{id}", params(("id" = String, Path, description = "its name")), responses(
    (status = 200, description = "the model", body = Model),
    (status = 404, description = "it is not served here", body = ErrorResponse),
))]
fn get_model() {}

/// Which version of the server this is.
#[utoipa::path(get, path = "/version", responses((status = 200, description = "the version", body = Version)))]
fn version() {}

/// This document.
#[utoipa::path(get, path = "/openapi.json", responses((status = 200, description = "the document")))]
fn openapi() {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::openai::routes::ROUTES;
    use serde_json::Value;

    #[test]
    fn the_document_has_the_routes_that_there_are() {
        let document = serde_json::to_value(Document::openapi()).unwrap();
        let paths = document["paths"].as_object().unwrap();
        let described: BTreeSet<(String, String)> = paths
            .iter()
            .flat_map(|(path, methods)| {
                let methods = methods.as_object().unwrap().keys();
                methods.map(|method| (method.to_uppercase(), path.clone()))
            })
            .collect();
        let routes = ROUTES
            .iter()
            .map(|(method, path, ..)| (method.to_string(), path.to_string()));
        assert_eq!(described, routes.collect());
    }

    /// Every reference leads to a schema.
    #[test]
    fn the_document_is_whole() {
        fn references(value: &Value, found: &mut BTreeSet<String>) {
            match value {
                Value::Object(fields) => {
                    for (key, value) in fields {
                        match (key.as_str(), value.as_str()) {
                            ("$ref", Some(name)) => drop(found.insert(name.to_owned())),
                            _ => references(value, found),
                        }
                    }
                }
                Value::Array(items) => items.iter().for_each(|item| references(item, found)),
                _ => {}
            }
        }
        let document = serde_json::to_value(Document::openapi()).unwrap();
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(found.len() > 20, "{found:?}");
        for name in found {
            let pointer = name.trim_start_matches('#');
            assert!(document.pointer(pointer).is_some(), "{name}");
        }
        let fields = "/components/schemas/Parameters/properties/temperature/description";
        assert!(document.pointer(fields).is_some());
    }
}
