//! A loaded model: its configuration, its generation defaults and its packed weights.

use std::fmt;

use maitre_tensor::{Backend, DType, KvFormat, WeightFormat};

use crate::batch::Batch;
use crate::checkpoint::{self, Checkpoint, RandomCheckpoint};
use crate::config::ModelConfig;
use crate::decoder::Decoder;
use crate::error::ModelError;
use crate::footprint::{Footprint, check_kernels, drafter_layout};
use crate::generation::GenerationDefaults;
use crate::kv_layout::KvLayout;
use crate::layers::{Ranks, RopeTables, StepContext};
use crate::progress::LoadProgress;
use crate::shard::Shard;
use crate::source::ModelSource;
use crate::weights::{self, FormatOf};

/// Where weights come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LoadFormat {
    /// The model's safetensors files.
    #[default]
    Auto,
    /// Made up from the configuration: the same seed gives the same model.
    Random {
        /// Chooses the weights.
        seed: u64,
    },
}

/// How to load a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LoadOptions {
    /// The format of matrices in memory. `None` keeps the files' (f16 and stored blocks become bf16 on a GPU); random weights
    /// take the type the configuration names, else bf16. Integer formats are quantized at load. [`WeightFormat::Blocks`], of
    /// whichever format, is every matrix as it is stored.
    pub dtype: Option<WeightFormat>,
    /// The type of the KV cache. `None` is f32 beside f32 matrices, else bf16.
    pub kv_dtype: Option<KvFormat>,
    /// Where weights come from.
    pub load_format: LoadFormat,
    /// The longest context that the model will be given, where that is less than its configuration allows. It decides which
    /// of its factors a [`LongRope`](crate::LongRope) takes and how large the base of a [`DynamicNtk`](crate::DynamicNtk) is,
    /// and nothing else.
    pub context_len: Option<usize>,
    /// The share of the matrices that is loaded. A runner of less than all is one of as many ranks.
    pub shard: Shard,
}

/// Weights ready to be run, shared by every [`Runner`](crate::Runner) that needs them.
pub struct Model {
    footprint: Footprint,
    generation: GenerationDefaults,
    decoder: Decoder,
    /// The longest context that it is set up for.
    context_len: usize,
    shard: Shard,
}

impl Model {
    /// Loads a model's configuration and weights.
    ///
    /// Reading takes the time of one pass over the files; nothing is kept of them but the packed
    /// weights.
    ///
    /// # Errors
    /// A missing or damaged file, a configuration that is not supported, a tensor that is missing
    /// or has another shape: each by name.
    pub fn load(
        source: &ModelSource,
        options: &LoadOptions,
        backend: &Backend,
    ) -> Result<Self, ModelError> {
        Self::load_observed(source, options, backend, &|_| {})
    }

    /// [`load`](Self::load), telling `observer` how much is packed: once before the first weight and once after each
    /// matrix and vector.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_observed(
        source: &ModelSource,
        options: &LoadOptions,
        backend: &Backend,
        observer: &dyn Fn(LoadProgress),
    ) -> Result<Self, ModelError> {
        // What takes no time to check comes first.
        ModelConfig::load(source)?;
        let generation = GenerationDefaults::load(source)?;
        Ok(Self {
            generation,
            ..Self::load_in(source, options, backend, observer, ModelConfig::kv_layout)?
        })
    }

    /// Loads a model that only drafts for another one: without generation defaults, which are the
    /// other one's. `observer` is told as by [`load_observed`](Self::load_observed).
    ///
    /// Its keys and values lie in the blocks of one of the other's KV groups, so its own layers form a single group: each
    /// still attends through its own window.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_drafter(
        source: &ModelSource,
        options: &LoadOptions,
        backend: &Backend,
        observer: &dyn Fn(LoadProgress),
    ) -> Result<Self, ModelError> {
        Self::load_in(source, options, backend, observer, drafter_layout)
    }

    /// Loads a model whose keys and values lie in the groups that `layout` says, without generation defaults.
    fn load_in(
        source: &ModelSource,
        options: &LoadOptions,
        backend: &Backend,
        observer: &dyn Fn(LoadProgress),
        layout: impl FnOnce(&ModelConfig) -> KvLayout,
    ) -> Result<Self, ModelError> {
        let config = ModelConfig::load(source)?;
        check_kernels(&config, backend)?;
        let files = match options.load_format {
            LoadFormat::Auto => Some(checkpoint::open(source, &config)?),
            LoadFormat::Random { .. } => None,
        };
        let stored = files.as_ref().and_then(|(_, dtype)| *dtype);
        let footprint = Footprint::new(&config, stored, options, backend, layout(&config))?;
        let (dtype, kv_dtype) = (footprint.dtype(), footprint.kv_dtype());
        let weights: Box<dyn Checkpoint> = match (files, options.load_format) {
            (Some((files, _)), _) => files,
            (None, LoadFormat::Random { seed }) => {
                let made_up = made_up_dtype(dtype);
                Box::new(RandomCheckpoint::new(
                    seed,
                    backend.threads(),
                    &config,
                    made_up,
                ))
            }
            (None, LoadFormat::Auto) => checkpoint::open(source, &config)?.0,
        };
        let decoder = weights::load_decoder(
            weights.as_ref(),
            (&config, options.shard),
            footprint.kv_layout(),
            FormatOf::layers_in(dtype),
            backend,
            observer,
        )?;
        let longest = config.max_position_embeddings;
        let context_len = options.context_len.map_or(longest, |len| len.min(longest));
        tracing::info!(
            %source,
            architecture = %config.architecture,
            parameters = config.num_parameters(),
            weight_bytes = decoder.size_in_bytes(),
            %dtype,
            %kv_dtype,
            backend = backend.name(),
            "loaded the model"
        );
        Ok(Self {
            footprint: footprint.with_weight_bytes(decoder.size_in_bytes() as u64),
            generation: GenerationDefaults::default(),
            decoder,
            context_len,
            shard: options.shard,
        })
    }

    /// Checks the weight files against `config` without reading weights: names, shapes, dtypes. A
    /// model without weight files passes.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn check_weights(source: &ModelSource, config: &ModelConfig) -> Result<(), ModelError> {
        if checkpoint::is_there(source)? {
            checkpoint::open(source, config)?;
        }
        Ok(())
    }

    /// What it takes of the backend's memory.
    #[must_use]
    pub fn footprint(&self) -> &Footprint {
        &self.footprint
    }

    /// What the model is; of a share, with the sizes that are this rank's.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        self.footprint.config()
    }

    /// When an answer ends and how to sample where a request does not say.
    #[must_use]
    pub fn generation_defaults(&self) -> &GenerationDefaults {
        &self.generation
    }

    /// Which share of it this is.
    #[must_use]
    pub fn shard(&self) -> Shard {
        self.shard
    }

    /// The format of matrices in memory; of a file with several formats of blocks, the one that has the most numbers.
    #[must_use]
    pub fn dtype(&self) -> WeightFormat {
        self.footprint.dtype()
    }

    /// The type keys and values are kept in.
    #[must_use]
    pub fn kv_dtype(&self) -> KvFormat {
        self.footprint.kv_dtype()
    }

    /// The groups that a runner's batches have, in order, and the caches that it has.
    #[must_use]
    pub fn kv_layout(&self) -> &KvLayout {
        self.footprint.kv_layout()
    }

    /// Bytes that the keys and values of a token take in all layers, on the backend that the weights were packed for.
    #[must_use]
    pub fn kv_bytes_per_token(&self) -> u64 {
        self.footprint.kv_bytes_per_token()
    }

    /// Bytes of all weights as they lie in memory.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        self.decoder.size_in_bytes()
    }

    /// What a step over `batch` is computed from.
    pub(crate) fn step<'a>(
        &'a self,
        backend: &'a Backend,
        ropes: &'a RopeTables,
        batch: &'a Batch,
        ranks: Option<&'a Ranks>,
    ) -> StepContext<'a> {
        StepContext {
            backend,
            config: self.config(),
            ropes,
            batch,
            ranks,
        }
    }

    /// Tables of cosines and sines for positions below `positions`.
    pub(crate) fn rope_tables(
        &self,
        backend: &Backend,
        positions: usize,
    ) -> Result<RopeTables, ModelError> {
        let (ropes, context) = (&self.config().ropes, self.context_len);
        Ok(RopeTables::new(backend, ropes, positions, context)?)
    }

    pub(crate) fn decoder(&self) -> &Decoder {
        &self.decoder
    }
}

impl fmt::Debug for Model {
    /// Names the model; its weights are too many to print.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Model")
            .field("config", self.config())
            .field("dtype", &self.dtype())
            .field("kv_dtype", &self.kv_dtype())
            .finish_non_exhaustive()
    }
}

/// The type in which a checkpoint of random weights would hold matrices for this format.
const fn made_up_dtype(format: WeightFormat) -> DType {
    match format {
        WeightFormat::F32 => DType::F32,
        WeightFormat::F16 => DType::F16,
        _ => DType::Bf16,
    }
}
