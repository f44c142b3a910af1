//! Maitre serves language models: this is the library that other Rust programs use, and the
//! `maitre` binary beside it.
//!
//! Everything here is a re-export of the layer that does the work; a program that needs only one
//! layer can depend on that crate alone.
//!
//! ```
//! use maitre::{Engine, Event, GenerateRequest, Input};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # #[cfg(feature = "bundled")] {
//! let engine = Engine::builder(maitre::bundled()).build()?;
//! let mut request = GenerateRequest::new(Input::Text("Once upon a time".into()));
//! request.sampling.temperature = Some(0.0);
//! request.stopping.max_tokens = Some(8);
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let mut answer = engine.generate(request).await?;
//! while let Some(event) = answer.next().await {
//!     if let Event::Delta(delta) = event? {
//!         print!("{}", delta.text);
//!     }
//! }
//! # Ok::<(), maitre::EngineError>(())
//! # })?;
//! # }
//! # Ok(())
//! # }
//! ```
//!
//! # Feature flags
//!
//! - `bundled` (default): the bundled chat model, 14 MB, compiled in.
//! - `hub` (default): `ORG/NAME` models from the Hugging Face Hub.

#[cfg(feature = "hub")]
pub mod hub;

pub use maitre_bench as bench;
pub use maitre_engine::*;
pub use maitre_server as server;

/// The bundled chat model, trained for Maitre: small enough to compile in, real enough to try
/// every path of the engine on.
#[cfg(feature = "bundled")]
#[must_use]
pub fn bundled() -> ModelSource {
    let model = &maitre_bundled::TARGET;
    ModelSource::Memory {
        name: model.name,
        files: model.files,
    }
}
