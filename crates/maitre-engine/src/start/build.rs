//! From settings to the pieces of an engine: check, load, budget.

use std::panic::resume_unwind;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use maitre_model::{
    Executor, Model, ModelFiles, ModelSource, Queued, Runner, RunnerConfig, Synchronous,
};
use maitre_tensor::{Backend, DeviceName, TensorError};

use crate::observe::info::{EngineInfo, EngineLimits, MemoryBudget, Scheduling};
use crate::start::divide::{Footprints, kv_groups};
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
        let footprints = Footprints {
            target: model.footprint(),
            draft: draft.as_ref().map(|draft| draft.model.footprint()),
        };
        let (limits, mut memory) = self.divide(&plan, &backend, footprints)?;
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

    pub(crate) fn backend(&self) -> Result<Backend, StartError> {
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
            device: self.device_name(backend),
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
                kv_groups: kv_groups(model.footprint()),
                ..self.scheduling.clone()
            },
            speculation: self.speculation.clone(),
            memory,
        }
    }

    /// What the device is called on the command line that the backend, which was opened for it, computes on.
    pub(crate) fn device_name(&self, backend: &Backend) -> String {
        match backend.gpu_info() {
            None => "cpu".into(),
            Some(_) => self.device.to_string().replace("auto", "cuda:0"),
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
