//! What is measured: anything that answers a prompt with a stream of tokens.

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

/// Arrivals of one answer: how many tokens came at once. The end of the stream is the end of the
/// answer; an error ends it too.
pub type TokenStream = BoxStream<'static, Result<usize, RequestError>>;

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
}

/// What a workload must know about a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFacts {
    /// Its name.
    pub name: String,
    /// Token ids are below this.
    pub vocab_size: usize,
    /// Most tokens of prompt and answer together.
    pub max_model_len: usize,
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
    /// For people.
    pub message: String,
}

impl RequestError {
    /// A failure of this code.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
        }
    }
}
