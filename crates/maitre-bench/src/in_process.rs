//! An engine of this process as a target: what the server adds is the difference to gRPC.

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use maitre_engine::{Engine, EngineError, Event, GenerateRequest, Input};

use crate::{BenchRequest, ModelFacts, RequestError, Target, TokenStream};

/// A running [`Engine`].
#[derive(Debug)]
pub struct InProcessTarget {
    engine: Engine,
}

impl InProcessTarget {
    /// Measures this engine.
    #[must_use]
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

impl Target for InProcessTarget {
    fn name(&self) -> String {
        "in-process".to_string()
    }

    fn model(&self) -> ModelFacts {
        let info = self.engine.info();
        ModelFacts {
            name: info.model.clone(),
            vocab_size: info.vocab_size,
            max_model_len: info.limits.max_model_len,
        }
    }

    fn shares_process(&self) -> bool {
        true
    }

    fn tokenize(&self, text: &str) -> BoxFuture<'_, Result<Vec<u32>, RequestError>> {
        let tokens = self.engine.tokenizer().encode(text);
        let tokens =
            tokens.map_err(|error| RequestError::new("INVALID_ARGUMENT", error.to_string()));
        async { tokens }.boxed()
    }

    fn start(&self, request: BenchRequest) -> BoxFuture<'_, Result<TokenStream, RequestError>> {
        async move {
            let answer = self
                .engine
                .generate(generate(request))
                .await
                .map_err(failure)?;
            Ok(answer
                .map(|event| event.map(tokens_of).map_err(failure))
                .boxed())
        }
        .boxed()
    }
}

fn generate(request: BenchRequest) -> GenerateRequest {
    let mut generate = GenerateRequest::new(Input::Tokens(request.prompt));
    generate.sampling.temperature = Some(0.0);
    generate.stopping.max_tokens = Some(u32::try_from(request.output_tokens).unwrap_or(u32::MAX));
    generate.stopping.ignore_eos = true;
    generate
}

fn tokens_of(event: Event) -> usize {
    match event {
        Event::Delta(delta) => delta.token_ids.len(),
        _ => 0,
    }
}

/// The status the server would have answered with, so that reports of both targets compare.
fn failure(error: EngineError) -> RequestError {
    let code = match &error {
        EngineError::Invalid { .. } => "INVALID_ARGUMENT",
        EngineError::DuplicateRequest { .. } => "ALREADY_EXISTS",
        EngineError::QueueFull { .. }
        | EngineError::TenantQueueFull { .. }
        | EngineError::QueueTokensFull { .. }
        | EngineError::Overloaded { .. }
        | EngineError::UnreadBytesFull { .. }
        | EngineError::StopStringsFull { .. }
        | EngineError::SlowReceiver { .. } => "RESOURCE_EXHAUSTED",
        EngineError::QueueTimeout | EngineError::DeadlineExceeded => "DEADLINE_EXCEEDED",
        EngineError::Cancelled => "CANCELLED",
        EngineError::Draining | EngineError::Stopped => "UNAVAILABLE",
        EngineError::Failed { .. } => "INTERNAL",
        EngineError::ConstraintFailed { .. } => "INVALID_ARGUMENT",
    };
    RequestError::new(code, error.to_string())
}
