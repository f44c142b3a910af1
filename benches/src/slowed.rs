//! The bundled model in an engine whose steps take longer than they need: a server that is slow by a known time.

use std::ops::Range;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use maitre_engine::{
    Engine, EngineInfo, EngineLimits, MemoryBudget, Parts, Scheduling, Speculate, Speculation,
    Synchronous, SystemClock,
};
use maitre_model::{
    Batch, CacheMoves, Forward, GenerationDefaults, LoadOptions, Logits, Model, ModelError,
    ModelSource, Runner, RunnerConfig,
};
use maitre_tensor::{Backend, Heartbeat};

use crate::texts;

/// Tokens of a KV block.
const BLOCK: usize = 16;

/// How slow, and how small.
#[derive(Debug, Clone, Copy)]
pub struct Slowness {
    /// What a step takes beyond what it needs.
    pub step: Duration,
    /// Tokens that the KV cache has space for.
    pub kv_tokens: usize,
    /// Threads of the compute team.
    pub threads: usize,
}

/// Starts an engine of the bundled model that is as slow, without prefix cache and speculation.
///
/// # Errors
///
/// If it cannot be started.
pub fn engine(slowness: Slowness) -> Result<Engine> {
    let backend = Backend::cpu(slowness.threads)?;
    let bundled = &maitre_bundled::TARGET;
    let source = ModelSource::Memory {
        name: bundled.name,
        files: bundled.files,
    };
    let model = Arc::new(Model::load(&source, &LoadOptions::default(), &backend)?);
    let limits = EngineLimits {
        max_model_len: 512,
        max_seqs: 128,
        max_batched_tokens: 512,
        max_queue: 1024,
        max_queued_tokens: 1 << 20,
        block_size: BLOCK,
        num_blocks: slowness.kv_tokens / BLOCK,
        num_host_blocks: 0,
    };
    let config = RunnerConfig::new(
        limits.num_blocks as u32,
        BLOCK as u32,
        limits.max_batched_tokens,
        limits.max_seqs,
    );
    let slowed = Slowed {
        inner: Runner::new(Arc::clone(&model), backend.clone(), config)?,
        by: slowness.step,
    };
    let tokenizer = texts::tokenizer()?;
    let info = info(&model, &backend, limits, tokenizer.num_tokens());
    let parts = Parts {
        executor: Box::new(Synchronous::new(slowed)),
        drafter: None,
        tokenizer,
        defaults: GenerationDefaults::default(),
        info,
        stall_after: Duration::from_secs(60),
        clock: Arc::new(SystemClock::start()),
    };
    Ok(parts.start()?)
}

fn info(model: &Model, backend: &Backend, limits: EngineLimits, vocab_size: usize) -> EngineInfo {
    let config = model.config();
    EngineInfo {
        model: "bundled".into(),
        architecture: config.architecture.to_string(),
        parameters: config.num_parameters(),
        dtype: model.dtype().to_string(),
        kv_dtype: model.kv_dtype().to_string(),
        device: "cpu".into(),
        backend: backend.name().into(),
        deterministic: true,
        threads: backend.threads(),
        vocab_size,
        eos_token_ids: Vec::new(),
        has_chat_template: false,
        tool_format: None,
        reasoning_format: None,
        limits,
        scheduling: Scheduling {
            prefix_cache: false,
            ..Scheduling::default()
        },
        speculation: Speculation {
            speculate: Speculate::Off,
            ..Speculation::default()
        },
        memory: MemoryBudget::default(),
    }
}

/// A model whose steps take longer.
struct Slowed {
    inner: Runner,
    by: Duration,
}

impl Forward for Slowed {
    fn vocab_size(&self) -> usize {
        Forward::vocab_size(&self.inner)
    }

    fn logits_tile(&self) -> usize {
        Forward::logits_tile(&self.inner)
    }

    fn heartbeat(&self) -> Heartbeat {
        Forward::heartbeat(&self.inner)
    }

    fn move_blocks(&mut self, moves: &CacheMoves<'_>) -> Result<(), ModelError> {
        Forward::move_blocks(&mut self.inner, moves)
    }

    fn forward(&mut self, batch: &Batch) -> Result<(), ModelError> {
        thread::sleep(self.by);
        Forward::forward(&mut self.inner, batch)
    }

    fn logits(&mut self, rows: Range<usize>) -> Result<Logits<'_>, ModelError> {
        Forward::logits(&mut self.inner, rows)
    }
}
