//! This crate is the server: it answers gRPC and HTTP requests with the help of an engine.
//!
//! [`Server`] answers `maitre.v1` (`proto/maitre/v1`), `grpc.health.v1`, and reflection v1 and v1alpha
//! on one port, and OpenAI's API, `/metrics` and `/health` over HTTP on another. What a caller can get wrong is
//! answered with an error that says what was found, what was expected and which field it was; see
//! `service/api_error.rs`. What a caller can do to others is bounded: the size of a message, the number of
//! connections, calls and queued requests, and what a slow reader may leave unread.
//!
//! *Architecture invariant:* this crate translates and guards; it decides nothing about scheduling
//! and knows neither kernels nor block tables. Protobuf and HTTP end here: below it are the
//! engine's own types. What all protocols share lives in `service/` and knows neither; a protocol, such as `grpc/`,
//! only translates. `connections/` carries the bytes of all.
//!
//! # Example
//!
//! ```
//! use maitre_engine::{Engine, ModelSource};
//! use maitre_proto::v1::GetLoadRequest;
//! use maitre_proto::v1::admin_service_client::AdminServiceClient;
//! use maitre_server::{Listeners, Server};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! maitre_server::install_recorder();
//! let bundled = &maitre_bundled::TARGET;
//! let source = ModelSource::Memory { name: bundled.name, files: bundled.files };
//! let engine = Engine::builder(source).build()?;
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let any_port = ([127, 0, 0, 1], 0).into();
//! let listeners = Listeners::bind(any_port, Some(any_port)).await?;
//! let url = format!("http://{}", listeners.grpc_address());
//! let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
//! let server = tokio::spawn(Server::builder(engine).serve(listeners, async {
//!     let _ = stopped.await;
//! }));
//!
//! let mut client = AdminServiceClient::connect(url).await?;
//! let load = client.get_load(GetLoadRequest {}).await?.into_inner();
//! assert_eq!(load.running, 0);
//!
//! let _ = stop.send(());
//! server.await??;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })
//! # }
//! ```

mod connections;
mod error;
mod grpc;
mod http;
mod listeners;
mod metrics;
mod openai;
mod scrapes;
mod server;
mod service;

pub use error::ServerError;
pub use listeners::Listeners;
pub use metrics::{install_recorder, render as render_metrics};
pub use server::Server;
pub use service::startup::Startup;

/// Makes ring the process's TLS provider, if it has none yet; call it first thing in `main`.
///
/// A dependency may bring a second provider, and with two compiled in rustls chooses neither: the
/// first TLS configuration would fail.
pub fn install_crypto_provider() {
    // An error means that the process has chosen already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
