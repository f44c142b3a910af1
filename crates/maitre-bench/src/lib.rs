//! This crate sends load to a server or an engine, and measures how many tokens per second it makes and how long
//! users wait.
//!
//! A *closed loop* of N users asks a [`Target`] — a server over gRPC or OpenAI's API, or an engine in this process —
//! for answers of exactly known length; each user sends the next request when the last is answered.
//! What arrives when is measured at the client, by the same code for every target:
//!
//! - **TTFT**, time to first token: from sending a request to its first token;
//! - **ITL**, inter-token latency: every gap between two arrivals of tokens within a request;
//! - **TPOT**, time per output token: a request's time after its first arrival, per token in it;
//! - **E2E**: from sending a request to the end of its answer.
//!
//! This crate must never know the engine's internals: it sees what any client sees. The clock is an
//! argument, so that its own tests run in virtual time.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//!
//! use maitre_bench::{BenchRequest, Clock, ModelFacts, RequestError, Settings, Target, Workload};
//! use maitre_bench::{measure, TokenStream};
//! use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};
//!
//! /// A target that answers at once.
//! struct Instant;
//! impl Target for Instant {
//!     fn name(&self) -> String { "instant".into() }
//!     fn model(&self) -> ModelFacts {
//!         ModelFacts { name: "none".into(), vocab_size: 100, max_model_len: 64 }
//!     }
//!     fn tokenize(&self, _text: &str) -> BoxFuture<'_, Result<Vec<u32>, RequestError>> {
//!         async { Ok(vec![0]) }.boxed()
//!     }
//!     fn start(&self, request: BenchRequest) -> BoxFuture<'_, Result<TokenStream, RequestError>> {
//!         let tokens = stream::iter((0..request.output_tokens).map(|_| Ok(1))).boxed();
//!         async move { Ok(tokens) }.boxed()
//!     }
//! }
//! struct Frozen;
//! impl Clock for Frozen {
//!     fn now(&self) -> Duration { Duration::ZERO }
//! }
//!
//! let workload = Workload { input_tokens: 8, output_tokens: 4, requests: None, seed: 0 };
//! let settings = Settings { workload, prompts: None, concurrency: vec![1, 2], warmup_requests: 1 };
//! let report = measure(&Instant, &Frozen, &settings, |_| {}).now_or_never().unwrap()?;
//! assert_eq!(report.runs[1].output_tokens, 8 * 4);
//! # Ok::<(), maitre_bench::BenchError>(())
//! ```

mod address;
mod clock;
mod closed_loop;
mod cpu;
mod error;
mod grpc;
mod in_process;
mod openai;
mod plot;
mod prompts;
mod report;
mod statistics;
mod table;
mod target;
mod workload;

pub use address::{Address, parse_concurrency};
pub use clock::{Clock, MonotonicClock};
pub use closed_loop::{Settings, measure};
pub use error::BenchError;
pub use grpc::GrpcTarget;
pub use in_process::InProcessTarget;
pub use openai::{OpenAiOptions, OpenAiTarget};
pub use prompts::{PromptFile, Prompts};
pub use report::{Report, Run};
pub use statistics::Percentiles;
pub use target::{BenchRequest, ModelFacts, RequestError, Target, TokenStream};
pub use workload::Workload;
