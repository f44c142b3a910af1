//! From settings to the pieces of an engine: check, load, budget.

use std::panic::resume_unwind;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use maitre_model::{
    Executor, Model, ModelFiles, ModelSource, Queued, Runner, RunnerConfig, Synchronous,
};
use maitre_scheduler::{Ahead, KvConfig, KvSpec};
use maitre_speculative::{Speculate, Speculator};
use maitre_tensor::{Backend, DeviceName, LargestAttention, TensorError};

use crate::observe::cache_events::FEED_BYTES;
use crate::observe::info::{EngineInfo, EngineLimits, MemoryBudget, Scheduling};
use crate::output::unread;
use crate::request::stop_budget::StopBudget;
use crate::start::budget::{KvDemand, Left};
use crate::start::builder::StepSize;
use crate::start::load_draft::LoadedDraft;
use crate::start::load_tokenizer::ModelText;
use crate::start::machine::usable_cores;
use crate::start::memory_plan::MemoryPlan;
use crate::{Engine, EngineBuilder, Parts, StartError, SystemClock};

impl EngineBuilder {
    /// Loads the model and starts the engine. Blocks while the weights are read.
    ///
    /// # Errors
    ///
    /// A model that can't be used, settings that contradict each other, too little memory; see
    /// [`StartError`].
    pub fn build(self) -> Result<Engine, StartError> {
        self.check_settings()?;
        let backend = self.backend()?;
        let is_on_gpu = backend.gpu_info().is_some();
        if let Some(caveat) = backend.caveat() {
            tracing::warn!("{caveat}");
        }
        let name = self.model_name();
        let observer = self.load_observer.of(&name);
        let (tokenizer, model) = thread::scope(|scope| {
            // Parsing a large vocabulary takes half a second, which the weights need not wait for.
            let beside = thread::Builder::new().spawn_scoped(scope, || self.tokenizer());
            let model = Model::load_observed(&self.source, &self.load, &backend, &observer);
            let tokenizer = match beside {
                Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
                // The system has no thread left for it.
                Err(_) => self.tokenizer(),
            };
            (tokenizer, model)
        });
        let (tokenizer, model) = (tokenizer?, Arc::new(model?));
        let text = ModelText::new(
            tokenizer,
            model.config().vocab_size,
            model.generation_defaults().clone(),
        )?;
        let formats = self.formats(&text.tokenizer)?;
        let draft = self.load_draft(&model, &text, &backend)?;
        // The weights are loaded by now, so this is what is left for the rest.
        let plan = MemoryPlan::of(&backend, self.kv_cache_bytes.is_some())?;
        let draft_kv = draft.as_ref().map_or(0, LoadedDraft::kv_per_token);
        let kv_per_token = model.kv_bytes_per_token() + draft_kv;
        // What a block takes in one KV group. The draft model keeps its own beside each page.
        let page = |per_token: u64| per_token * self.block_size as u64;
        let target_page = page(kv_per_place(&model, &backend));
        let page_bytes = target_page + page(draft_kv);
        let activations = self.activations(&backend, &model, draft.as_ref());
        let left = plan.for_kv(activations, self.host_kv_bytes);
        let limits = self.limits(&model, [page_bytes, target_page], left)?;
        let mut memory = MemoryBudget {
            weights: model.weight_bytes() as u64,
            draft_weights: draft
                .as_ref()
                .map_or(0, |draft| draft.model.weight_bytes() as u64),
            kv_per_token,
            kv_cache: page_bytes * limits.num_blocks as u64,
            host_kv: target_page * limits.num_host_blocks as u64,
            workspace: 0,
            bookkeeping: self.bookkeeping(&limits, &model),
            unread_answers: self
                .unread_bytes
                .unwrap_or_else(|| unread::default_bytes(limits.max_model_len)),
            available: plan.device,
            is_on_gpu,
        };
        if let Some(limit) = &plan.limit {
            tracing::info!("memory is limited to {limit}");
        }
        plan.check(&memory)?;
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
        let executor: Box<dyn Executor> = match is_on_gpu {
            true => Box::new(Queued::new(runner)?),
            false => Box::new(Synchronous::new(runner)),
        };
        let mut speculation = self.speculation.clone();
        speculation.draft = draft.as_ref().map(|draft| draft.info(&model));
        let drafter = match draft {
            None => None,
            Some(draft) => {
                let (drafter, workspace) = draft.start(&limits, text.usable_ids, &backend)?;
                memory.workspace += workspace;
                Some(drafter)
            }
        };
        plan.check(&memory)?;
        let mut info = self.info(&model, &backend, &text, limits, memory);
        info.speculation = speculation;
        (info.tool_format, info.reasoning_format) = (formats.tool, formats.reasoning);
        let stall_after = self.stall_after;
        Parts {
            executor,
            drafter,
            tokenizer: text.tokenizer,
            defaults: text.defaults,
            info,
            stall_after,
            clock: Arc::new(SystemClock::start()),
        }
        .start()
    }

    fn backend(&self) -> Result<Backend, StartError> {
        if self.device == DeviceName::Auto {
            return self.backend_found();
        }
        let opened = Backend::open(self.device, self.team_size(), self.gpu);
        opened.map_err(|error| match error {
            TensorError::NoDevice { device, reason } => StartError::Setting {
                setting: "--device",
                found: device,
                expected: format!("a device that can be used: {reason}"),
            },
            other => other.into(),
        })
    }

    /// The first GPU, or where there is none that can be used the processor.
    fn backend_found(&self) -> Result<Backend, StartError> {
        match Backend::open(DeviceName::Cuda(0), self.team_size(), self.gpu) {
            Ok(backend) => Ok(backend),
            Err(TensorError::NoDevice { reason, .. }) => {
                // A build without support for GPUs cannot find one, so this is no news.
                if Backend::cuda_architectures().is_some() {
                    tracing::info!(%reason, "no GPU; running on the processor");
                }
                Ok(Backend::cpu(self.team_size())?)
            }
            Err(other) => Err(other.into()),
        }
    }

    fn info(
        &self,
        model: &Model,
        backend: &Backend,
        text: &ModelText,
        limits: EngineLimits,
        memory: MemoryBudget,
    ) -> EngineInfo {
        let config = model.config();
        EngineInfo {
            model: self.model_name(),
            architecture: config.architecture.to_string(),
            parameters: config.num_parameters(),
            dtype: model.dtype().to_string(),
            kv_dtype: model.kv_dtype().to_string(),
            device: match backend.gpu_info() {
                None => "cpu".into(),
                Some(_) => self.device.to_string().replace("auto", "cuda:0"),
            },
            backend: backend.name().into(),
            deterministic: backend.gpu_info().is_none() || self.gpu.deterministic,
            threads: backend.threads(),
            vocab_size: text.usable_ids,
            eos_token_ids: text.defaults.eos_token_ids.clone(),
            has_chat_template: text.tokenizer.has_chat_template(),
            tool_format: None,
            reasoning_format: None,
            limits,
            scheduling: Scheduling {
                kv_groups: kv_groups(model),
                ..self.scheduling.clone()
            },
            speculation: self.speculation.clone(),
            memory,
        }
    }

    /// Name the model is served under.
    fn model_name(&self) -> String {
        let given = self.served_name.clone();
        given.unwrap_or_else(|| short_name(&self.source))
    }

    fn team_size(&self) -> usize {
        self.threads.unwrap_or_else(|| {
            let usable = usable_cores();
            if usable.limit.is_some() {
                tracing::info!(
                    "the compute team has as many threads as it may keep busy: {usable}"
                );
            }
            usable.count
        })
    }

    fn limits(
        &self,
        model: &Model,
        [page_bytes, host_page_bytes]: [u64; 2],
        left: Left,
    ) -> Result<EngineLimits, StartError> {
        let trained = model.config().max_position_embeddings;
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
        let steps_in_flight = if is_on_gpu { Queued::DEPTH } else { 1 };
        let kv = KvConfig {
            groups: kv_groups(model),
            ..KvConfig::new(0, narrow(self.block_size))
        };
        let num_blocks = KvDemand {
            kv: &kv,
            page_bytes,
            ahead: Ahead {
                positions: size.tokens * steps_in_flight,
                steps: steps_in_flight,
            },
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
}

impl EngineBuilder {
    /// Host memory for the block tables, for stop strings, for the texts of sequences, where these are looked up, and
    /// for changes of the prefix cache, where they are published.
    fn bookkeeping(&self, limits: &EngineLimits, model: &Model) -> u64 {
        let blocks = KvConfig {
            groups: kv_groups(model),
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
    fn activations(&self, backend: &Backend, model: &Model, draft: Option<&LoadedDraft>) -> u64 {
        let StepSize { seqs, tokens } = self.step_size(true);
        let of = |model: &Model| {
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
        of(model) + draft.map_or(0, |draft| of(&draft.model))
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

/// The groups of a model's layers, as the scheduler knows them.
fn kv_groups(model: &Model) -> Vec<KvSpec> {
    let groups = model.kv_layout().groups.iter();
    let windows = groups.map(|group| group.reads.window());
    windows
        .map(|window| window.map_or(KvSpec::Full, |window| KvSpec::Window(narrow(window))))
        .collect()
}

/// Bytes that a token's keys and values take in one KV group, places that no layer uses included.
fn kv_per_place(model: &Model, backend: &Backend) -> u64 {
    let config = model.config();
    let layer = backend.kv_bytes_per_token(config.num_kv_heads, config.head_dim, model.kv_dtype());
    (layer * model.kv_layout().places) as u64
}

/// A directory's last part, or the name of a model in memory.
pub(crate) fn short_name(source: &ModelSource) -> String {
    match source {
        ModelSource::Memory { name, .. } => (*name).to_owned(),
        ModelSource::Gguf(path) => path
            .file_name()
            .and_then(|name| ModelFiles::of(name.to_str()?))
            .map_or_else(|| "model".into(), |model| model.stem),
        ModelSource::Directory(path) => {
            let given = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            let path = path.canonicalize().unwrap_or_else(|_| path.clone());
            if let Some(name) = hub_name(&given).or_else(|| hub_name(&path)) {
                return name;
            }
            path.file_name().map_or_else(
                || "model".into(),
                |name| name.to_string_lossy().into_owned(),
            )
        }
    }
}

/// The name of the model whose snapshot in a Hub cache this is: `models--ORG--NAME/snapshots/COMMIT` is named after
/// a commit, which is no name to ask for.
fn hub_name(path: &Path) -> Option<String> {
    let snapshots = path
        .parent()
        .filter(|parent| parent.ends_with("snapshots"))?;
    let repository = snapshots.parent()?.file_name()?.to_str()?;
    Some(repository.strip_prefix("models--")?.replacen("--", "/", 1))
}

/// Sizes that `limits` has bounded to 32 bits.
pub(crate) fn narrow(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_of_a_hub_cache_is_named_after_its_repository() {
        let folder = tempfile::tempdir().unwrap();
        for (repository, name) in [
            ("models--org--name", "org/name"),
            ("models--org--na--me", "org/na--me"),
            ("models--gpt2", "gpt2"),
            ("datasets--org--name", "0123abcd"),
        ] {
            let snapshot = folder.path().join(repository).join("snapshots/0123abcd");
            std::fs::create_dir_all(snapshot.join("inner")).unwrap();
            let given = |path: &Path| short_name(&ModelSource::Directory(path.to_owned()));
            assert_eq!(given(&snapshot), name);
            assert_eq!(given(&snapshot.join("")), name, "a slash at the end");
            assert_eq!(given(&snapshot.join("inner/..")), name);
            assert_eq!(given(&snapshot.join("inner")), "inner");
        }
        #[cfg(unix)]
        {
            let link = folder.path().join("link");
            let snapshot = "models--org--name/snapshots/0123abcd";
            std::os::unix::fs::symlink(snapshot, &link).unwrap();
            assert_eq!(short_name(&ModelSource::Directory(link)), "org/name");
        }
        let plain = folder.path().join("snapshots/x");
        std::fs::create_dir_all(&plain).unwrap();
        assert_eq!(short_name(&ModelSource::Directory(plain)), "x");
    }

    #[test]
    fn a_gguf_file_gives_its_name_without_the_number_of_a_part() {
        for (file, name) in [
            ("a/tea-Q8_0.gguf", "tea-Q8_0"),
            ("a/tea-Q8_0-00001-of-00003.gguf", "tea-Q8_0"),
        ] {
            assert_eq!(short_name(&ModelSource::Gguf(file.into())), name);
        }
    }
}
