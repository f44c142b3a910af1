//! What monitoring systems and orchestrators ask: short answers that need no place among the calls.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{FromRef, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, Method, StatusCode, Uri};
use axum::routing::get;

use super::message;
use crate::openai::error;
use crate::scrapes::Scrapes;
use crate::{Startup, metrics};

/// Content type of the Prometheus text format.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the handlers answer from.
#[derive(Debug, Clone)]
struct Sources {
    startup: Startup,
    scrapes: Scrapes,
}

impl FromRef<Sources> for Startup {
    fn from_ref(sources: &Sources) -> Self {
        sources.startup.clone()
    }
}

impl FromRef<Sources> for Scrapes {
    fn from_ref(sources: &Sources) -> Self {
        sources.scrapes.clone()
    }
}

/// The paths of [`router`].
pub(crate) const PATHS: [&str; 5] = [
    "/metrics",
    "/health",
    "/health/live",
    "/health/ready",
    "/ping",
];

/// `/metrics`, `/health/live`, `/health/ready`, `/health`, which is vLLM's name for readiness, and `/ping`, which is
/// SageMaker's.
pub(crate) fn router(startup: Startup) -> Router {
    Router::new()
        .route("/metrics", get(show_metrics))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/health", get(ready))
        .route("/ping", get(ready).post(ready))
        .method_not_allowed_fallback(|method: Method, uri: Uri| async move {
            error::response(&message::unknown_method(&method, uri.path()))
        })
        .with_state(Sources {
            startup,
            scrapes: Scrapes::new(metrics::render),
        })
}

async fn show_metrics(
    State(scrapes): State<Scrapes>,
) -> Result<([(HeaderName, &'static str); 1], Bytes), (StatusCode, &'static str)> {
    match scrapes.text().await {
        Some(text) => Ok(([(CONTENT_TYPE, PROMETHEUS_TEXT)], text)),
        None => Err((
            StatusCode::NOT_FOUND,
            "metrics go to another recorder that this process installed\n",
        )),
    }
}

/// Fails only when waiting does not help: the step loop is gone and a restart is due. A model that is
/// still loading needs time, not a restart.
async fn live(State(startup): State<Startup>) -> (StatusCode, &'static str) {
    match startup.engine() {
        Some(engine) if !engine.is_alive() => {
            (StatusCode::SERVICE_UNAVAILABLE, "the step loop has ended\n")
        }
        _ => (StatusCode::OK, "alive\n"),
    }
}

async fn ready(State(startup): State<Startup>) -> (StatusCode, String) {
    let health = startup.health();
    if health.ready {
        (StatusCode::OK, "ready\n".to_owned())
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{}\n", health.reason),
        )
    }
}
