//! What an engine is made of, for banners, `GetServerInfo` and `maitre inspect`.

use std::fmt;

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
    /// Where it runs: `cpu`.
    pub device: String,
    /// The kernels it runs, such as `portable`.
    pub backend: String,
    /// Threads of the compute team.
    pub threads: usize,
    /// Ids that may stand in a prompt are below this.
    pub vocab_size: usize,
    /// The model's end-of-sequence ids.
    pub eos_token_ids: Vec<u32>,
    /// Whether there is a chat template.
    pub has_chat_template: bool,
    /// Bounds the operator set.
    pub limits: EngineLimits,
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
    /// Tokens per KV block.
    pub block_size: usize,
    /// KV blocks in the pool.
    pub num_blocks: usize,
}

impl EngineLimits {
    /// Tokens that the KV pool holds.
    #[must_use]
    pub fn kv_tokens(&self) -> usize {
        self.num_blocks * self.block_size
    }
}

/// The memory the engine takes, in bytes, all of it fixed at start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryBudget {
    /// Packed weights.
    pub weights: u64,
    /// The KV pool (reserved; touched as it fills).
    pub kv_cache: u64,
    /// KV bytes per token.
    pub kv_per_token: u64,
    /// Activations of the largest step.
    pub workspace: u64,
    /// What was available at start, a container's limit included; `None` where it can't be read.
    pub available: Option<u64>,
}

impl fmt::Display for EngineInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (limits, memory) = (&self.limits, &self.memory);
        writeln!(
            f,
            "model {} ({}, {:.2} M parameters), weights {}, KV {}, {} ({}) with {} thread(s)",
            self.model,
            self.architecture,
            self.parameters as f64 / 1e6,
            self.dtype,
            self.kv_dtype,
            self.device,
            self.backend,
            self.threads,
        )?;
        writeln!(
            f,
            "memory: weights {}, KV cache {} ({} blocks of {} tokens, {} bytes a token), workspace {}, available {}",
            mib(memory.weights),
            mib(memory.kv_cache),
            limits.num_blocks,
            limits.block_size,
            memory.kv_per_token,
            mib(memory.workspace),
            memory.available.map_or_else(|| "unknown".into(), mib),
        )?;
        write!(
            f,
            "limits: {} tokens a sequence, {} sequences and {} tokens a step, {} may wait",
            limits.max_model_len, limits.max_seqs, limits.max_batched_tokens, limits.max_queue,
        )
    }
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1024.0 * 1024.0))
}
