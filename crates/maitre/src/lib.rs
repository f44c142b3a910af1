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
//!         print!("{}", delta.text());
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
//! - `cuda`: NVIDIA GPUs (run on an H100; tested on an emulator).
//! - `cuda-emulator`: their kernels on the processor, for tests.
//! - `fault-injection`: `gpu-check` makes kernels fail too; part of `cuda-emulator`.

#[cfg(feature = "hub")]
pub mod hub;

// The programs on the page for those who embed the engine are compiled as tests.
#[cfg(all(doctest, feature = "bundled"))]
#[doc = include_str!("../../../docs/src/guide/embed.md")]
struct GuideToEmbedding;

pub use maitre_bench as bench;
pub use maitre_engine::*;
pub use maitre_server as server;

/// The bundled chat model, trained for Maitre: small enough to compile in, real enough to try
/// every path of the engine on.
#[cfg(feature = "bundled")]
#[must_use]
pub fn bundled() -> ModelSource {
    in_memory(&maitre_bundled::TARGET)
}

/// The bundled draft model, for [`EngineBuilder::draft_model`]: a third of [`bundled`]'s layers, half its width,
/// the same vocabulary. Its likeliest token is the chat model's on about three tokens in four.
#[cfg(feature = "bundled")]
#[must_use]
pub fn bundled_draft() -> ModelSource {
    in_memory(&maitre_bundled::DRAFT)
}

#[cfg(feature = "bundled")]
fn in_memory(model: &maitre_bundled::BundledModel) -> ModelSource {
    ModelSource::Memory {
        name: model.name,
        files: model.files,
    }
}
