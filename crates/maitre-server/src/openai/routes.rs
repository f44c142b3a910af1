//! What there is to call, so that metrics are labelled by known names only: a client that makes up paths must not make
//! up time series.

use std::sync::Arc;

use axum::http::Method as HttpMethod;

use crate::metrics::HTTP;
use crate::service::admission::Method;
use crate::service::call_pools::Class;

/// A path under which a model stands by its name, which may have slashes.
const ONE_MODEL: &str = "/v1/models/";

/// Method, path, what its calls are for, and whether they need an engine.
pub(super) const ROUTES: [(&str, &str, Class, bool); 10] = [
    ("POST", "/v1/chat/completions", Class::Work, true),
    ("POST", "/v1/chat/completions/render", Class::Work, true),
    ("POST", "/v1/completions", Class::Work, true),
    ("POST", "/v1/completions/render", Class::Work, true),
    ("POST", "/tokenize", Class::Work, true),
    ("POST", "/detokenize", Class::Work, true),
    ("GET", "/v1/models", Class::Control, true),
    ("GET", "/v1/models/{id}", Class::Control, true),
    ("GET", "/version", Class::Control, false),
    ("GET", "/openapi.json", Class::Control, false),
];

/// The methods of [`ROUTES`] as metrics and limits see them. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Routes {
    methods: Arc<[Method]>,
    unknown: Method,
}

impl Routes {
    pub(super) fn new() -> Self {
        let method = |name: &str, class, needs_engine| Method {
            name: Arc::from(name),
            family: &HTTP,
            class,
            needs_engine,
        };
        Self {
            methods: ROUTES
                .iter()
                .map(|(_, path, class, needs_engine)| method(path, *class, *needs_engine))
                .collect(),
            unknown: method("unknown", Class::Control, false),
        }
    }

    /// What a call is for.
    pub(super) fn of(&self, method: &HttpMethod, path: &str) -> Method {
        let is_model = path.len() > ONE_MODEL.len() && path.starts_with(ONE_MODEL);
        let path = if is_model { "/v1/models/{id}" } else { path };
        let route = ROUTES
            .iter()
            .position(|(verb, known, ..)| method == *verb && path == *known);
        let known = route.and_then(|route| self.methods.get(route));
        known.unwrap_or(&self.unknown).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_real_routes_have_names() {
        let routes = Routes::new();
        let name = |method: HttpMethod, path: &str| routes.of(&method, path).name.to_string();
        assert_eq!(name(HttpMethod::POST, "/v1/completions"), "/v1/completions");
        assert_eq!(name(HttpMethod::GET, "/v1/completions"), "unknown");
        assert_eq!(name(HttpMethod::GET, "/v1/models/a/b"), "/v1/models/{id}");
        assert_eq!(name(HttpMethod::GET, "/v1/models/"), "unknown");
        assert_eq!(name(HttpMethod::POST, "/v1/anything"), "unknown");
    }
}
