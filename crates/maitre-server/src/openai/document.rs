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
        openapi,
        metrics,
        health,
        live,
        ready,
        ping,
        ping_by_post
    ),
    components(schemas(ChatChunk<'static>))
)]
struct Document;

/// A route that works on a message: its path, what it is, what it takes and answers.
macro_rules! work {
    ($name:ident, $path:literal, $request:ty, $told:literal, $answer:ty, $description:literal $(, $stream:literal)?) => {
        #[doc = $description]
        #[utoipa::path(post, path = $path, request_body = $request, responses(
            (status = 200, description = $told, content(
                ($answer = "application/json")
                $(, (String = $stream))?
            )),
            (status = 400, description = "the request is wrong, and stays wrong", body = ErrorResponse),
            (status = 404, description = "the model is not served here", body = ErrorResponse),
            (status = 408, description = "the message did not come in time, or a deadline passed", body = ErrorResponse),
            (status = 409, description = "a request of this `request_id` is in flight", body = ErrorResponse),
            (status = 413, description = "the message is too large", body = ErrorResponse),
            (status = 415, description = "the message is not declared as JSON, or is compressed", body = ErrorResponse),
            (status = 429, description = "a queue or a budget is full: try again later", body = ErrorResponse),
            (status = 499, description = "the request was cancelled", body = ErrorResponse),
            (status = 500, description = "a fault of the server's", body = ErrorResponse),
            (status = 503, description = "the server loads, drains or has stopped", body = ErrorResponse),
        ))]
        fn $name() {}
    };
}

work!(
    chat,
    "/v1/chat/completions",
    ChatCompletionRequest,
    "the answers",
    ChatCompletion,
    "Answers a conversation. With `stream`, the answer comes as server-sent events, each a `ChatChunk`; the last is `[DONE]`.",
    "text/event-stream"
);
work!(
    render_chat,
    "/v1/chat/completions/render",
    ChatCompletionRequest,
    "the prompt's tokens and the parameters",
    Rendered,
    "What the engine would be given of a conversation, without running it."
);
work!(
    completions,
    "/v1/completions",
    CompletionRequest,
    "the continuations",
    Completion<'static>,
    "Continues prompts. With `stream`, the continuations come as server-sent events, each a `Completion` with one choice; the last is `[DONE]`.",
    "text/event-stream"
);
work!(
    render_completions,
    "/v1/completions/render",
    CompletionRequest,
    "one for each prompt",
    Vec<Rendered>,
    "What the engine would be given of each prompt, without running it."
);
work!(
    tokenize,
    "/tokenize",
    TokenizeRequest,
    "the tokens",
    TokenizeResponse,
    "The tokens of a text or of a conversation."
);
work!(
    detokenize,
    "/detokenize",
    DetokenizeRequest,
    "the text",
    DetokenizeResponse,
    "The text of tokens, special ones included."
);

/// The models that are served.
#[utoipa::path(get, path = "/v1/models", responses(
    (status = 200, description = "the models", body = ModelList),
    (status = 429, description = "too many calls: try again later", body = ErrorResponse),
    (status = 503, description = "none is loaded yet", body = ErrorResponse),
))]
fn list_models() {}

/// One model.
#[utoipa::path(get, path = "/v1/models/{id}", params(("id" = String, Path, description = "its name")), responses(
    (status = 200, description = "the model", body = Model),
    (status = 404, description = "it is not served here", body = ErrorResponse),
    (status = 429, description = "too many calls: try again later", body = ErrorResponse),
    (status = 503, description = "none is loaded yet", body = ErrorResponse),
))]
fn get_model() {}

/// Which version of the server this is.
#[utoipa::path(get, path = "/version", responses(
    (status = 200, description = "the version", body = Version),
    (status = 429, description = "too many calls: try again later", body = ErrorResponse),
))]
fn version() {}

/// This document.
#[utoipa::path(get, path = "/openapi.json", responses(
    (status = 200, description = "the document", body = Object),
    (status = 429, description = "too many calls: try again later", body = ErrorResponse),
))]
fn openapi() {}

/// All counts in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", responses(
    (status = 200, description = "the counts", body = String, content_type = "text/plain"),
    (status = 404, description = "they go to a recorder of another program's", body = String, content_type = "text/plain"),
))]
fn metrics() {}

/// A probe of readiness or of liveness.
macro_rules! probe {
    ($name:ident, $verb:ident, $path:literal, $description:literal) => {
        #[doc = $description]
        #[utoipa::path($verb, path = $path, responses(
            (status = 200, description = "it is", body = String, content_type = "text/plain"),
            (status = 503, description = "it is not; the text says why", body = String, content_type = "text/plain"),
        ))]
        fn $name() {}
    };
}

probe!(
    live,
    get,
    "/health/live",
    "Whether the process works; if not, only a restart helps."
);
probe!(ready, get, "/health/ready", "Whether requests are taken.");
probe!(
    health,
    get,
    "/health",
    "The same as `/health/ready`, under vLLM's name."
);
probe!(
    ping,
    get,
    "/ping",
    "The same as `/health/ready`, under SageMaker's name."
);
probe!(
    ping_by_post,
    post,
    "/ping",
    "The same as `/health/ready`, under SageMaker's name."
);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use maitre_engine::limits;

    use super::*;
    use crate::http::probes::PATHS;
    use crate::openai::completions::request::MAX_PROMPTS;
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
        let probes = PATHS.map(|path| ("GET".to_owned(), path.to_owned()));
        let by_post = [("POST".to_owned(), "/ping".to_owned())];
        let all = routes.chain(probes).chain(by_post);
        assert_eq!(described, all.collect());
    }

    /// What the schemas say is what the engine does.
    #[test]
    fn bounds_are_the_engines() {
        let document = serde_json::to_value(Document::openapi()).unwrap();
        let of = |path: &str| {
            let path = format!("/components/schemas/{path}");
            let found = document.pointer(&path).and_then(Value::as_u64);
            found.unwrap_or_else(|| panic!("{path}"))
        };
        for (path, bound) in [
            ("Parameters/properties/n/maximum", u64::from(limits::MAX_N)),
            (
                "Parameters/properties/stop_token_ids/maxItems",
                limits::MAX_STOP_TOKEN_IDS as u64,
            ),
            (
                "Parameters/properties/stop/anyOf/1/maxItems",
                limits::MAX_STOP_STRINGS as u64,
            ),
            (
                "Parameters/properties/stop/anyOf/0/maxLength",
                limits::MAX_STOP_BYTES as u64,
            ),
            (
                "Parameters/properties/request_id/maxLength",
                limits::MAX_REQUEST_ID_BYTES as u64,
            ),
            (
                "Parameters/properties/cache_salt/maxLength",
                limits::MAX_TENANT_BYTES as u64,
            ),
            (
                "CompletionFields/properties/prompt/anyOf/2/maxItems",
                MAX_PROMPTS as u64,
            ),
        ] {
            assert_eq!(of(path), bound, "{path}");
        }
        let bias = "/components/schemas/Parameters/properties/logit_bias/description";
        let bias = document.pointer(bias).and_then(Value::as_str).unwrap();
        assert!(
            bias.contains(&format!("at most {}", limits::MAX_LOGIT_BIAS)),
            "{bias}"
        );
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
