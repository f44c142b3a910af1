//! Whether a model fits a device, by the rules of a start and without its weights: for tools that only describe a model.

use maitre_model::Footprint;

use crate::observe::info::{EngineLimits, MemoryBudget};
use crate::start::divide::Footprints;
use crate::start::load_draft::check_groups;
use crate::start::memory_plan::MemoryPlan;
use crate::{EngineBuilder, StartError};

/// What a start on a device would take of its memory, as [`EngineBuilder::device_fit`] foresees it.
#[derive(Debug)]
pub struct DeviceFit {
    /// Where the model would run: `cpu`, `cuda:0`.
    pub device: String,
    /// The kernels that it would run, such as `portable`, or the GPU's name.
    pub backend: String,
    /// Format of the weights.
    pub dtype: String,
    /// Format of the KV pool.
    pub kv_dtype: String,
    /// Bytes that are free where weights and KV pool would lie; where host and GPU share their memory, those that the
    /// system would make free are counted. `None` where it can't be read.
    pub free_bytes: Option<u64>,
    /// Bytes that are left for the KV pool beside weights and activations. `None` as above.
    pub left_for_kv: Option<u64>,
    /// What the start would take. The weights are about what they will be, and so are the activations, which are counted
    /// on a GPU alone.
    pub memory: MemoryBudget,
    /// The bounds it would have.
    pub limits: EngineLimits,
    /// Tokens of keys and values that the KV pool would hold.
    pub kv_tokens: u64,
    /// Sequences of [`EngineLimits::max_model_len`] tokens that it would hold side by side.
    pub whole_sequences: usize,
    /// Why the start would be refused; `None` if the model fits.
    pub problem: Option<StartError>,
}

impl EngineBuilder {
    /// Foresees how the model would fit the device, from its configuration, the formats of its files and the memory that
    /// is free now. No weights are read; weights and tokenizer may be absent.
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build), but for too little memory, which [`DeviceFit::problem`] tells: a device that can't be
    /// used, settings that contradict each other, a model that the device has no kernels for.
    pub fn device_fit(&self) -> Result<DeviceFit, StartError> {
        self.check_settings()?;
        let backend = self.backend()?;
        let target = Footprint::foreseen(&self.source, &self.load, &backend)?;
        let draft = match self.draft_source() {
            None => None,
            Some(source) => {
                check_groups(source, &target)?;
                let draft = Footprint::foreseen_of_drafter(source, &self.load, &backend);
                Some(draft.map_err(StartError::draft_model)?)
            }
        };
        let footprints = Footprints {
            target: &target,
            draft: draft.as_ref(),
        };
        let is_pool_given = self.kv_cache_bytes.is_some();
        let plan = MemoryPlan::before_loading(&backend, is_pool_given, footprints.weight_bytes())?;
        let (limits, mut memory) = self.divide(&plan, &backend, footprints)?;
        if memory.is_on_gpu {
            memory.workspace = self.activations(&backend, footprints);
        }
        Ok(DeviceFit {
            device: self.device_name(&backend),
            backend: backend.name().into(),
            dtype: target.dtype().to_string(),
            kv_dtype: target.kv_dtype().to_string(),
            free_bytes: plan.free,
            left_for_kv: self.left_for_kv(&plan, &backend, footprints).bytes(),
            kv_tokens: memory.kv_cache / memory.kv_per_token.max(1),
            whole_sequences: self.whole_sequences(&limits, &target, memory.is_on_gpu),
            problem: plan.check(&memory).err(),
            memory,
            limits,
        })
    }
}
