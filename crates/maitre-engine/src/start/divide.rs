//! How the memory there is goes to the parts of an engine: by what the models take and what the settings say, whether
//! or not anything is loaded.

use maitre_model::{Footprint, Queued};
use maitre_scheduler::{Ahead, KvConfig, KvSpec};
use maitre_speculative::{Speculate, Speculator};
use maitre_tensor::{Backend, LargestAttention};

use crate::observe::cache_events::FEED_BYTES;
use crate::observe::info::{EngineLimits, MemoryBudget};
use crate::output::unread;
use crate::request::stop_budget::StopBudget;
use crate::start::budget::{KvDemand, Left};
use crate::start::build::narrow;
use crate::start::builder::StepSize;
use crate::start::memory_plan::MemoryPlan;
use crate::{EngineBuilder, StartError};

/// What the models of an engine take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Footprints<'a> {
    pub(crate) target: &'a Footprint,
    pub(crate) draft: Option<&'a Footprint>,
}

impl Footprints<'_> {
    /// Bytes of all weights.
    pub(crate) fn weight_bytes(&self) -> u64 {
        self.target.weight_bytes() + self.draft.map_or(0, Footprint::weight_bytes)
    }
}

impl EngineBuilder {
    /// The bounds of the engine and what each part takes, the workspace aside, which is not known before there is one.
    ///
    /// # Errors
    ///
    /// Settings that contradict the model, or a KV pool too small for a sequence. Whether it all fits is what
    /// [`MemoryPlan::check`] says.
    pub(crate) fn divide(
        &self,
        plan: &MemoryPlan,
        backend: &Backend,
        footprints: Footprints<'_>,
    ) -> Result<(EngineLimits, MemoryBudget), StartError> {
        let Footprints { target, draft } = footprints;
        let draft_kv = draft.map_or(0, Footprint::kv_bytes_per_token);
        // What a block takes in one KV group. The draft model keeps its own beside each page.
        let page = |per_token: u64| per_token * self.block_size as u64;
        let target_page = page(kv_per_place(target, backend));
        let page_bytes = target_page + page(draft_kv);
        let left = self.left_for_kv(plan, backend, footprints);
        let limits = self.limits(target, [page_bytes, target_page], left)?;
        let memory = MemoryBudget {
            weights: target.weight_bytes(),
            draft_weights: draft.map_or(0, Footprint::weight_bytes),
            kv_per_token: target.kv_bytes_per_token() + draft_kv,
            kv_cache: page_bytes * limits.num_blocks as u64,
            host_kv: target_page * limits.num_host_blocks as u64,
            workspace: 0,
            bookkeeping: self.bookkeeping(&limits, target),
            unread_answers: self
                .unread_bytes
                .unwrap_or_else(|| unread::default_bytes(limits.max_model_len)),
            available: plan.device,
            is_on_gpu: backend.gpu_info().is_some(),
        };
        Ok((limits, memory))
    }

    /// What is left for the KV pool beside weights and activations.
    pub(crate) fn left_for_kv(
        &self,
        plan: &MemoryPlan,
        backend: &Backend,
        footprints: Footprints<'_>,
    ) -> Left {
        plan.for_kv(self.activations(backend, footprints), self.host_kv_bytes)
    }

    fn limits(
        &self,
        target: &Footprint,
        [page_bytes, host_page_bytes]: [u64; 2],
        left: Left,
    ) -> Result<EngineLimits, StartError> {
        let trained = target.config().max_position_embeddings;
        let max_model_len = self.max_model_len.unwrap_or(trained);
        if max_model_len > trained {
            return Err(StartError::Setting {
                setting: "--max-model-len",
                found: max_model_len.to_string(),
                expected: format!("at most {trained}, the positions this model was trained for"),
            });
        }
        let is_on_gpu = matches!(left, Left::Gpu(_));
        let size = self.step_size(is_on_gpu);
        let num_blocks = KvDemand {
            kv: &self.empty_pool(target),
            page_bytes,
            ahead: ahead(size.tokens, is_on_gpu),
            max_model_len,
            max_seqs: size.seqs,
            given_bytes: self.kv_cache_bytes,
            left,
        }
        .num_pages()?;
        let num_host_blocks = self.host_pages(host_page_bytes)?;
        Ok(EngineLimits {
            max_model_len,
            max_seqs: size.seqs,
            max_batched_tokens: size.tokens,
            max_queue: self.max_queue,
            max_queued_tokens: self.max_queued_tokens,
            num_host_blocks,
            block_size: self.block_size,
            num_blocks: num_blocks as usize,
        })
    }

    /// Sequences of `max_model_len` tokens that the KV pool holds side by side.
    pub(crate) fn whole_sequences(
        &self,
        limits: &EngineLimits,
        target: &Footprint,
        is_on_gpu: bool,
    ) -> usize {
        let ahead = ahead(limits.max_batched_tokens, is_on_gpu);
        let of_one = self
            .empty_pool(target)
            .pages_for(limits.max_model_len, ahead);
        limits.num_blocks / of_one.max(1)
    }

    /// The KV pool, whose size is to be found.
    fn empty_pool(&self, target: &Footprint) -> KvConfig {
        KvConfig {
            groups: kv_groups(target),
            ..KvConfig::new(0, narrow(self.block_size))
        }
    }

    /// Host memory for the block tables, for stop strings, for the texts of sequences, where these are looked up, and
    /// for changes of the prefix cache, where they are published.
    fn bookkeeping(&self, limits: &EngineLimits, target: &Footprint) -> u64 {
        let blocks = KvConfig {
            groups: kv_groups(target),
            prefix_cache: self.scheduling.prefix_cache,
            num_host_pages: narrow(limits.num_host_blocks),
            ..KvConfig::new(narrow(limits.num_blocks), narrow(limits.block_size))
        };
        let texts = match self.speculation.speculate {
            Speculate::Off => 0,
            _ => Speculator::bytes_per_sequence(limits.max_model_len) * limits.max_seqs as u64,
        };
        let events = match self.scheduling.cache_events {
            true => FEED_BYTES as u64,
            false => 0,
        };
        blocks.bookkeeping_bytes() + StopBudget::size_in_bytes(limits) + texts + events
    }

    /// Bytes on a GPU beside weights and KV pool: activations, index lists, what operators work in; the draft
    /// model's included.
    pub(crate) fn activations(&self, backend: &Backend, footprints: Footprints<'_>) -> u64 {
        let StepSize { seqs, tokens } = self.step_size(true);
        let of = |model: &Footprint| {
            let config = model.config();
            let context_len = config.max_position_embeddings;
            let scratch = backend.gpu_scratch_bytes(&LargestAttention {
                format: model.kv_dtype(),
                heads: config.num_heads,
                kv_heads: config.num_kv_heads,
                head_dim: config.head_dim,
                rows: tokens,
                context_len,
            });
            let blocks = seqs * context_len.div_ceil(self.block_size);
            let groups = model.kv_layout().groups.len();
            // Lists have a power of two of bytes.
            let lists = 2 * size_of::<u32>() * (3 * tokens + groups * (tokens + 4 * seqs + blocks));
            (model.workspace_bytes(tokens, tokens) + scratch + lists) as u64
        };
        of(footprints.target) + footprints.draft.map_or(0, of)
    }

    /// Pages of the host tier.
    fn host_pages(&self, page: u64) -> Result<usize, StartError> {
        let refused = |expected| {
            Err(StartError::Setting {
                setting: "--host-kv-bytes",
                found: self.host_kv_bytes.to_string(),
                expected,
            })
        };
        if self.host_kv_bytes == 0 {
            return Ok(0);
        }
        // Blocks are numbered in 32 bits.
        let most = u64::from(u32::MAX) - 1;
        match self.host_kv_bytes / page.max(1) {
            0 => refused(format!("0, or at least {page}, one page")),
            pages if pages > most => refused(format!("at most {}", most * page)),
            pages => Ok(pages as usize),
        }
    }
}

/// What steps in flight compute of a sequence at most, where a step has up to `tokens` tokens.
fn ahead(tokens: usize, is_on_gpu: bool) -> Ahead {
    let steps = if is_on_gpu { Queued::DEPTH } else { 1 };
    Ahead {
        positions: tokens * steps,
        steps,
    }
}

/// The groups of a model's layers, as the scheduler knows them.
pub(crate) fn kv_groups(model: &Footprint) -> Vec<KvSpec> {
    let groups = model.kv_layout().groups.iter();
    let windows = groups.map(|group| group.reads.window());
    windows
        .map(|window| window.map_or(KvSpec::Full, |window| KvSpec::Window(narrow(window))))
        .collect()
}

/// Bytes that a token's keys and values take in one KV group, places that no layer uses included.
fn kv_per_place(model: &Footprint, backend: &Backend) -> u64 {
    let config = model.config();
    let layer = backend.kv_bytes_per_token(config.num_kv_heads, config.head_dim, model.kv_dtype());
    (layer * model.kv_layout().places) as u64
}
