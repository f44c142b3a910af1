//! Where items work: the device in both of its modes, the processor that knows what is right, the rates that were
//! measured, and the model that was loaded last.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use maitre::{DeviceName, WeightFormat};
use maitre_model::{LoadFormat, LoadOptions, Model};
use maitre_tensor::{Backend, Buffer, GpuOptions, PackedWeight, TensorError};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use super::prediction::Rates;
use super::shape::{LONG, LONG_TINY, QWEN3_06B, Shape, TINY};
use super::{GpuCheckArgs, ShapeArg};

/// Where items work.
pub(super) struct Place {
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
    /// What the program has machine code for.
    pub(super) built_for: String,
}

/// How large checks are.
#[derive(Debug)]
pub(super) struct Sizes {
    /// Whether these are for a device that takes a microsecond for a multiplication.
    pub(super) are_small: bool,
    /// Of matrices: token rows, outputs, inputs. Few outputs take the smaller tiles; of many there are more
    /// blocks of the largest than multiprocessors, and the last of these blocks is not full.
    pub(super) rows: &'static [usize],
    pub(super) outputs: &'static [usize],
    pub(super) inputs: usize,
    /// Token rows of fast mode: few, for which there are kernels, and many, which the vendor's library multiplies.
    pub(super) fast_rows: &'static [usize],
    /// Of attention.
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    /// Of other models.
    pub(super) other_head_dim: usize,
    /// The positions a row sees in models that have windows.
    pub(super) window: usize,
    /// Sequences: positions before, tokens now.
    pub(super) sequences: &'static [(usize, usize)],
    /// The context that one row may share among many blocks of threads.
    pub(super) long_context: usize,
    /// Positions of a context whose attention is shared among blocks of threads.
    pub(super) recorded_context: usize,
    /// Rows of logits, and tokens to choose from.
    pub(super) sampled_rows: usize,
    pub(super) vocab: usize,
    /// Greedy tokens, and the prompts they follow.
    pub(super) greedy_tokens: usize,
    pub(super) prompts: usize,
    pub(super) prompt_tokens: usize,
    /// The model of checks that need none in particular.
    pub(super) model: Shape,
    /// The model whose keys and values fill the memory.
    pub(super) long_model: Shape,
    /// Requests of the soak, and how many of them at once.
    pub(super) soak_requests: usize,
    pub(super) soak_at_once: usize,
    /// Bytes that are copied, and rows, inputs and outputs of the square product, to find the rates.
    pub(super) copied_bytes: usize,
    pub(super) product: usize,
}

const FULL: Sizes = Sizes {
    are_small: false,
    rows: &[1, 16, 33, 64, 137, 300],
    outputs: &[1536, 17_024],
    inputs: 2048,
    fast_rows: &[1, 2, 4, 16, 64, 137, 300],
    heads: 32,
    kv_heads: 8,
    head_dim: 128,
    other_head_dim: 64,
    window: 512,
    sequences: &[
        (0, 1),
        (700, 1),
        (1500, 37),
        (0, 130),
        (2999, 1),
        (64, 16),
        (255, 1),
        (15, 2),
    ],
    long_context: 4000,
    recorded_context: 1800,
    sampled_rows: 64,
    vocab: 151_936,
    greedy_tokens: 64,
    prompts: 4,
    prompt_tokens: 24,
    model: QWEN3_06B,
    long_model: LONG,
    soak_requests: 10_000,
    soak_at_once: 192,
    copied_bytes: 2 << 30,
    product: 8192,
};

const SMALL: Sizes = Sizes {
    are_small: true,
    rows: &[1, 3, 18],
    outputs: &[48, 968],
    inputs: 64,
    fast_rows: &[1, 2, 3, 18, 66],
    heads: 4,
    kv_heads: 2,
    head_dim: 16,
    other_head_dim: 64,
    window: 7,
    sequences: &[(0, 1), (33, 1), (14, 5), (0, 18)],
    long_context: 300,
    recorded_context: 290,
    sampled_rows: 3,
    vocab: 1000,
    greedy_tokens: 3,
    prompts: 2,
    prompt_tokens: 4,
    model: TINY,
    long_model: LONG_TINY,
    soak_requests: 24,
    soak_at_once: 6,
    copied_bytes: 1 << 20,
    product: 64,
};

impl Place {
    /// Opens the device.
    ///
    /// # Errors
    /// [`TensorError::NoDevice`] if it can't be used.
    pub(super) fn open(args: &GpuCheckArgs, handle: Handle) -> Result<Self, TensorError> {
        let began = Instant::now();
        let threads = args.threads();
        let options = GpuOptions {
            deterministic: true,
        };
        // Where there is no GPU nothing is to be checked, rather than the processor against itself.
        let device = match args.device {
            DeviceName::Auto => DeviceName::Cuda(0),
            named => named,
        };
        let strict = Backend::open(device, threads, options)?;
        let fast = strict.with_gpu_options(GpuOptions {
            deterministic: false,
        })?;
        let sizes = match args.shape {
            ShapeArg::Tiny => &SMALL,
            ShapeArg::Large | ShapeArg::Small => &FULL,
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
            handle,
            deadline: began + Duration::from_secs_f64(args.time_limit),
            copy_bytes_per_s: args.copy_rate,
            matmul_flop_per_s: args.matmul_rate,
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
        // There may be no room for two.
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

    /// Bytes of the GPU that nobody uses; no number on the processor.
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

/// The time of one of `times` runs of `work`, which only queues, after one that does not count.
pub(super) fn time_each(
    backend: &Backend,
    times: usize,
    mut work: impl FnMut() -> Result<()>,
) -> Result<f64> {
    let probe = backend.vector(&[1.0])?;
    work()?;
    settle(backend, &probe)?;
    let began = Instant::now();
    for _ in 0..times {
        work()?;
    }
    settle(backend, &probe)?;
    Ok(began.elapsed().as_secs_f64() / times as f64)
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
        built_for: Backend::cuda_architectures().unwrap_or("none").to_owned(),
    }))
}
