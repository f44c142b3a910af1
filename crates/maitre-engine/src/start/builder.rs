//! The settings of an engine, as the program that embeds it gives them.

use std::sync::Arc;
use std::time::Duration;

use maitre_model::{LoadFormat, LoadOptions, LoadProgress, ModelSource};
use maitre_scheduler::{Policy, PolicyKind};
use maitre_speculative::{Acceptance, Speculate};
use maitre_tensor::{DeviceName, GpuOptions, KvFormat, WeightFormat};

use crate::CustomPolicy;
use crate::observe::info::{Scheduling, Speculation};
use crate::start::load_progress::LoadObserver;

/// Settings of an engine. Every one has a default that serves the model as it is.
#[derive(Debug, Clone)]
pub struct EngineBuilder {
    pub(crate) source: ModelSource,
    pub(crate) served_name: Option<String>,
    pub(crate) load: LoadOptions,
    pub(crate) device: DeviceName,
    pub(crate) gpu: GpuOptions,
    pub(crate) threads: Option<usize>,
    pub(crate) max_model_len: Option<usize>,
    pub(crate) kv_cache_bytes: Option<u64>,
    pub(crate) block_size: usize,
    pub(crate) max_seqs: Option<usize>,
    pub(crate) max_batched_tokens: Option<usize>,
    pub(crate) max_queue: usize,
    pub(crate) max_queued_tokens: usize,
    pub(crate) host_kv_bytes: u64,
    pub(crate) unread_bytes: Option<u64>,
    pub(crate) scheduling: Scheduling,
    pub(crate) speculation: Speculation,
    pub(crate) draft: Option<ModelSource>,
    pub(crate) tool_format: Option<String>,
    pub(crate) reasoning_format: Option<String>,
    pub(crate) stall_after: Duration,
    pub(crate) load_observer: LoadObserver,
}

/// How large a step may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StepSize {
    pub(crate) seqs: usize,
    pub(crate) tokens: usize,
}

impl EngineBuilder {
    /// What was asked for, or what suits the device: a GPU reads its weights for twice as many sequences in the same
    /// time, and prompts by the thousand tokens before arithmetic is all it does.
    pub(crate) fn step_size(&self, is_on_gpu: bool) -> StepSize {
        let (seqs, tokens) = if is_on_gpu { (256, 2048) } else { (128, 512) };
        let most_seqs = self.max_batched_tokens.unwrap_or(seqs);
        let seqs = self.max_seqs.unwrap_or(seqs.min(most_seqs));
        StepSize {
            seqs,
            tokens: self.max_batched_tokens.unwrap_or(tokens.max(seqs)),
        }
    }

    pub(crate) fn new(source: ModelSource) -> Self {
        Self {
            source,
            served_name: None,
            load: LoadOptions::default(),
            device: DeviceName::Auto,
            gpu: GpuOptions::default(),
            threads: None,
            max_model_len: None,
            kv_cache_bytes: None,
            block_size: 16,
            max_seqs: None,
            max_batched_tokens: None,
            max_queue: 1024,
            max_queued_tokens: 1 << 20,
            host_kv_bytes: 0,
            unread_bytes: None,
            scheduling: Scheduling::default(),
            speculation: Speculation::default(),
            draft: None,
            tool_format: None,
            reasoning_format: None,
            stall_after: Duration::from_secs(5),
            load_observer: LoadObserver::default(),
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

    /// Memory for events that receivers have not read, all requests together; one request may take 27 % of it, less if
    /// others have some. Default: what the scores of five prompts of the longest length take, within 64 and 256 MiB.
    #[must_use]
    pub fn unread_bytes(mut self, bytes: Option<u64>) -> Self {
        self.unread_bytes = bytes;
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

    /// Where the model runs; default: the first GPU if this program can use one, else the processor.
    #[must_use]
    pub fn device(mut self, device: DeviceName) -> Self {
        self.device = device;
        self
    }

    /// Whether, on a GPU, an answer's bits may depend on nothing but the request (batch invariance); default:
    /// yes. Without, a step takes the fastest kernel for its size, and answers may differ in the last bits
    /// from one crowd to another. On the processor it is always so.
    #[must_use]
    pub fn deterministic(mut self, deterministic: bool) -> Self {
        self.gpu.deterministic = deterministic;
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
        self.load.context_len = tokens;
        self
    }

    /// Bytes of the KV pool; default: `max_seqs` whole sequences, at most a quarter of the memory
    /// left and 4 GiB; on a GPU, what is left.
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

    /// Sequences per step; default 128, on a GPU 256.
    #[must_use]
    pub fn max_seqs(mut self, sequences: usize) -> Self {
        self.max_seqs = Some(sequences);
        self
    }

    /// Token budget of a step; default 512, on a GPU 2048, and never less than sequences per step. Smaller means shorter gaps between tokens while
    /// prompts enter, larger means faster prompts.
    #[must_use]
    pub fn max_batched_tokens(mut self, tokens: usize) -> Self {
        self.max_batched_tokens = Some(tokens);
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

    /// Which request is admitted first; default: first come, first served.
    #[must_use]
    pub fn policy(mut self, policy: PolicyKind) -> Self {
        self.scheduling.policy = policy;
        self.scheduling.custom_policy = None;
        self
    }

    /// A policy of your own that says which request is admitted first. `make` makes a new one for each engine; banners and
    /// [`EngineInfo`](crate::EngineInfo) call it `name`. Whether a request may join the queue is decided before,
    /// as under [`PolicyKind::Priority`]: nothing is said of how long a wait will be, and a tenant's share of the
    /// queue is not bounded.
    ///
    /// # Examples
    ///
    /// The shortest prompt first. A long one may wait for ever.
    ///
    /// ```
    /// use std::collections::BTreeSet;
    ///
    /// use maitre_engine::{Engine, ModelSource, Place, Policy, Waiting};
    ///
    /// #[derive(Debug, Default)]
    /// struct ShortestPrompt {
    ///     waiting: BTreeSet<(usize, Place)>,
    /// }
    ///
    /// impl Policy for ShortestPrompt {
    ///     fn enter(&mut self, request: &Waiting) {
    ///         self.waiting.insert((request.prompt_tokens, request.place));
    ///     }
    ///
    ///     fn leave(&mut self, request: &Waiting) {
    ///         self.waiting.remove(&(request.prompt_tokens, request.place));
    ///     }
    ///
    ///     fn next(&self, _limit: usize) -> Vec<Place> {
    ///         let first = self.waiting.first();
    ///         first.map(|&(_, place)| place).into_iter().collect()
    ///     }
    /// }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let source = ModelSource::Memory {
    /// #     name: maitre_bundled::TARGET.name,
    /// #     files: maitre_bundled::TARGET.files,
    /// # };
    /// let engine = Engine::builder(source)
    ///     .custom_policy("shortest-prompt", ShortestPrompt::default)
    ///     .build()?;
    /// assert!(engine.info().to_string().contains("policy shortest-prompt"));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn custom_policy<P: Policy + 'static>(
        mut self,
        name: impl Into<Arc<str>>,
        make: impl Fn() -> P + Send + Sync + 'static,
    ) -> Self {
        self.scheduling.custom_policy = Some(CustomPolicy::new(name, make));
        self
    }

    /// Whether requests share the KV blocks of equal prefixes; default: they do. Answers are the
    /// same either way.
    #[must_use]
    pub fn prefix_cache(mut self, enabled: bool) -> Self {
        self.scheduling.prefix_cache = enabled;
        self
    }

    /// Bytes of ordinary memory for KV blocks that the pool has no space for; default 0. On a CPU the
    /// pool is ordinary memory itself, and a larger pool does the same at less cost.
    #[must_use]
    pub fn host_kv_bytes(mut self, bytes: u64) -> Self {
        self.host_kv_bytes = bytes;
        self
    }

    /// How long a step may take while a streaming request waits for its next token. Prompts enter in chunks
    /// small enough for that. Default: no limit but the token budget.
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

    /// A tenant's share of the service, where 1 is the share of all other tenants; counts under
    /// [`PolicyKind::Fair`], and where a [custom policy](Self::custom_policy) looks at it.
    #[must_use]
    pub fn tenant_weight(mut self, tenant: impl Into<String>, weight: u32) -> Self {
        self.scheduling.tenant_weights.insert(tenant.into(), weight);
        self
    }

    /// Publish what the prefix cache gains and loses, see [`Engine::cache_events`](crate::Engine::cache_events); default: no.
    #[must_use]
    pub fn cache_events(mut self, publish: bool) -> Self {
        self.scheduling.cache_events = publish;
        self
    }

    /// Where drafted tokens come from; default: wherever they make more tokens per second. Answers are the
    /// same either way, bit for bit, unless [`acceptance`](Self::acceptance) says otherwise.
    #[must_use]
    pub fn speculate(mut self, speculate: Speculate) -> Self {
        self.speculation.speculate = speculate;
        self
    }

    /// A smaller model with the same vocabulary that drafts tokens; default: none. Loaded in the format of
    /// the model it drafts for.
    #[must_use]
    pub fn draft_model(mut self, source: Option<ModelSource>) -> Self {
        self.draft = source;
        self
    }

    /// The most tokens drafted for a sequence in a step; default 8.
    #[must_use]
    pub fn draft_tokens(mut self, tokens: usize) -> Self {
        self.speculation.draft_tokens = tokens;
        self
    }

    /// When a drafted token is accepted; default: if it is the very token that would have come without it.
    #[must_use]
    pub fn acceptance(mut self, acceptance: Acceptance) -> Self {
        self.speculation.acceptance = acceptance;
        self
    }

    /// How the model writes calls of tools, by the name of a [`ToolFormat`](crate::ToolFormat), or `none`; default: as its chat template shows.
    #[must_use]
    pub fn tool_format(mut self, name: Option<String>) -> Self {
        self.tool_format = name;
        self
    }

    /// How the model writes its thoughts, by the name of a [`ReasoningFormat`](crate::ReasoningFormat), or `none`; default: as its chat template
    /// shows.
    #[must_use]
    pub fn reasoning_format(mut self, name: Option<String>) -> Self {
        self.reasoning_format = name;
        self
    }

    /// How long the step loop may be silent before readiness says so; default 5 s.
    #[must_use]
    pub fn stall_after(mut self, silence: Duration) -> Self {
        self.stall_after = silence;
        self
    }

    /// Who is told how many of the weights are loaded: the name of the model (or of the one that drafts for it), and
    /// how far it is; default: no observer. It is called once before the first weight of each model and once after each
    /// matrix, on the thread that loads, so it must not take long.
    #[must_use]
    pub fn progress(
        mut self,
        observer: impl Fn(&str, LoadProgress) + Send + Sync + 'static,
    ) -> Self {
        self.load_observer = LoadObserver::new(observer);
        self
    }
}
