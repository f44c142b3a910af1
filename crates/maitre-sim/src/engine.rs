//! The settings of a replica's engine: those of `maitre serve` that decide who runs when.

use maitre_scheduler::queue::QueueBounds;
use maitre_scheduler::{HashKey, KvConfig, KvSpec, PolicyKind, SchedulerConfig, Time};
use serde::Serialize;

use crate::{Hardware, ModelShape, SimError};

/// What bounds a replica's engine. The defaults are those of `maitre serve` on a GPU.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineSettings {
    /// Most sequences in a step.
    pub max_seqs: usize,
    /// Most tokens in a step.
    pub max_batched_tokens: usize,
    /// Most tokens of a prompt and its answer together.
    pub max_model_len: usize,
    /// Tokens of a KV block.
    pub block_size: u32,
    /// Blocks of the KV cache, each in the layers of one group.
    pub kv_blocks: u32,
    /// How far back the layers of each group read.
    pub kv_groups: Vec<KvSpec>,
    /// Whether full blocks are kept for later requests that begin alike.
    pub prefix_cache: bool,
    /// Which request is admitted first.
    pub policy: PolicyKind,
    /// Most sequences that may wait.
    pub max_queue: usize,
    /// Most prompt tokens that may wait.
    pub max_queued_tokens: usize,
    /// The longest wait for the first step, where the policy allows an estimate.
    pub max_queue_wait: Option<Time>,
    /// How long a step may take while a decode waits for it.
    pub itl_target: Option<Time>,
    /// How long a request may be overtaken by others whose prefix is cached.
    pub reorder_within: Time,
    /// Steps that are planned before the oldest of them has ended, at least 1.
    pub steps_in_flight: usize,
}

impl EngineSettings {
    /// The defaults, for so many KV blocks and contexts of at most so many tokens.
    #[must_use]
    pub fn new(kv_blocks: u32, max_model_len: usize) -> Self {
        Self {
            max_seqs: 256,
            max_batched_tokens: 2048,
            max_model_len,
            block_size: 16,
            kv_blocks,
            kv_groups: vec![KvSpec::Full],
            prefix_cache: true,
            policy: PolicyKind::Fcfs,
            max_queue: 1024,
            max_queued_tokens: 1 << 20,
            max_queue_wait: None,
            itl_target: None,
            reorder_within: Time::from_secs(1),
            steps_in_flight: 1,
        }
    }

    /// The defaults for a model on so many devices of some hardware: contexts as long as the model's, groups for its windows, and the
    /// KV cache that fits beside the weights.
    ///
    /// # Errors
    ///
    /// [`SimError::DoesNotFit`] if there is no place for one block.
    pub fn fitting(
        shape: &ModelShape,
        hardware: &Hardware,
        devices: u32,
    ) -> Result<Self, SimError> {
        let defaults = Self::new(1, shape.context as usize);
        let kv_blocks = Self::kv_blocks_across(shape, hardware, devices, defaults.block_size)?;
        Ok(Self {
            kv_blocks,
            kv_groups: shape.kv_groups().specs,
            ..defaults
        })
    }

    /// The blocks of the KV cache that fit beside the weights.
    ///
    /// # Errors
    ///
    /// [`SimError::DoesNotFit`] if there is no place for one of them.
    pub fn kv_blocks_beside(
        shape: &ModelShape,
        hardware: &Hardware,
        block_size: u32,
    ) -> Result<u32, SimError> {
        Self::kv_blocks_across(shape, hardware, 1, block_size)
    }

    /// The blocks of the KV cache that fit beside the weights on so many devices. Of more devices than key and value heads several
    /// have the same ones.
    ///
    /// # Errors
    ///
    /// [`SimError::DoesNotFit`] if there is no place for one of them.
    pub fn kv_blocks_across(
        shape: &ModelShape,
        hardware: &Hardware,
        devices: u32,
        block_size: u32,
    ) -> Result<u32, SimError> {
        Self::kv_blocks_with(shape, None, hardware, devices, block_size)
    }

    /// The same beside a draft model too, if there is one, which keeps its own keys and values of every block.
    ///
    /// # Errors
    ///
    /// [`SimError::DoesNotFit`] if there is no place for one of them.
    pub fn kv_blocks_with(
        shape: &ModelShape,
        draft: Option<&ModelShape>,
        hardware: &Hardware,
        devices: u32,
        block_size: u32,
    ) -> Result<u32, SimError> {
        let usable = hardware.usable_bytes() * f64::from(devices);
        let weights = shape.weight_bytes() + draft.map_or(0.0, ModelShape::weight_bytes);
        let copies = f64::from(devices) / f64::from(devices.min(shape.kv_heads).max(1));
        match shape.kv_blocks_in((usable - weights) / copies, draft, block_size) {
            0 => Err(SimError::DoesNotFit {
                model: match draft {
                    Some(draft) => format!("{} and {}", shape.name, draft.name),
                    None => shape.name.clone(),
                },
                hardware: hardware.name.clone(),
                weight_bytes: weights as u64,
                usable_bytes: usable as u64,
            }),
            blocks => Ok(blocks),
        }
    }

    pub(crate) fn scheduler(&self) -> SchedulerConfig {
        let kv = KvConfig {
            groups: self.kv_groups.clone(),
            prefix_cache: self.prefix_cache,
            // Simulated tokens come from no client.
            hash_key: HashKey::Open,
            ..KvConfig::new(self.kv_blocks, self.block_size)
        };
        SchedulerConfig {
            policy: self.policy,
            reorder_within: self.reorder_within,
            itl_target: self.itl_target,
            steps_in_flight: self.steps_in_flight,
            ..SchedulerConfig::new(
                self.max_seqs,
                self.max_batched_tokens,
                self.max_model_len,
                kv,
            )
        }
    }

    pub(crate) fn queue(&self) -> QueueBounds {
        QueueBounds {
            max_queue: self.max_queue,
            max_queued_tokens: self.max_queued_tokens,
            max_wait: self.max_queue_wait,
            order: self.policy.build().queue_order(),
        }
    }

    /// What a report says of them.
    pub(crate) fn told(&self) -> ToldSettings {
        ToldSettings {
            max_seqs: self.max_seqs,
            max_batched_tokens: self.max_batched_tokens,
            max_model_len: self.max_model_len,
            block_size: self.block_size,
            kv_blocks: self.kv_blocks,
            prefix_cache: self.prefix_cache,
            policy: self.policy.name(),
            max_queue: self.max_queue,
            max_queued_tokens: self.max_queued_tokens,
            max_queue_wait_ms: self.max_queue_wait.map(|wait| wait.as_secs_f64() * 1e3),
            itl_target_ms: self.itl_target.map(|target| target.as_secs_f64() * 1e3),
            steps_in_flight: self.steps_in_flight,
        }
    }
}

/// The settings as a report has them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ToldSettings {
    max_seqs: usize,
    max_batched_tokens: usize,
    max_model_len: usize,
    block_size: u32,
    kv_blocks: u32,
    prefix_cache: bool,
    policy: &'static str,
    max_queue: usize,
    max_queued_tokens: usize,
    max_queue_wait_ms: Option<f64>,
    itl_target_ms: Option<f64>,
    steps_in_flight: usize,
}
