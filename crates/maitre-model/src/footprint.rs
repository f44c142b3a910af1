//! What a model takes of a device's memory, which is known before a weight is read: an engine divides its memory by it,
//! and tools tell it.

use maitre_tensor::{Backend, DType, KvFormat, TensorError, WeightFormat, WeightView};

use crate::checkpoint;
use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::kv_layout::KvLayout;
use crate::model::{LoadFormat, LoadOptions};
use crate::source::ModelSource;
use crate::workspace;

/// What a model takes on a backend. Of a [`Model`](crate::Model) it is what was taken; of one that is not loaded, what
/// its configuration and the formats of its files foresee.
#[derive(Debug, Clone)]
pub struct Footprint {
    config: ModelConfig,
    dtype: WeightFormat,
    kv_dtype: KvFormat,
    kv_layout: KvLayout,
    kv_bytes_per_token: u64,
    weight_bytes: u64,
}

impl Footprint {
    /// What [`Model::load`](crate::Model::load) would load. Weight files may be absent.
    ///
    /// # Errors
    /// As [`Model::load`](crate::Model::load), but for what only the weights themselves show.
    pub fn foreseen(
        source: &ModelSource,
        options: &LoadOptions,
        backend: &Backend,
    ) -> Result<Self, ModelError> {
        Self::foreseen_in(source, options, backend, ModelConfig::kv_layout)
    }

    /// What [`Model::load_drafter`](crate::Model::load_drafter) would load.
    ///
    /// # Errors
    /// As [`foreseen`](Self::foreseen).
    pub fn foreseen_of_drafter(
        source: &ModelSource,
        options: &LoadOptions,
        backend: &Backend,
    ) -> Result<Self, ModelError> {
        Self::foreseen_in(source, options, backend, drafter_layout)
    }

    fn foreseen_in(
        source: &ModelSource,
        options: &LoadOptions,
        backend: &Backend,
        layout: impl FnOnce(&ModelConfig) -> KvLayout,
    ) -> Result<Self, ModelError> {
        let config = ModelConfig::load(source)?;
        check_kernels(&config, backend)?;
        let stored = match options.load_format {
            LoadFormat::Auto if checkpoint::is_there(source)? => {
                checkpoint::open(source, &config)?.1
            }
            _ => None,
        };
        let footprint = Self::new(&config, stored, options, backend, layout(&config))?;
        check_format(footprint.dtype, backend)?;
        if let WeightFormat::Blocks(_) = footprint.dtype {
            let stored = source.stored_tensors()?;
            let bytes = stored.iter().map(|tensors| tensors.bytes_in_memory).sum();
            return Ok(footprint.with_weight_bytes(bytes));
        }
        Ok(footprint)
    }

    /// The formats that a model gets in memory, whose files hold matrices in `stored`, and what it takes in them.
    ///
    /// # Errors
    /// [`ModelError::Shard`] for sizes that the ranks do not divide.
    pub(crate) fn new(
        config: &ModelConfig,
        stored: Option<WeightFormat>,
        options: &LoadOptions,
        backend: &Backend,
        kv_layout: KvLayout,
    ) -> Result<Self, ModelError> {
        let dtype = options
            .dtype
            .or(stored)
            .or(config.dtype.map(WeightFormat::from))
            .unwrap_or(WeightFormat::Bf16);
        let dtype = match (dtype, backend.gpu_info()) {
            // A GPU has no kernels for half precision, whose range bf16 exceeds, nor for stored blocks.
            (WeightFormat::F16 | WeightFormat::Blocks(_), Some(_)) if options.dtype.is_none() => {
                WeightFormat::Bf16
            }
            (dtype, _) => dtype,
        };
        let kv_dtype = options.kv_dtype.unwrap_or(match dtype {
            WeightFormat::F32 => KvFormat::F32,
            _ => KvFormat::Bf16,
        });
        let share = config.share(options.shard)?;
        let layer_bytes = backend.kv_bytes_per_token(share.num_kv_heads, config.head_dim, kv_dtype);
        Ok(Self {
            weight_bytes: config.weight_bytes(dtype),
            kv_bytes_per_token: (layer_bytes * config.num_layers) as u64,
            config: share,
            dtype,
            kv_dtype,
            kv_layout,
        })
    }

    /// The same with weights of so many bytes.
    pub(crate) fn with_weight_bytes(self, weight_bytes: u64) -> Self {
        Self {
            weight_bytes,
            ..self
        }
    }

    /// What the model is; of a share, with the sizes that are this rank's.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The format of matrices in memory; of a file with several formats of blocks, the one that has the most numbers.
    #[must_use]
    pub fn dtype(&self) -> WeightFormat {
        self.dtype
    }

    /// The type keys and values are kept in.
    #[must_use]
    pub fn kv_dtype(&self) -> KvFormat {
        self.kv_dtype
    }

    /// The groups that a runner's batches have, in order, and the caches that it has.
    #[must_use]
    pub fn kv_layout(&self) -> &KvLayout {
        &self.kv_layout
    }

    /// Bytes that the keys and values of a token take in all layers.
    #[must_use]
    pub fn kv_bytes_per_token(&self) -> u64 {
        self.kv_bytes_per_token
    }

    /// Bytes of all weights as they lie in memory.
    #[must_use]
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// Bytes of activations and logits of a runner on a GPU whose steps have up to so many rows and output rows,
    /// about: before there is one.
    #[must_use]
    pub fn workspace_bytes(&self, rows: usize, output_rows: usize) -> usize {
        workspace::gpu_bytes(&self.config, self.dtype, rows, output_rows)
    }
}

/// The layout of a model whose keys and values lie in the blocks of one group of another model.
pub(crate) fn drafter_layout(config: &ModelConfig) -> KvLayout {
    match config.kv_layout() {
        layout if layout.groups.len() == 1 => layout,
        _ => KvLayout::in_one_group(config.num_layers),
    }
}

/// That the device has kernels for what the model computes, as far as that is known before a step.
pub(crate) fn check_kernels(config: &ModelConfig, backend: &Backend) -> Result<(), TensorError> {
    let mut layers = config.layers.iter();
    let is_bounded =
        config.logit_bound.is_some() || layers.any(|layer| layer.attention.score_bound.is_some());
    match backend.gpu_info() {
        Some(_) if is_bounded => Err(TensorError::NotOnGpu {
            operator: "paged_attention",
            found: "bounds of scores or logits".to_owned(),
            instead: "the processor".to_owned(),
        }),
        _ => Ok(()),
    }
}

/// That a GPU has kernels for weights in `format`: it is given a row of them, which has as many numbers as the largest
/// group. The processor has kernels for all.
fn check_format(format: WeightFormat, backend: &Backend) -> Result<(), TensorError> {
    if backend.gpu_info().is_none() {
        return Ok(());
    }
    let cols = 128;
    let bytes = 1f32.to_le_bytes().repeat(cols);
    let row = WeightView {
        dtype: DType::F32,
        rows: 1,
        cols,
        bytes: &bytes,
    };
    backend.pack(&[row], format).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Model;
    use maitre_tensor::{DeviceName, GpuOptions};

    fn bundled() -> ModelSource {
        let model = &maitre_bundled::DRAFT;
        ModelSource::Memory {
            name: model.name,
            files: model.files,
        }
    }

    fn backends() -> Vec<Backend> {
        let names = [DeviceName::Cpu, DeviceName::Emulator];
        let opened = names.map(|name| Backend::open(name, 1, GpuOptions::default()));
        let has_device = |opened: Result<Backend, TensorError>| match opened {
            Err(TensorError::NoDevice { .. }) => None,
            opened => Some(opened.unwrap()),
        };
        opened.into_iter().filter_map(has_device).collect()
    }

    #[test]
    fn what_is_foreseen_is_what_is_loaded() {
        for backend in backends() {
            for dtype in [None, Some(WeightFormat::F32), Some(WeightFormat::INT8)] {
                let options = LoadOptions {
                    dtype,
                    ..LoadOptions::default()
                };
                let foreseen = Footprint::foreseen(&bundled(), &options, &backend).unwrap();
                let model = Model::load(&bundled(), &options, &backend).unwrap();
                let loaded = model.footprint();
                assert_eq!(foreseen.dtype(), loaded.dtype());
                assert_eq!(foreseen.kv_dtype(), loaded.kv_dtype());
                assert_eq!(foreseen.kv_layout(), loaded.kv_layout());
                assert_eq!(foreseen.kv_bytes_per_token(), loaded.kv_bytes_per_token());
                let ratio = foreseen.weight_bytes() as f64 / loaded.weight_bytes() as f64;
                assert!((0.9..1.1).contains(&ratio), "{dtype:?}: {ratio}");
            }
        }
    }

    #[test]
    fn a_configuration_without_weights_is_enough() {
        let files = maitre_bundled::DRAFT.files.iter().copied();
        let files: Vec<_> = files.filter(|(name, _)| *name == "config.json").collect();
        let source = ModelSource::Memory {
            name: "a configuration",
            files: files.leak(),
        };
        let backend = Backend::cpu(1).unwrap();
        let options = LoadOptions::default();
        let footprint = Footprint::foreseen(&source, &options, &backend).unwrap();
        let format = footprint.dtype();
        assert_eq!(
            footprint.weight_bytes(),
            footprint.config().weight_bytes(format)
        );
    }

    #[test]
    fn a_format_without_kernels_is_refused() {
        let options = LoadOptions {
            dtype: Some(WeightFormat::F16),
            ..LoadOptions::default()
        };
        for backend in backends() {
            let foreseen = Footprint::foreseen(&bundled(), &options, &backend);
            assert_eq!(foreseen.is_err(), backend.gpu_info().is_some());
            assert_eq!(
                Model::load(&bundled(), &options, &backend).is_err(),
                foreseen.is_err()
            );
        }
    }
}
