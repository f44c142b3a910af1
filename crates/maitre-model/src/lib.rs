//! This crate loads a language model (Llama, Qwen, Gemma and others: [`Architecture::all`]) and runs it: it reads the configuration and the
//! weights, and computes logits for ragged paged batches.
//!
//! A [`ModelSource`] names a Hugging Face directory (or the same files in memory); [`Model::load`]
//! reads its configuration and weights; a [`Runner`] adds a paged KV cache and the activations, and
//! runs [`Batch`]es: tokens of any number of sequences, in any mix of prefill and decode.
//!
//! # Example
//!
//! ```
//! use std::sync::Arc;
//! use maitre_model::{Batch, KvGroup, LoadOptions, Model, ModelSource, Runner, RunnerConfig};
//! use maitre_tensor::{Backend, BlockTables, Span};
//!
//! # fn main() -> Result<(), maitre_model::ModelError> {
//! let draft = &maitre_bundled::DRAFT;
//! let source = ModelSource::Memory { name: draft.name, files: draft.files };
//! let backend = Backend::cpu(1)?;
//! let model = Arc::new(Model::load(&source, &LoadOptions::default(), &backend)?);
//!
//! // A cache of 4 blocks of 16 tokens, steps of at most 8 tokens of one sequence.
//! let mut runner = Runner::new(model, backend, RunnerConfig::new(4, 16, 8, 1))?;
//! runner.forward(&Batch {
//!     tokens: vec![1, 289, 205],
//!     positions: vec![0, 1, 2],
//!     spans: vec![Span { first_token: 0, num_tokens: 3, context_len: 3 }],
//!     groups: vec![KvGroup {
//!         tables: BlockTables { first_blocks: Vec::new(), tables: vec![vec![2]], block_size: 16 },
//!         slots: vec![32, 33, 34], // block 2, offsets 0 to 2
//!     }],
//!     output_rows: vec![2],
//! })?;
//! assert_eq!(runner.logits(0..1)?.values.len(), 4096);
//! # Ok(())
//! # }
//! ```
//!
//! # Invariants
//!
//! **Architecture invariant:** this crate must never know requests, scheduling or text. It is told
//! which rows to compute and where their keys and values go; whose they are is not its business.
//!
//! **Batch invariance:** the logits of a row depend on its sequence's tokens and on nothing else,
//! bit for bit: not on the rows beside it, on how its prompt was cut into steps, on which blocks
//! hold its cache, on threads, or on the tile its logits are asked for in.
//!
//! **Nothing is ignored:** a setting that changes the mathematics is implemented or refused by name.

mod architectures;
mod batch;
mod checkpoint;
mod config;
mod contents;
mod damage;
mod decoder;
mod error;
mod executor;
mod footprint;
mod forward;
mod generation;
mod gguf;
mod inventory;
mod json;
mod kv_layout;
mod layers;
mod layout;
mod model;
mod moves;
mod names;
mod padding;
mod pairs;
mod progress;
mod queued;
mod registry;
mod rope;
mod runner;
mod shard;
mod skeletons;
mod source;
pub mod spec;
mod stored;
mod synchronous;
mod table_error;
mod weights;
mod workspace;
mod wrapper;

pub use batch::{Batch, BatchLimits};
pub use config::ModelConfig;
pub use error::ModelError;
pub use executor::{
    Executor, RowSink, RowWant, SampledToken, StepInput, StepOrderError, StepTicket,
};
pub use footprint::Footprint;
pub use forward::{Draw, Drawn, Forward};
pub use generation::GenerationDefaults;
pub use gguf::GgufFile;
pub use kv_layout::{KvLayout, LayerGroup, Reads};
pub use model::{LoadFormat, LoadOptions, Model};
pub use moves::{CacheMove, CacheMoves};
pub use progress::LoadProgress;
pub use queued::Queued;
pub use registry::Architecture;
pub use rope::{
    DynamicNtk, Llama3Scaling, LongRope, QueryGrowth, RopeConfig, RopePairs, RopeScaling, Yarn,
};
pub use runner::{Logits, Runner, RunnerConfig};
pub use shard::Shard;
pub use source::ModelSource;
pub use stored::{StoredTensors, TensorUse};
pub use synchronous::Synchronous;
pub use table_error::TableError;
pub use workspace::LOGITS_TILE;
pub use wrapper::Wrapper;

// Which GGUF files are one model, by their names.
pub use maitre_gguf::ModelFiles;
// What batches and executors are made of.
pub use maitre_tensor::{BlockTables, Heartbeat, KvGroup, NO_SLOT, Span};
