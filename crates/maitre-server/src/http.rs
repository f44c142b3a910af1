//! The HTTP side port: what monitoring systems and orchestrators ask.

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, StatusCode};
use axum::routing::get;

use crate::{Startup, metrics};

/// Content type of the Prometheus text format.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `/metrics`, `/health/live`, `/health/ready` and `/health`, which is vLLM's name for readiness.
pub(crate) fn router(startup: Startup) -> Router {
    Router::new()
        .route("/metrics", get(show_metrics))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/health", get(ready))
        .with_state(startup)
}

async fn show_metrics()
-> Result<([(HeaderName, &'static str); 1], String), (StatusCode, &'static str)> {
    match metrics::render() {
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
