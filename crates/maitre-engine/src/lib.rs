//! This crate is the engine that other Rust programs embed: a caller submits requests to an async handle and
//! receives tokens and text as a stream. It binds model, scheduler, sampling and text.
//!
//! It runs on two threads of its own, beside the model's compute team: the *step loop* plans, runs,
//! samples and commits; the *publisher* turns committed tokens into text and sends it to the request's
//! receiver. Constraints of answers run on a few threads beside them.
//!
//! *Architecture invariant:* the engine knows nothing of protobuf or HTTP. It is the lowest layer
//! with a clock and with randomness; below it both are arguments.
//!
//! ```
//! use maitre_engine::{Engine, Event, GenerateRequest, Input, ModelSource};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let source = ModelSource::Memory {
//!     name: maitre_bundled::TARGET.name,
//!     files: maitre_bundled::TARGET.files,
//! };
//! let engine = Engine::builder(source).build()?;
//! let mut request = GenerateRequest::new(Input::Text("Once upon a time".into()));
//! request.stopping.max_tokens = Some(8);
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let mut answer = engine.generate(request).await?;
//! while let Some(event) = answer.next().await {
//!     if let Event::Delta(delta) = event? {
//!         print!("{}", delta.text());
//!     }
//! }
//! # Ok::<(), maitre_engine::EngineError>(())
//! # })?;
//! # Ok(())
//! # }
//! ```

mod admission;
mod clock;
mod engine;
mod error;
mod observe;
mod output;
mod request;
mod start;
mod step;

pub use clock::{Clock, SystemClock};
pub use engine::Engine;
pub use error::{EngineError, StartError, Violation};
pub use maitre_model::{Executor, Forward, LoadFormat, LoadProgress, ModelSource, Synchronous};
pub use maitre_sampling::{Constraint, ConstraintSource, TokenMask};
pub use maitre_scheduler::{
    BlockHash, CacheEvent, Place, Policy, PolicyKind, QueueOrder, Service, TenantId, Waiting,
};
pub use maitre_speculative::{Acceptance, Drafter, Speculate};
pub use maitre_tensor::{CpuPath, DeviceName, GpuMemory, KvFormat, WeightFormat};
pub use maitre_text::grammar::{GrammarError, GrammarSpec, JsonWhitespace, StructuralTag, Tag};
pub use maitre_text::{
    Detokenizer, Part, ReasoningFormat, TextError, Tool, ToolChoice, ToolFormat, Tools,
};
pub use observe::cache_events::{CacheEventBatch, CacheEvents, MissedEvents};
pub use observe::health::{Health, Load};
pub use observe::info::{
    DraftInfo, EngineInfo, EngineLimits, MemoryBudget, Scheduling, Speculation,
};
pub use output::byte_budget;
pub use output::event::{
    Delta, Event, FinishReason, Finished, LogprobEntry, Matched, PromptLogprobs, Timings, TokenIds,
    TokenLogprob, Usage,
};
pub use output::generation::Generation;
pub use request::constraint::ConstraintHandle;
pub use request::grammar::GrammarOptions;
pub use request::limits;
pub use request::offload::Offload;
pub use request::options::{
    CacheOptions, ChatMessage, ChatRequest, GenerateRequest, Input, OutputOptions, Role,
    SamplingOptions, ServiceOptions, Stopping,
};
pub use request::parts::PartOptions;
pub use start::builder::EngineBuilder;
pub use start::check_files::{check_draft_files, check_files};
pub use start::custom_policy::CustomPolicy;
pub use start::device_fit::DeviceFit;
pub use start::machine::{
    AvailableMemory, MemoryLimit, ThreadLimit, UsableCores, available_memory, require_threads,
    usable_cores,
};
pub use start::parts::Parts;
