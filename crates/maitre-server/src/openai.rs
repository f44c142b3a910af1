//! OpenAI's HTTP API, with the extensions that clients of vLLM send.
//!
//! It only translates. `routes` lists what there is; `chat`, `completions`, `text`, `render` and `models` read a
//! message into the [`Service`]'s terms and write what comes of it; `types` are the messages; `events` writes streams;
//! `error` has OpenAI's shape of a failure.
//!
//! Fields that are not known are ignored, as OpenAI's and vLLM's servers do; fields that are known and that this server
//! cannot honour are refused by name (`unsupported`).

mod chat;
mod completions;
mod continuation;
mod document;
pub(crate) mod error;
mod events;
mod generations;
mod handlers;
mod json;
mod logprobs;
mod models;
mod names;
mod parameters;
mod plain_words;
mod render;
mod routes;
mod schemas;
mod shape;
mod structural_tag;
mod structured;
mod text;
mod tools;
mod types;
mod unsupported;

use axum::Router;
use axum::http::Method as HttpMethod;
use hyper_util::service::TowerToHyperService;

use crate::service::Service;
use crate::service::admission::Method;
use handlers::Handlers;
use routes::Routes;

/// The front of a server: cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Front {
    pub(crate) router: TowerToHyperService<Router>,
    routes: Routes,
}

impl Front {
    /// The front of a service.
    pub(crate) fn new(service: &Service) -> Self {
        let router = handlers::router(Handlers::new(service));
        Self {
            router: TowerToHyperService::new(router),
            routes: Routes::new(),
        }
    }

    /// What a call to this path is for.
    pub(crate) fn method(&self, method: &HttpMethod, path: &str) -> Method {
        self.routes.of(method, path)
    }
}
