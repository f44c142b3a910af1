//! Where items work: the device in both of its modes, the processor that knows what is right, the rates that were
//! measured, and the model that was loaded last.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use maitre_model::{LoadFormat, LoadOptions, Model};
use maitre_tensor::{Backend, Buffer, GpuOptions, PackedWeight, TensorError};
use maitre_tensor::{DeviceName, WeightFormat};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use super::prediction::Rates;
use super::shape::Shape;
pub(super) use super::sizes::Sizes;
use super::sizes::{FULL, SMALL};
use super::{BundledModels, Options, Resume, ShapeChoice};

/// Where items work.
pub(super) struct Site {
    /// Knows what is right.
    pub(super) cpu: Backend,
    /// The device, deterministic.
    pub(super) strict: Backend,
    /// The same device, as fast as it can.
    pub(super) fast: Backend,
    pub(super) facts: Facts,
    pub(super) sizes: &'static Sizes,
    /// What was asked for.
    pub(super) device: DeviceName,
    /// What is compiled into the program.
    pub(super) bundled: Option<BundledModels>,
    /// Runs what engines wait for.
    pub(super) handle: Handle,
    /// Nothing is at work any more by then.
    pub(super) deadline: Instant,
    /// What the device is held against, as far as it is known.
    pub(super) copy_bytes_per_s: Option<f64>,
    pub(super) matmul_flop_per_s: Option<f64>,
    loaded: Option<(Shape, WeightFormat, Arc<Model>)>,
    packed: Option<(MatrixKey, Arc<[PackedWeight]>)>,
}

/// Which matrices: outputs, inputs, whether they are gated, and their format.
pub(super) type MatrixKey = (usize, usize, bool, WeightFormat);

/// What is known of the device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Facts {
    pub(super) device: String,
    pub(super) name: String,
    /// None for the processor.
    pub(super) gpu: Option<GpuFacts>,
    pub(super) host_threads: usize,
}

impl Facts {
    /// Whether a time on the device says anything about a GPU.
    pub(super) fn has_real_speeds(&self) -> bool {
        self.device.starts_with("cuda")
    }
}

/// What is known of a GPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct GpuFacts {
    pub(super) compute_capability: String,
    pub(super) multiprocessors: u32,
    pub(super) memory_free_bytes: u64,
    pub(super) memory_total_bytes: u64,
    pub(super) is_unified: bool,
    pub(super) driver_version: u32,
    /// Of cuBLASLt, as it counts itself.
    pub(super) library_version: Option<usize>,
    /// What the program has machine code for.
    pub(super) built_for: String,
}

impl Site {
    /// Opens the device.
    ///
    /// # Errors
    /// [`TensorError::NoDevice`] if it can't be used.
    pub(super) fn open(
        options: &Options,
        resume: &Resume,
        handle: Handle,
    ) -> Result<Self, TensorError> {
        let began = Instant::now();
        let threads = options.threads;
        let deterministic = GpuOptions {
            deterministic: true,
        };
        // Where there is no GPU nothing is to be checked, rather than the processor against itself.
        let device = match options.device {
            DeviceName::Auto => DeviceName::Cuda(0),
            named => named,
        };
        let strict = Backend::open(device, threads, deterministic)?;
        let fast = strict.with_gpu_options(GpuOptions {
            deterministic: false,
        })?;
        let sizes = match options.shape {
            ShapeChoice::Tiny => &SMALL,
            ShapeChoice::Large | ShapeChoice::Small => &FULL,
        };
        Ok(Self {
            cpu: Backend::cpu(threads)?,
            facts: Facts {
                device: device.to_string(),
                name: strict.name().to_owned(),
                gpu: gpu_facts(&strict)?,
                host_threads: threads,
            },
            strict,
            fast,
            sizes,
            device,
            bundled: options.bundled.clone(),
            handle,
            deadline: began + Duration::from_secs_f64(resume.time_limit_s),
            copy_bytes_per_s: resume.copy_bytes_per_s,
            matmul_flop_per_s: resume.matmul_flop_per_s,
            loaded: None,
            packed: None,
        })
    }

    pub(super) fn is_on_gpu(&self) -> bool {
        self.facts.gpu.is_some()
    }

    /// Both rates, if both are known.
    pub(super) fn rates(&self) -> Option<Rates> {
        Some(Rates {
            bytes_per_s: self.copy_bytes_per_s?,
            flop_per_s: self.matmul_flop_per_s?,
        })
    }

    /// The device in one of its modes.
    pub(super) fn backend(&self, deterministic: bool) -> &Backend {
        match deterministic {
            true => &self.strict,
            false => &self.fast,
        }
    }

    /// A model of made-up weights on the device; the last one is kept.
    pub(super) fn model(&mut self, shape: Shape, format: WeightFormat) -> Result<Arc<Model>> {
        if let Some((loaded, in_format, model)) = &self.loaded
            && *loaded == shape
            && *in_format == format
        {
            return Ok(Arc::clone(model));
        }
        // There may be no space for two.
        (self.loaded, self.packed) = (None, None);
        let options = LoadOptions {
            dtype: Some(format),
            load_format: LoadFormat::Random { seed: 1 },
            ..LoadOptions::default()
        };
        let model = Model::load(&shape.source(), &options, &self.strict);
        let model = model.with_context(|| format!("loading {} in {format}", shape.name))?;
        let model = Arc::new(model);
        self.loaded = Some((shape, format, Arc::clone(&model)));
        Ok(model)
    }

    /// Equal matrices on the device, for both of its modes; the last ones are kept.
    pub(super) fn matrices(
        &mut self,
        key: MatrixKey,
        make: impl FnOnce(&Backend) -> Result<Vec<PackedWeight>>,
    ) -> Result<Arc<[PackedWeight]>> {
        if let Some((kept, matrices)) = &self.packed
            && *kept == key
        {
            return Ok(Arc::clone(matrices));
        }
        self.packed = None;
        let matrices: Arc<[PackedWeight]> = make(&self.strict)?.into();
        self.packed = Some((key, Arc::clone(&matrices)));
        Ok(matrices)
    }

    /// The model of checks.
    pub(super) fn check_model(&mut self) -> Result<Arc<Model>> {
        self.model(self.sizes.model, WeightFormat::Bf16)
    }

    /// Lets go of the model, and of matrices.
    pub(super) fn forget_model(&mut self) {
        (self.loaded, self.packed) = (None, None);
    }

    /// Bytes of the GPU that no process uses; no number on the processor.
    pub(super) fn free_bytes(&self) -> Result<f64> {
        let memory = self.strict.gpu_memory()?;
        Ok(memory.map_or(f64::NAN, |it| it.free_bytes as f64))
    }

    /// Whether the device still answers.
    pub(super) fn answers(&self) -> bool {
        let probe = self.strict.vector(&[1.0]);
        probe.is_ok_and(|buffer| settle(&self.strict, &buffer).is_ok())
    }
}

/// Waits for what was queued: reading a number does.
pub(super) fn settle(backend: &Backend, buffer: &Buffer) -> Result<(), TensorError> {
    backend.read(buffer, 0..1, &mut [0.0])
}

fn gpu_facts(backend: &Backend) -> Result<Option<GpuFacts>, TensorError> {
    let (Some(info), Some(memory)) = (backend.gpu_info(), backend.gpu_memory()?) else {
        return Ok(None);
    };
    let (major, minor) = info.capability;
    Ok(Some(GpuFacts {
        compute_capability: format!("{major}.{minor}"),
        multiprocessors: info.multiprocessors,
        memory_free_bytes: memory.free_bytes,
        memory_total_bytes: memory.total_bytes,
        is_unified: info.is_unified,
        driver_version: info.driver_version,
        library_version: info.library_version,
        built_for: Backend::cuda_architectures().unwrap_or("none").to_owned(),
    }))
}
