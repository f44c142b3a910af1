//! `/v1/models` and `/version`.

use axum::body::Body;
use axum::http::Response;

use super::handlers::Handlers;
use super::json;
use super::types::text::{Model, ModelList, Version};
use crate::service::api_error::ApiError;

impl Handlers {
    fn model(&self) -> Result<Model, ApiError> {
        let info = self.service.info()?;
        Ok(Model {
            id: info.model.clone(),
            object: "model",
            created: self.started,
            owned_by: "maitre",
            root: info.model.clone(),
            parent: None,
            max_model_len: info.limits.max_model_len,
            vocab_size: info.vocab_size,
        })
    }
}

/// The models that are served.
pub(super) fn list(handlers: &Handlers) -> Result<Response<Body>, ApiError> {
    Ok(json::response(&ModelList {
        object: "list",
        data: vec![handlers.model()?],
    }))
}

/// One of them.
pub(super) fn get(handlers: &Handlers, id: &str) -> Result<Response<Body>, ApiError> {
    handlers.service.check_model(id)?;
    Ok(json::response(&handlers.model()?))
}

/// Which server this is.
pub(super) fn version() -> Response<Body> {
    json::response(&Version {
        version: env!("CARGO_PKG_VERSION"),
    })
}
