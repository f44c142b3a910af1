//! What is measured: anything that answers a prompt with a stream of tokens.

mod address;
mod grpc;
mod in_process;
mod openai;

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

use crate::ServerState;

pub use address::{Address, parse_concurrency};
pub use grpc::GrpcTarget;
pub use in_process::{Counted, InProcessTarget};
pub use openai::{OpenAiOptions, OpenAiTarget};

/// Time to turn a text into tokens, which may wait behind requests that are computed.
const TOKENIZE_TIMEOUT: Duration = Duration::from_secs(60);

/// Time to say what is counted: a server that is busy with other things must not hold up the measurement.
const STATE_TIMEOUT: Duration = Duration::from_secs(2);

/// Arrivals of one answer. The end of the stream is the end of the answer; an error ends it too.
pub type TokenStream = BoxStream<'static, Result<Arrival, RequestError>>;

/// What came at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Arrival {
    /// Tokens of the answer.
    pub tokens: usize,
    /// Tokens of the prompt that the server had in its prefix cache, where it says so.
    pub cached_tokens: Option<u32>,
    /// How long the server took by its own clock, where it says so.
    pub server: Option<ServerTimes>,
}

impl From<usize> for Arrival {
    fn from(tokens: usize) -> Self {
        Self {
            tokens,
            ..Self::default()
        }
    }
}

/// Times of one answer by the clock of the server. What the client sees beyond them is the way there and back, and the
/// client itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ServerTimes {
    /// From the arrival until the first step.
    pub queue: Duration,
    /// From the arrival until the first token.
    pub ttft: Duration,
    /// Mean time between tokens.
    pub tpot: Duration,
}

/// A server or an engine. Its answers have exactly the length that was asked for.
pub trait Target: Sync {
    /// How reports call it.
    fn name(&self) -> String;

    /// What it serves.
    fn model(&self) -> ModelFacts;

    /// Whether it runs in this process, so that this process's CPU time is not the client's alone.
    fn shares_process(&self) -> bool {
        false
    }

    /// The tokens of a text, control tokens parsed: what it would be asked with as a prompt.
    fn tokenize(&self, text: &str) -> BoxFuture<'_, Result<Vec<u32>, RequestError>>;

    /// Sends one request. Greedy sampling, and no end before `output_tokens`.
    fn start(&self, request: BenchRequest) -> BoxFuture<'_, Result<TokenStream, RequestError>>;

    /// What it counts of itself; `None` where it does not tell.
    fn state(&self) -> BoxFuture<'_, Option<ServerState>> {
        async { None }.boxed()
    }
}

/// What a workload must know about a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFacts {
    /// Its name.
    pub name: String,
    /// Token ids are below this; 0: the server does not say.
    pub vocab_size: usize,
    /// Most tokens of prompt and answer together.
    pub max_model_len: usize,
}

/// A question beside the measured ones, which a server that has gone silent must not leave without an end.
async fn in_time<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, RequestError>>,
) -> Result<T, RequestError> {
    let answer = tokio::time::timeout(limit, answer).await;
    answer.unwrap_or_else(|_| {
        let message = format!("no answer within {} s", limit.as_secs());
        Err(RequestError::new("DEADLINE_EXCEEDED", message))
    })
}

/// One prompt, and how long its answer must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BenchRequest {
    /// The prompt.
    pub prompt: Vec<u32>,
    /// Exact length of the answer.
    pub output_tokens: usize,
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestError {
    /// Name of the gRPC status, such as `RESOURCE_EXHAUSTED`, for every kind of target.
    pub code: String,
    /// What more precisely, such as `queue_full`, where the server says so.
    pub reason: Option<String>,
    /// For people.
    pub message: String,
}

impl RequestError {
    /// A failure of this code.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            reason: None,
            message: message.into(),
        }
    }

    /// The same with a reason.
    #[must_use]
    pub fn because(mut self, reason: Option<String>) -> Self {
        self.reason = reason;
        self
    }
}
