//! An engine on a backend that the check holds: what is asked of it goes the way of every request, and the check can
//! look at the device meanwhile, or make it fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use maitre_engine::{
    Engine, EngineError, EngineInfo, EngineLimits, Event, GenerateRequest, Input, MemoryBudget,
    Parts, Scheduling, Speculate, Speculation, SystemClock,
};
use maitre_model::{
    CacheMoves, Executor, Heartbeat, Model, ModelError, Queued, RowSink, Runner, RunnerConfig,
    StepInput, StepTicket, Synchronous,
};
use maitre_tensor::Backend;
use maitre_text::Tokenizer;

/// How an engine is sized.
#[derive(Debug, Clone, Copy)]
pub(super) struct Service {
    pub(super) max_seqs: usize,
    pub(super) max_model_len: usize,
    pub(super) max_batched_tokens: usize,
    /// Tokens that the pool holds.
    pub(super) kv_tokens: usize,
    pub(super) host_blocks: usize,
}

const BLOCK_SIZE: usize = 16;

/// Time that a runner was at work, how many steps it took, and how many of them failed.
#[derive(Debug, Default)]
pub(super) struct Busy {
    nanoseconds: AtomicU64,
    steps: AtomicU64,
    failures: AtomicU64,
}

impl Busy {
    pub(super) fn seconds(&self) -> f64 {
        Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)).as_secs_f64()
    }

    pub(super) fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    #[cfg(feature = "fault-injection")]
    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    fn during<R>(&self, work: impl FnOnce() -> R) -> R {
        let began = Instant::now();
        let result = work();
        let took = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(took, Ordering::Relaxed);
        result
    }
}

/// An executor with a watch.
struct Timed {
    executor: Box<dyn Executor>,
    busy: Arc<Busy>,
}

impl Timed {
    fn watch<R>(
        &mut self,
        call: impl FnOnce(&mut dyn Executor) -> Result<R, ModelError>,
    ) -> Result<R, ModelError> {
        let result = self.busy.during(|| call(self.executor.as_mut()));
        if result.is_err() {
            self.busy.failures.fetch_add(1, Ordering::Relaxed);
        }
        result
    }
}

impl Executor for Timed {
    fn depth(&self) -> usize {
        self.executor.depth()
    }

    fn vocab_size(&self) -> usize {
        self.executor.vocab_size()
    }

    fn heartbeat(&self) -> Heartbeat {
        self.executor.heartbeat()
    }

    fn move_blocks(&mut self, moves: &CacheMoves<'_>) -> Result<(), ModelError> {
        self.busy.during(|| self.executor.move_blocks(moves))
    }

    fn submit(&mut self, step: &StepInput<'_>) -> Result<StepTicket, ModelError> {
        self.busy.steps.fetch_add(1, Ordering::Relaxed);
        self.watch(|executor| executor.submit(step))
    }

    fn wait(&mut self, ticket: StepTicket, sink: &mut dyn RowSink) -> Result<(), ModelError> {
        self.watch(|executor| executor.wait(ticket, sink))
    }

    fn discard(&mut self, ticket: StepTicket) {
        self.executor.discard(ticket);
    }
}

impl Service {
    /// Starts an engine for `model` on `backend`. Its text is bytes, which the check does not read.
    pub(super) fn start(self, model: Arc<Model>, backend: &Backend) -> Result<(Engine, Arc<Busy>)> {
        let num_blocks = self.kv_tokens.div_ceil(BLOCK_SIZE);
        let config = RunnerConfig {
            num_host_blocks: u32::try_from(self.host_blocks)?,
            max_output_rows_per_step: self.max_batched_tokens.max(self.max_seqs),
            ..RunnerConfig::new(
                u32::try_from(num_blocks)?,
                u32::try_from(BLOCK_SIZE)?,
                self.max_batched_tokens.max(self.max_seqs),
                self.max_seqs,
            )
        };
        let runner = Runner::new(Arc::clone(&model), backend.clone(), config)?;
        let executor: Box<dyn Executor> = match backend.gpu_info() {
            Some(_) => Box::new(Queued::new(runner)?),
            None => Box::new(Synchronous::new(runner)),
        };
        let busy = Arc::<Busy>::default();
        let tokenizer = Tokenizer::of_bytes()?;
        let info = self.info(&model, backend, num_blocks);
        let engine = Parts {
            executor: Box::new(Timed {
                executor,
                busy: Arc::clone(&busy),
            }),
            drafter: None,
            tokenizer,
            defaults: model.generation_defaults().clone(),
            info,
            stall_after: Duration::from_secs(30),
            clock: Arc::new(SystemClock::start()),
        }
        .start()?;
        Ok((engine, busy))
    }

    fn info(self, model: &Model, backend: &Backend, num_blocks: usize) -> EngineInfo {
        let config = model.config();
        EngineInfo {
            model: "gpu-check".into(),
            architecture: config.architecture.to_string(),
            parameters: config.num_parameters(),
            dtype: model.dtype().to_string(),
            kv_dtype: model.kv_dtype().to_string(),
            device: backend.name().into(),
            backend: backend.name().into(),
            deterministic: true,
            threads: backend.threads(),
            // Of all tokens, not only of those that are bytes: as many logits are read as with a real tokenizer.
            vocab_size: config.vocab_size,
            eos_token_ids: Vec::new(),
            has_chat_template: false,
            tool_format: None,
            reasoning_format: None,
            limits: EngineLimits {
                max_model_len: self.max_model_len,
                max_seqs: self.max_seqs,
                max_batched_tokens: self.max_batched_tokens,
                max_queue: 4096,
                max_queued_tokens: 1 << 24,
                block_size: BLOCK_SIZE,
                num_blocks,
                num_host_blocks: self.host_blocks,
            },
            scheduling: Scheduling::default(),
            // Drafting would hide how fast a step is.
            speculation: Speculation {
                speculate: Speculate::Off,
                ..Speculation::default()
            },
            memory: MemoryBudget {
                weights: model.weight_bytes() as u64,
                kv_per_token: model.kv_bytes_per_token(),
                is_on_gpu: backend.gpu_info().is_some(),
                ..MemoryBudget::default()
            },
        }
    }
}

/// A request for exactly so many tokens after these.
pub(super) fn request(prompt: Vec<u32>, tokens: usize) -> Result<GenerateRequest> {
    let mut request = GenerateRequest::new(Input::Tokens(prompt));
    request.sampling.temperature = Some(0.0);
    request.stopping.max_tokens = Some(u32::try_from(tokens)?);
    request.stopping.ignore_eos = true;
    Ok(request)
}

/// The tokens of an answer.
pub(super) async fn answer(
    engine: &Engine,
    request: GenerateRequest,
) -> Result<Vec<u32>, EngineError> {
    let mut generation = engine.generate(request).await?;
    let mut tokens = Vec::new();
    while let Some(event) = generation.next().await {
        if let Event::Delta(delta) = event? {
            tokens.extend(delta.token_ids);
        }
    }
    Ok(tokens)
}

/// Waits until no sequence holds a block any more: a cancelled one gives its blocks back at the next step.
pub(super) async fn idle(engine: &Engine) -> Result<()> {
    for _ in 0..1000 {
        let load = engine.load();
        let requests = load.running + load.waiting + load.in_flight;
        if requests == 0 && load.kv_used_blocks == 0 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let load = engine.load();
    Err(anyhow!(
        "after 5 s without requests {} are running, {} wait, {} of {} blocks are held",
        load.running,
        load.waiting,
        load.kv_used_blocks,
        load.kv_total_blocks
    ))
}
