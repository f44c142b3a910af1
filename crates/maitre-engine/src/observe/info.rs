//! What an engine is made of, for banners, `GetServerInfo` and `maitre inspect`.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use maitre_scheduler::{KvSpec, Policy, PolicyKind};
use maitre_speculative::{Acceptance, Speculate, SpeculatorConfig};

use maitre_text::{ReasoningFormat, ToolFormat};

use crate::CustomPolicy;

/// Facts about a running engine; they never change after start.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineInfo {
    /// Name the model is served under.
    pub model: String,
    /// Architecture, such as `Qwen3ForCausalLM`.
    pub architecture: String,
    /// Number of parameters.
    pub parameters: u64,
    /// Dtype of the packed weights.
    pub dtype: String,
    /// Dtype of the KV pool.
    pub kv_dtype: String,
    /// Where it runs: `cpu`, `cuda:0`.
    pub device: String,
    /// The kernels it runs, such as `portable`, or the GPU's name.
    pub backend: String,
    /// Whether an answer's bits depend on nothing but its request: always on the processor.
    pub deterministic: bool,
    /// Threads of the compute team.
    pub threads: usize,
    /// Ids that may stand in a prompt are below this.
    pub vocab_size: usize,
    /// The model's end-of-sequence ids.
    pub eos_token_ids: Vec<u32>,
    /// Whether there is a chat template.
    pub has_chat_template: bool,
    /// How the model writes calls of tools; `None` if that is not known.
    pub tool_format: Option<&'static ToolFormat>,
    /// How it writes its thoughts; `None` if it has none, or that is not known.
    pub reasoning_format: Option<&'static ReasoningFormat>,
    /// Bounds the operator set.
    pub limits: EngineLimits,
    /// How requests are served within them.
    pub scheduling: Scheduling,
    /// How tokens are drafted.
    pub speculation: Speculation,
    /// Where the memory goes.
    pub memory: MemoryBudget,
}

/// The bounds of one engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineLimits {
    /// Prompt and answer together, in tokens.
    pub max_model_len: usize,
    /// Sequences per step.
    pub max_seqs: usize,
    /// Tokens per step.
    pub max_batched_tokens: usize,
    /// Sequences that may wait.
    pub max_queue: usize,
    /// Prompt tokens that may wait.
    pub max_queued_tokens: usize,
    /// Tokens per KV block.
    pub block_size: usize,
    /// KV pages in the pool. A sequence's block takes one in each of [`Scheduling::kv_groups`].
    pub num_blocks: usize,
    /// KV pages of the host tier, where pages go that the pool has no space for.
    pub num_host_blocks: usize,
}

impl EngineLimits {
    /// Tokens that the KV pool holds for one KV group, if no other takes any.
    #[must_use]
    pub fn kv_tokens(&self) -> usize {
        self.num_blocks * self.block_size
    }
}

/// How requests are served: their order, the prefix cache, and the limits on waiting.
#[derive(Debug, Clone, PartialEq)]
pub struct Scheduling {
    /// Which request is admitted first.
    pub policy: PolicyKind,
    /// A policy of the embedding program's, which replaces `policy`.
    pub custom_policy: Option<CustomPolicy>,
    /// Whether prefixes are shared between requests.
    pub prefix_cache: bool,
    /// The groups of layers that share the pages of the KV pool, each by the positions that a token of its layers reads.
    pub kv_groups: Vec<KvSpec>,
    /// How long a step may take while a streaming request waits for its next token.
    pub itl_target: Option<Duration>,
    /// Requests that would wait longer than this are refused at once.
    pub max_queue_wait: Option<Duration>,
    /// How long a request may be overtaken by others whose prefix is cached.
    pub reorder_within: Duration,
    /// Whether changes of the prefix cache are published; see
    /// [`Engine::cache_events`](crate::Engine::cache_events).
    pub cache_events: bool,
    /// Tenants' shares relative to 1, the share of every tenant that is not listed.
    pub tenant_weights: HashMap<String, u32>,
}

impl Default for Scheduling {
    fn default() -> Self {
        Self {
            policy: PolicyKind::Fcfs,
            custom_policy: None,
            prefix_cache: true,
            kv_groups: vec![KvSpec::Full],
            itl_target: None,
            max_queue_wait: None,
            reorder_within: Duration::from_secs(1),
            cache_events: false,
            tenant_weights: HashMap::new(),
        }
    }
}

impl Scheduling {
    /// Positions that a token reads at most in any layer; `None` = all before it.
    #[must_use]
    pub fn window(&self) -> Option<usize> {
        let windows = self.kv_groups.iter().map(|spec| spec.window());
        let all: Option<Vec<u32>> = windows.collect();
        all?.into_iter().max().map(|window| window as usize)
    }

    /// What the policy is called.
    #[must_use]
    pub fn policy_name(&self) -> &str {
        let custom = self.custom_policy.as_ref();
        custom.map_or(self.policy.name(), CustomPolicy::name)
    }

    pub(crate) fn build_policy(&self) -> Box<dyn Policy> {
        let custom = self.custom_policy.as_ref();
        custom.map_or_else(|| self.policy.build(), CustomPolicy::build)
    }
}

/// How tokens are drafted for sequences that decode.
#[derive(Debug, Clone, PartialEq)]
pub struct Speculation {
    /// Where they come from.
    pub speculate: Speculate,
    /// The most for one sequence in one step.
    pub draft_tokens: usize,
    /// When one is accepted.
    pub acceptance: Acceptance,
    /// The draft model.
    pub draft: Option<DraftInfo>,
}

/// A draft model.
#[derive(Debug, Clone, PartialEq)]
pub struct DraftInfo {
    /// Its name.
    pub model: String,
    /// Number of parameters.
    pub parameters: u64,
    /// Dtype of its packed weights.
    pub dtype: String,
    /// Bytes of its weights over those of the model it drafts for: what a token costs it, about.
    pub share: f64,
}

impl Default for Speculation {
    fn default() -> Self {
        Self {
            speculate: Speculate::Auto,
            draft_tokens: 8,
            acceptance: Acceptance::Coupling,
            draft: None,
        }
    }
}

impl Speculation {
    pub(crate) fn speculator(&self, vocab_size: usize) -> SpeculatorConfig {
        SpeculatorConfig {
            speculate: self.speculate,
            draft_tokens: self.draft_tokens,
            acceptance: self.acceptance,
            vocab_size,
            draft_share: self.draft.as_ref().map_or(1.0, |draft| draft.share),
        }
    }
}

/// The memory the engine takes, in bytes, all of it fixed at start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryBudget {
    /// Packed weights.
    pub weights: u64,
    /// Packed weights of the draft model.
    pub draft_weights: u64,
    /// The KV pool (reserved; touched as it fills).
    pub kv_cache: u64,
    /// The host tier of the KV pool (reserved; touched as it fills).
    pub host_kv: u64,
    /// KV bytes per token, the draft model's included.
    pub kv_per_token: u64,
    /// Activations of the largest step, the draft model's included.
    pub workspace: u64,
    /// The block tables, the index of prefixes, and the texts of running sequences, at most.
    pub bookkeeping: u64,
    /// Events that receivers have not read, at most.
    pub unread_answers: u64,
    /// What was available at start, a container's limit included; of a GPU's free memory, what may be spent.
    /// `None` where it can't be read.
    pub available: Option<u64>,
    /// Whether weights, KV pool and workspace lie on a GPU; the host tier and the bookkeeping never do.
    pub is_on_gpu: bool,
}

impl fmt::Display for EngineInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (limits, memory) = (&self.limits, &self.memory);
        writeln!(
            f,
            "model {} ({}, {:.2} M parameters), weights {}, KV {}, {} ({}{}) with {} thread(s)",
            self.model,
            self.architecture,
            self.parameters as f64 / 1e6,
            self.dtype,
            self.kv_dtype,
            self.device,
            self.backend,
            if self.deterministic {
                ""
            } else {
                ", not deterministic"
            },
            self.threads,
        )?;
        writeln!(
            f,
            "memory: weights {}, draft {}, KV cache {} ({} blocks of {} tokens, {} bytes a token), host KV {}, workspace {}, bookkeeping {}, unread answers {}, available {}",
            mib(memory.weights),
            mib(memory.draft_weights),
            mib(memory.kv_cache),
            limits.num_blocks,
            limits.block_size,
            memory.kv_per_token,
            mib(memory.host_kv),
            mib(memory.workspace),
            mib(memory.bookkeeping),
            mib(memory.unread_answers),
            memory.available.map_or_else(|| "unknown".into(), mib),
        )?;
        writeln!(
            f,
            "limits: {} tokens a sequence, {} sequences and {} tokens a step, {} may wait with {} tokens",
            limits.max_model_len,
            limits.max_seqs,
            limits.max_batched_tokens,
            limits.max_queue,
            limits.max_queued_tokens,
        )?;
        writeln!(
            f,
            "formats: tool calls {}, thoughts {}",
            self.tool_format.map_or("unknown", |format| format.name),
            self.reasoning_format.map_or("none", |format| format.name),
        )?;
        writeln!(f, "{}", self.scheduling)?;
        write!(f, "{}", self.speculation)
    }
}

impl fmt::Display for Scheduling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Option<Duration>| {
            time.map_or_else(|| "none".into(), |time| format!("{} ms", time.as_millis()))
        };
        let window = windows(&self.kv_groups);
        write!(
            f,
            "scheduling: policy {}, prefix cache {}, attention window {window}, ITL target {}, longest \
             queue wait {}",
            self.policy_name(),
            if self.prefix_cache { "on" } else { "off" },
            ms(self.itl_target),
            ms(self.max_queue_wait),
        )
    }
}

/// The windows of KV groups in their order, those that are alike drawn together.
fn windows(groups: &[KvSpec]) -> String {
    let runs = groups.chunk_by(|a, b| a == b).filter_map(|run| {
        let window = match run.first()? {
            KvSpec::Full => "none".to_owned(),
            KvSpec::Window(window) => format!("{window} tokens"),
            KvSpec::Chunked(chunk) => format!("chunks of {chunk} tokens"),
            KvSpec::State { .. } => "a state".to_owned(),
        };
        Some(match run.len() {
            _ if run.len() == groups.len() => window,
            1 => format!("{window} in 1 KV group"),
            many => format!("{window} in {many} KV groups"),
        })
    });
    runs.collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Speculation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let speculate = match self.speculate {
            Speculate::Off => return write!(f, "speculation: off"),
            Speculate::Ngram => "n-gram",
            Speculate::Suffix => "suffix",
            Speculate::Draft => "draft",
            Speculate::Auto => "auto",
        };
        let acceptance = match self.acceptance {
            Acceptance::Coupling => "coupling",
            Acceptance::Rejection => "rejection",
        };
        let tokens = self.draft_tokens;
        write!(
            f,
            "speculation: {speculate}, up to {tokens} tokens, accepted by {acceptance}, draft model "
        )?;
        match &self.draft {
            None => write!(f, "none"),
            Some(draft) => write!(
                f,
                "{} ({:.2} M parameters, {})",
                draft.model,
                draft.parameters as f64 / 1e6,
                draft.dtype
            ),
        }
    }
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1024.0 * 1024.0))
}
