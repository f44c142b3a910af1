//! This crate sends load to a server or an engine, and measures how many tokens per second it makes and how long
//! users wait.
//!
//! A [`Target`] — a server over gRPC or OpenAI's API, or an engine in this process — is asked for answers of exactly known
//! length, under a [`Load`]: in a *closed loop* each of N users sends the next request when the last is answered; in an
//! *open loop* requests come at their times whether or not earlier ones are answered. What arrives when is measured at the
//! client, by the same code for every target and every load, and one [`Record`] holds what was seen of one request:
//!
//! - **TTFT**, time to first token: from when a request was due to its first token;
//! - **ITL**, inter-token latency: every gap between two arrivals of tokens within a request;
//! - **TPOT**, time per output token: a request's time after its first arrival, per token in it;
//! - **E2E**: from when a request was due to the end of its answer.
//!
//! This crate must never know the engine's internals: it sees what any client sees, and what a server says of itself. The
//! clock is an argument, so that its own tests run in virtual time.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//!
//! use maitre_bench::{BenchRequest, Clock, ModelFacts, RequestError, Settings, Stop, Target, Workload};
//! use maitre_bench::{measure, TokenStream};
//! use futures_util::{FutureExt, StreamExt, future::{BoxFuture, pending}, stream};
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
//!         let tokens = stream::iter((0..request.output_tokens).map(|_| Ok(1.into()))).boxed();
//!         async move { Ok(tokens) }.boxed()
//!     }
//! }
//! struct Frozen;
//! impl Clock for Frozen {
//!     fn now(&self) -> Duration { Duration::ZERO }
//!     fn sleep_until(&self, _at: Duration) -> BoxFuture<'static, ()> { pending().boxed() }
//! }
//!
//! let settings = Settings::closed_loop(Workload::of(8, 4), &[1, 2]);
//! let stop = Stop::default();
//! let report = measure(&Instant, &Frozen, &settings, &stop, |_| {}).now_or_never().unwrap()?;
//! assert_eq!(report.runs[1].output_tokens, 8 * 4);
//! # Ok::<(), maitre_bench::BenchError>(())
//! ```

mod bursts;
mod capacity;
mod clock;
mod driver;
mod error;
mod machine;
mod measure;
mod report;
mod requests;
mod server;
mod summary;
mod target;

pub use bursts::measure_bursts;
pub use capacity::{Bent, Capacity, Dimension, Resource, Tried, find_capacity};
pub use clock::{Clock, MonotonicClock};
pub use driver::{Record, Stop};
pub use error::BenchError;
/// What comes when.
pub use maitre_workload as workload;
pub use measure::{Progress, Settings, measure};
pub use report::{Change, Comparison, Difference, Report};
pub use requests::{ChatsNeeded, Load, PromptFile, Prompts, Questions, RecordedChats, Workload};
pub use server::{ServerRun, ServerState};
pub use summary::{Goodput, Percentiles, Run, Samples, Timeline};
pub use target::{
    Address, Arrival, BenchRequest, Counted, GrpcTarget, InProcessTarget, ModelFacts,
    OpenAiOptions, OpenAiTarget, RequestError, ServerTimes, Target, TokenStream, parse_concurrency,
};
