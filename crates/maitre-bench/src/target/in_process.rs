//! An engine of this process as a target: what the server adds is the difference to gRPC.

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use maitre_engine::{Engine, EngineError, Event, GenerateRequest, Input};

use crate::{
    Arrival, BenchRequest, ModelFacts, RequestError, ServerState, ServerTimes, Target, TokenStream,
};

/// What the process has counted, as text of the Prometheus format; `None` if nothing collects it.
pub type Counted = fn() -> Option<String>;

/// A running [`Engine`].
#[derive(Debug)]
pub struct InProcessTarget {
    engine: Engine,
    counted: Option<Counted>,
}

impl InProcessTarget {
    /// Measures this engine.
    #[must_use]
    pub fn new(engine: Engine) -> Self {
        let counted = None;
        Self { engine, counted }
    }

    /// Also reads what the engine counts, its steps among it, from the recorder that the process has installed.
    #[must_use]
    pub fn with_counts(mut self, counted: Counted) -> Self {
        self.counted = Some(counted);
        self
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

    fn state(&self) -> BoxFuture<'_, Option<ServerState>> {
        let load = self.engine.load();
        let counted = self.counted.and_then(|counted| counted());
        let counted = counted.map(|text| ServerState::parse(&text));
        let total = load.kv_total_blocks.max(1);
        let state = ServerState {
            running: Some(load.running as f64),
            waiting: Some((load.waiting + load.preempted_waiting) as f64),
            kv_used: Some(load.kv_used_blocks as f64 / total as f64),
            preemptions: Some(load.preemptions as f64),
            prefix_queries: Some(load.prefix_queries as f64),
            prefix_hits: Some(load.prefix_hits as f64),
            ..counted.unwrap_or_default()
        };
        async move { Some(state) }.boxed()
    }

    fn start(&self, request: BenchRequest) -> BoxFuture<'_, Result<TokenStream, RequestError>> {
        async move {
            let answer = self
                .engine
                .generate(generate(request))
                .await
                .map_err(failure)?;
            Ok(answer
                .map(|event| event.map(arrival_of).map_err(failure))
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

fn arrival_of(event: Event) -> Arrival {
    match event {
        Event::Delta(delta) => delta.token_ids.len().into(),
        Event::Finished(finished) => Arrival {
            tokens: 0,
            cached_tokens: Some(finished.usage.cached_prompt_tokens),
            server: Some(ServerTimes {
                queue: finished.timings.queue,
                ttft: finished.timings.ttft,
                tpot: finished.timings.tpot,
            }),
        },
        Event::PromptLogprobs(_) => Arrival::default(),
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
    let reason = match &error {
        EngineError::QueueFull { .. } => Some("queue_full"),
        EngineError::TenantQueueFull { .. } => Some("tenant_queue_full"),
        EngineError::QueueTokensFull { .. } => Some("queue_tokens_full"),
        EngineError::Overloaded { .. } => Some("overloaded"),
        EngineError::UnreadBytesFull { .. } => Some("unread_bytes_full"),
        EngineError::StopStringsFull { .. } => Some("stop_strings_full"),
        EngineError::SlowReceiver { .. } => Some("slow_receiver"),
        _ => None,
    };
    RequestError::new(code, error.to_string()).because(reason.map(str::to_owned))
}
