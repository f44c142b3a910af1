//! From settings to the pieces of an engine: check, load, budget.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use maitre_model::{
    GenerationDefaults, LoadFormat, LoadOptions, Model, ModelSource, Runner, RunnerConfig,
};
use maitre_sampling::SamplingParams;
use maitre_scheduler::PolicyKind;
use maitre_tensor::{Backend, KvFormat, WeightFormat};
use maitre_text::Tokenizer;

use crate::budget::{KvDemand, available_memory};
use crate::info::{EngineInfo, EngineLimits, MemoryBudget, Scheduling};
use crate::{Engine, Parts, StartError};

/// Largest `--block-size`: past it a block is a whole sequence of most models.
const MAX_BLOCK_SIZE: usize = 65_536;
/// Largest of the other settings: far above any real house, far below what overflows.
const MAX_COUNT: usize = 1 << 24;

/// Settings of an engine. Every one has a default that serves the model as it is.
#[derive(Debug, Clone)]
pub struct EngineBuilder {
    source: ModelSource,
    served_name: Option<String>,
    load: LoadOptions,
    threads: Option<usize>,
    max_model_len: Option<usize>,
    kv_cache_bytes: Option<u64>,
    block_size: usize,
    max_seqs: usize,
    max_batched_tokens: usize,
    max_queue: usize,
    max_queued_tokens: usize,
    host_kv_bytes: u64,
    scheduling: Scheduling,
    stall_after: Duration,
}

impl EngineBuilder {
    pub(crate) fn new(source: ModelSource) -> Self {
        Self {
            source,
            served_name: None,
            load: LoadOptions::default(),
            threads: None,
            max_model_len: None,
            kv_cache_bytes: None,
            block_size: 16,
            max_seqs: 128,
            max_batched_tokens: 512,
            max_queue: 1024,
            max_queued_tokens: 1 << 20,
            host_kv_bytes: 0,
            scheduling: Scheduling::default(),
            stall_after: Duration::from_secs(5),
        }
    }

    /// Name the model is served under; default: the model's own.
    #[must_use]
    pub fn served_name(mut self, name: impl Into<String>) -> Self {
        self.served_name = Some(name.into());
        self
    }

    /// Format of the packed weights; default: the file's. Integer formats are quantized at load.
    #[must_use]
    pub fn dtype(mut self, dtype: Option<WeightFormat>) -> Self {
        self.load.dtype = dtype;
        self
    }

    /// Dtype of the KV pool; default: f32 for f32 weights, else bf16.
    #[must_use]
    pub fn kv_dtype(mut self, dtype: Option<KvFormat>) -> Self {
        self.load.kv_dtype = dtype;
        self
    }

    /// Read the weights, or make them up from the configuration alone.
    #[must_use]
    pub fn load_format(mut self, format: LoadFormat) -> Self {
        self.load.load_format = format;
        self
    }

    /// Threads of the compute team; default: one per core.
    #[must_use]
    pub fn threads(mut self, threads: Option<usize>) -> Self {
        self.threads = threads;
        self
    }

    /// Prompt and answer together, in tokens; default: what the model was trained for.
    #[must_use]
    pub fn max_model_len(mut self, tokens: Option<usize>) -> Self {
        self.max_model_len = tokens;
        self
    }

    /// Bytes of the KV pool; default: `max_seqs` whole sequences, at most a quarter of the memory
    /// left and 4 GiB.
    #[must_use]
    pub fn kv_cache_bytes(mut self, bytes: Option<u64>) -> Self {
        self.kv_cache_bytes = bytes;
        self
    }

    /// Tokens per KV block; default 16.
    #[must_use]
    pub fn block_size(mut self, tokens: usize) -> Self {
        self.block_size = tokens;
        self
    }

    /// Sequences per step; default 128.
    #[must_use]
    pub fn max_seqs(mut self, sequences: usize) -> Self {
        self.max_seqs = sequences;
        self
    }

    /// Token budget of a step; default 512. Smaller means shorter gaps between tokens while
    /// prompts enter, larger means faster prompts.
    #[must_use]
    pub fn max_batched_tokens(mut self, tokens: usize) -> Self {
        self.max_batched_tokens = tokens;
        self
    }

    /// Sequences that may wait; default 1024.
    #[must_use]
    pub fn max_queue(mut self, sequences: usize) -> Self {
        self.max_queue = sequences;
        self
    }

    /// Prompt tokens that may wait, over all sequences; default 1,048,576. A single request may be
    /// longer.
    #[must_use]
    pub fn max_queued_tokens(mut self, tokens: usize) -> Self {
        self.max_queued_tokens = tokens;
        self
    }

    /// Refuse at once what would wait longer than this for its first step; default: nothing. Only
    /// first come, first served can tell beforehand.
    #[must_use]
    pub fn max_queue_wait(mut self, wait: Option<Duration>) -> Self {
        self.scheduling.max_queue_wait = wait;
        self
    }

    /// Who is admitted first; default: first come, first served.
    #[must_use]
    pub fn policy(mut self, policy: PolicyKind) -> Self {
        self.scheduling.policy = policy;
        self
    }

    /// Whether requests share the KV blocks of equal prefixes; default: they do. Answers are the
    /// same either way.
    #[must_use]
    pub fn prefix_cache(mut self, enabled: bool) -> Self {
        self.scheduling.prefix_cache = enabled;
        self
    }

    /// Bytes of ordinary memory for KV blocks that the pool has no room for; default 0. On a CPU the
    /// pool is ordinary memory itself, and a larger pool does the same at less cost.
    #[must_use]
    pub fn host_kv_bytes(mut self, bytes: u64) -> Self {
        self.host_kv_bytes = bytes;
        self
    }

    /// How long a step may take while somebody's next token waits for it: prompts enter in chunks
    /// as small as that takes. Default: no limit but the token budget.
    #[must_use]
    pub fn itl_target(mut self, target: Option<Duration>) -> Self {
        self.scheduling.itl_target = target;
        self
    }

    /// How long a request may be overtaken by others whose prefix is cached; default 1 s, zero for
    /// strict order.
    #[must_use]
    pub fn reorder_within(mut self, age: Duration) -> Self {
        self.scheduling.reorder_within = age;
        self
    }

    /// A tenant's share of the service relative to others', who have 1; counts under
    /// [`PolicyKind::Fair`].
    #[must_use]
    pub fn tenant_weight(mut self, tenant: impl Into<String>, weight: u32) -> Self {
        self.scheduling.tenant_weights.insert(tenant.into(), weight);
        self
    }

    /// Publish what the prefix cache gains and loses, see [`Engine::cache_events`]; default: no.
    #[must_use]
    pub fn cache_events(mut self, publish: bool) -> Self {
        self.scheduling.cache_events = publish;
        self
    }

    /// How long the step loop may be silent before readiness says so; default 5 s.
    #[must_use]
    pub fn stall_after(mut self, silence: Duration) -> Self {
        self.stall_after = silence;
        self
    }

    /// Loads the model and starts the engine. Blocks while the weights are read.
    ///
    /// # Errors
    ///
    /// A model that can't be used, settings that contradict each other, too little memory; see
    /// [`StartError`].
    pub fn build(self) -> Result<Engine, StartError> {
        self.check_settings()?;
        let backend = Backend::cpu(self.team_size())?;
        if let Some(caveat) = backend.caveat() {
            tracing::warn!("{caveat}");
        }
        let (tokenizer, model) = thread::scope(|scope| {
            // Parsing a large vocabulary takes half a second, which the weights need not wait for.
            let tokenizer = scope.spawn(|| self.tokenizer());
            let model = Model::load(&self.source, &self.load, &backend);
            let tokenizer = tokenizer.join();
            (
                tokenizer.unwrap_or_else(|panic| resume_unwind(panic)),
                model,
            )
        });
        let (tokenizer, model) = (tokenizer?, Arc::new(model?));
        // The weights are loaded by now, so this is what is left for the rest.
        let available = available_memory();
        let vocab_size = model.config().vocab_size;
        if tokenizer.num_tokens() > vocab_size {
            let largest_id = tokenizer.num_tokens() - 1;
            return Err(StartError::TokenizerBeyondVocabulary {
                largest_id,
                vocab_size,
            });
        }
        check_defaults(model.generation_defaults(), tokenizer.num_tokens())?;
        let limits = self.limits(&model, available)?;
        let kv_per_token = model.config().kv_bytes_per_token(model.kv_dtype());
        let mut memory = MemoryBudget {
            weights: model.weight_bytes() as u64,
            kv_per_token,
            kv_cache: kv_per_token * limits.kv_tokens() as u64,
            host_kv: kv_per_token * (limits.num_host_blocks * limits.block_size) as u64,
            workspace: 0,
            available,
        };
        check_memory(&memory)?;
        let config = RunnerConfig {
            num_host_blocks: narrow(limits.num_host_blocks),
            ..RunnerConfig::new(
                narrow(limits.num_blocks),
                narrow(limits.block_size),
                limits.max_batched_tokens,
                limits.max_seqs,
            )
        };
        let runner = Runner::new(Arc::clone(&model), backend.clone(), config)?;
        memory.workspace = runner.workspace_bytes() as u64;
        check_memory(&memory)?;
        let info = self.info(&model, &backend, &tokenizer, limits, memory);
        let defaults = model.generation_defaults().clone();
        let stall_after = self.stall_after;
        Parts {
            executor: Box::new(runner),
            tokenizer,
            defaults,
            info,
            stall_after,
        }
        .start()
    }

    fn info(
        &self,
        model: &Model,
        backend: &Backend,
        tokenizer: &Tokenizer,
        limits: EngineLimits,
        memory: MemoryBudget,
    ) -> EngineInfo {
        let config = model.config();
        EngineInfo {
            model: self
                .served_name
                .clone()
                .unwrap_or_else(|| short_name(&self.source)),
            architecture: config.architecture.to_string(),
            parameters: config.num_parameters(),
            dtype: model.dtype().to_string(),
            kv_dtype: model.kv_dtype().to_string(),
            device: "cpu".into(),
            backend: backend.name().into(),
            threads: backend.threads(),
            vocab_size: tokenizer.num_tokens(),
            eos_token_ids: model.generation_defaults().eos_token_ids.clone(),
            has_chat_template: tokenizer.has_chat_template(),
            limits,
            scheduling: Scheduling {
                window: config.sliding_window,
                ..self.scheduling.clone()
            },
            memory,
        }
    }

    fn check_settings(&self) -> Result<(), StartError> {
        for (setting, value, most) in [
            ("--block-size", self.block_size, MAX_BLOCK_SIZE),
            ("--max-seqs", self.max_seqs, MAX_COUNT),
            ("--max-batched-tokens", self.max_batched_tokens, MAX_COUNT),
            ("--max-queue", self.max_queue, MAX_COUNT),
            ("--max-queued-tokens", self.max_queued_tokens, usize::MAX),
            (
                "--max-model-len",
                self.max_model_len.unwrap_or(1),
                MAX_COUNT,
            ),
        ] {
            if !(1..=most).contains(&value) {
                return Err(StartError::Setting {
                    setting,
                    found: value.to_string(),
                    expected: format!("at least 1 and at most {most}"),
                });
            }
        }
        self.check_times()?;
        if let Some((tenant, _)) = self
            .scheduling
            .tenant_weights
            .iter()
            .find(|(_, w)| **w == 0)
        {
            return Err(StartError::Setting {
                setting: "--tenant-weight",
                found: format!("{tenant}=0"),
                expected: "at least 1".into(),
            });
        }
        if self.host_kv_bytes > 0 && !self.scheduling.prefix_cache {
            return Err(StartError::Setting {
                setting: "--host-kv-bytes",
                found: self.host_kv_bytes.to_string(),
                expected: "0 with --no-prefix-cache: the host tier keeps cached prefixes".into(),
            });
        }
        // More threads than cores would wait for each other at every operator.
        if let Some(threads) = self.threads.filter(|n| !(1..=cores()).contains(n)) {
            return Err(StartError::Setting {
                setting: "--threads",
                found: threads.to_string(),
                expected: format!(
                    "at least 1 and at most {}, the cores this process may use",
                    cores()
                ),
            });
        }
        if self.max_batched_tokens < self.max_seqs {
            return Err(StartError::Setting {
                setting: "--max-batched-tokens",
                found: self.max_batched_tokens.to_string(),
                expected: format!(
                    "at least --max-seqs ({}), so that every running sequence can take its token each step",
                    self.max_seqs
                ),
            });
        }
        Ok(())
    }

    /// Times of zero would refuse everything.
    fn check_times(&self) -> Result<(), StartError> {
        for (setting, time) in [
            ("--itl-target-ms", self.scheduling.itl_target),
            ("--max-queue-wait-ms", self.scheduling.max_queue_wait),
        ] {
            if time.is_some_and(|time| time.is_zero()) {
                return Err(StartError::Setting {
                    setting,
                    found: "0".into(),
                    expected: "at least 1, or leave it out".into(),
                });
            }
        }
        Ok(())
    }

    fn team_size(&self) -> usize {
        self.threads.unwrap_or_else(cores)
    }

    /// The model's tokenizer. Weights made up from a configuration alone can do without.
    fn tokenizer(&self) -> Result<Tokenizer, StartError> {
        let Some(json) = self.source.read("tokenizer.json")? else {
            if matches!(self.load.load_format, LoadFormat::Random { .. }) {
                return Ok(Tokenizer::of_bytes()?);
            }
            return Err(StartError::MissingFile {
                model: self.source.to_string(),
                file: "tokenizer.json",
                advice: "save the model with a fast tokenizer, which writes one",
            });
        };
        let config = self.source.read("tokenizer_config.json")?;
        let template = self.source.read("chat_template.jinja")?;
        Ok(Tokenizer::from_bytes(
            &json,
            config.as_deref(),
            template.as_deref(),
        )?)
    }

    fn limits(&self, model: &Model, available: Option<u64>) -> Result<EngineLimits, StartError> {
        let trained = model.config().max_position_embeddings;
        let max_model_len = self.max_model_len.unwrap_or(trained);
        if max_model_len > trained {
            return Err(StartError::Setting {
                setting: "--max-model-len",
                found: max_model_len.to_string(),
                expected: format!("at most {trained}, the positions this model was trained for"),
            });
        }
        let num_blocks = KvDemand {
            bytes_per_token: model.config().kv_bytes_per_token(model.kv_dtype()),
            block_size: self.block_size,
            max_model_len,
            max_seqs: self.max_seqs,
            given_bytes: self.kv_cache_bytes,
            available,
        }
        .num_blocks()?;
        let block_bytes =
            model.config().kv_bytes_per_token(model.kv_dtype()) * self.block_size as u64;
        let num_host_blocks = (self.host_kv_bytes / block_bytes.max(1)) as usize;
        if let (Some(window), 1..) = (model.config().sliding_window, num_host_blocks) {
            return Err(StartError::Setting {
                setting: "--host-kv-bytes",
                found: self.host_kv_bytes.to_string(),
                expected: format!(
                    "0: this model attends through a window of {window} tokens, which the host tier \
                     does not support"
                ),
            });
        }
        Ok(EngineLimits {
            max_model_len,
            max_seqs: self.max_seqs,
            max_batched_tokens: self.max_batched_tokens,
            max_queue: self.max_queue,
            max_queued_tokens: self.max_queued_tokens,
            num_host_blocks,
            block_size: self.block_size,
            num_blocks: num_blocks as usize,
        })
    }
}

/// A directory's last part, or the name of a model in memory.
fn short_name(source: &ModelSource) -> String {
    match source {
        ModelSource::Memory { name, .. } => (*name).to_owned(),
        ModelSource::Directory(path) => {
            let path = path.canonicalize().unwrap_or_else(|_| path.clone());
            path.file_name().map_or_else(
                || "model".into(),
                |name| name.to_string_lossy().into_owned(),
            )
        }
    }
}

/// Cores that this process may use: what its affinity and its container's quota leave it.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Sizes that `limits` has bounded to 32 bits.
pub(crate) fn narrow(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

/// What a request that says nothing would be given must be something a request may say.
fn check_defaults(defaults: &GenerationDefaults, vocab_size: usize) -> Result<(), StartError> {
    let neutral = SamplingParams::default();
    let params = SamplingParams {
        temperature: defaults.temperature.unwrap_or(neutral.temperature),
        top_p: defaults.top_p.unwrap_or(neutral.top_p),
        top_k: defaults.top_k.unwrap_or(neutral.top_k),
        min_p: defaults.min_p.unwrap_or(neutral.min_p),
        repetition_penalty: defaults
            .repetition_penalty
            .unwrap_or(neutral.repetition_penalty),
        ..neutral
    };
    if let Some(violation) = params.validate(vocab_size).into_iter().next() {
        return Err(StartError::GenerationDefault {
            key: violation.field,
            problem: violation.description,
        });
    }
    match defaults
        .eos_token_ids
        .iter()
        .find(|&&id| id as usize >= vocab_size)
    {
        Some(id) => Err(StartError::GenerationDefault {
            key: "eos_token_id",
            problem: format!("is {id}; the tokenizer has ids 0 to {}", vocab_size - 1),
        }),
        None => Ok(()),
    }
}

/// The KV pool and the workspace must fit into what the weights left.
fn check_memory(memory: &MemoryBudget) -> Result<(), StartError> {
    match memory.available {
        Some(available) if memory.kv_cache + memory.host_kv + memory.workspace > available => {
            let left = available.saturating_sub(memory.workspace + memory.host_kv);
            Err(StartError::OutOfMemory {
                kv_tokens_that_fit: left / memory.kv_per_token.max(1),
                needed: memory.weights + memory.kv_cache + memory.host_kv + memory.workspace,
                weights: memory.weights,
                kv: memory.kv_cache + memory.host_kv,
                workspace: memory.workspace,
                available: available + memory.weights,
            })
        }
        _ => Ok(()),
    }
}
