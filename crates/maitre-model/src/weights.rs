//! Stored tensors → packed weights.
//!
//! Projections that read the same input are stacked into one matrix (query, key, value; gate, up), so that a layer is
//! four matrix products; where a file has them stacked already, their rows are taken as they lie. A tied embedding is
//! packed once and used twice.

mod layers;
mod matrix;
#[cfg(test)]
mod tests;
mod values;
mod widened;

use std::collections::BTreeSet;
use std::ops::Range;

use maitre_tensor::{Activation, Backend, Buffer, DType, PackedWeight, TensorError, WeightFormat};

use crate::checkpoint::{Checkpoint, Stored};
use crate::config::ModelConfig;
use crate::decoder::{Decoder, Layers};
use crate::error::ModelError;
use crate::inventory::{LayerTensors, Needed, Part, Projection};
use crate::kv_layout::{CachePlace, KvLayout};
use crate::layers::{Attention, Embedding, HeadNorms, Linear, Mlp};
use crate::names::{EMBEDDING, HEAD, Norms, POSITIONS};
use crate::progress::{LoadProgress, Progress};
use crate::shard::Shard;
use crate::spec::{EmbeddingScale, HeadNorm, MlpSpec};
use matrix::{StoredMatrix, StoredPart, columns};
use values::{check_finite, round_as, widen};
use widened::widened;

/// Which format each matrix gets in memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FormatOf {
    layers: WeightFormat,
}

impl FormatOf {
    /// Layers in `format`, the embedding and the output matrix no coarser than int8.
    ///
    /// The loss of int4 there is as large as in all layers together
    /// (perplexity of the bundled model on held-out text, over bf16: int4 throughout +3.7 %, with these
    /// two in int8 +2.4 %, in bf16 +2.3 %), and other engines keep them finer too.
    pub(crate) const fn layers_in(format: WeightFormat) -> Self {
        Self { layers: format }
    }

    /// The format of the matrix that is stored under this name.
    pub(crate) fn of(self, tensor: &str) -> WeightFormat {
        match (tensor, self.layers) {
            (EMBEDDING | HEAD | POSITIONS, WeightFormat::Int4 { group }) => WeightFormat::Int8 {
                activation_group: Some(group),
            },
            (_, format) => format,
        }
    }
}

/// Loads `shard` of every weight of `config` for layers whose keys and values lie as in `layout`, and tells `observer` of each. A
/// checkpoint has been checked against `config`.
///
/// # Errors
/// A tensor that cannot be quantized, by name; matrices that are tied and differ.
pub(crate) fn load_decoder(
    source: &dyn Checkpoint,
    (config, shard): (&ModelConfig, Shard),
    layout: &KvLayout,
    formats: FormatOf,
    backend: &Backend,
    observer: &dyn Fn(LoadProgress),
) -> Result<Decoder, ModelError> {
    let widened = match formats.layers {
        WeightFormat::Blocks(_) => widened(source, config),
        _ => BTreeSet::new(),
    };
    if let Some(tensor) = widened.first() {
        tracing::info!(%tensor, tensors = widened.len(), "matrices that are stored in forms that do not go together become f32");
    }
    let loader = Loader {
        source,
        config,
        shard,
        formats,
        widened,
        backend,
        progress: Progress::begin(observer, total_bytes(source, config)),
    };
    let (embedding, head) = loader.embedding_and_head()?;
    let layers = match config.architecture.family().names.norms {
        Norms::Before { .. } => Layers::PreNorm(loader.pre_norm(layout)?),
        Norms::Parallel(_) => Layers::Parallel(loader.parallel(layout)?),
        Norms::After { .. } | Norms::BothSides { .. } => {
            Layers::PostNorm(loader.post_norm(layout)?)
        }
    };
    Ok(Decoder {
        embedding,
        layers,
        head,
    })
}

/// Bytes of all tensors that are packed for `config`.
fn total_bytes(source: &dyn Checkpoint, config: &ModelConfig) -> u64 {
    // Of a tied pair one matrix is packed.
    let unused = match config.tie_word_embeddings {
        false => None,
        true if !source.contains(EMBEDDING) => Some(EMBEDDING),
        true => Some(HEAD),
    };
    let needed = config.needed_tensors();
    let packed = needed
        .iter()
        .filter(|tensor| Some(tensor.name.as_str()) != unused);
    packed
        .map(|tensor| source.bytes_of(&tensor.name) as u64)
        .sum()
}

/// How ranks share a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// Each has it all.
    Nowhere,
    /// By the rows of each part: output features.
    Rows,
    /// By columns: input features.
    Columns,
}

struct Loader<'a> {
    source: &'a dyn Checkpoint,
    config: &'a ModelConfig,
    shard: Shard,
    formats: FormatOf,
    /// Tensors that are kept in f32 whatever `formats` says.
    widened: BTreeSet<String>,
    backend: &'a Backend,
    progress: Progress<'a>,
}

impl<'a> Loader<'a> {
    /// A tensor of the shape that is needed.
    fn stored(&self, needed: &Needed) -> Result<Stored<'a>, ModelError> {
        let stored = self.source.tensor(&needed.name)?;
        if stored.shape() == needed.shape {
            return Ok(stored);
        }
        Err(ModelError::TensorShape {
            name: needed.name.clone(),
            file: "the checkpoint".to_owned(),
            expected: needed.shape.clone(),
            found: stored.shape().to_vec(),
            settings: needed.settings.as_str().into(),
        })
    }

    /// Gives a packed tensor's memory back, and counts it.
    fn done(&self, needed: &Needed) {
        self.source.release(&needed.name);
        self.progress.add(self.source.bytes_of(&needed.name) as u64);
    }

    /// This rank's rows of a tensor's part.
    fn rows_of(&self, part: &Part, cut: Cut) -> Range<usize> {
        match cut {
            Cut::Rows => self.shard.part_of(&part.rows),
            Cut::Nowhere | Cut::Columns => part.rows.clone(),
        }
    }

    /// The parts of a projection as far as this rank has them, stacked along their rows; of a gate and what it gates, as
    /// gated by `activation`.
    fn matrix(
        &self,
        projection: &Projection,
        activation: Option<Activation>,
        cut: Cut,
    ) -> Result<PackedWeight, ModelError> {
        let whole = 0..projection.cols;
        let cols = match cut {
            Cut::Columns => self.shard.part_of(&whole),
            Cut::Nowhere | Cut::Rows => whole.clone(),
        };
        let tensors = projection
            .tensors
            .iter()
            .enumerate()
            .map(|(at, (weight, _))| {
                let stored = self.stored(weight)?;
                let stored = match projection.paired_rows(at) {
                    None => stored,
                    Some((neighbours, rows)) => neighbours.of_rows(stored, &rows),
                };
                match cols == whole {
                    true => Ok(stored),
                    false => columns(stored, cols.clone()),
                }
            });
        let parts = projection.parts.iter().map(|part| StoredPart {
            tensor: part.tensor,
            rows: self.rows_of(part, cut),
        });
        let matrix = StoredMatrix {
            tensors: tensors.collect::<Result<_, ModelError>>()?,
            parts: parts.collect(),
            cols: cols.len(),
        };
        let name_of = |part: usize| &projection.tensors[projection.parts[part].tensor].0.name;
        let format = match self.widened.contains(name_of(0)) {
            true => WeightFormat::F32,
            false => self.formats.of(name_of(0)),
        };
        let packed = matrix.pack(self.backend, format, activation);
        let packed = packed.map_err(|error| match error {
            ModelError::Tensor(source @ TensorError::NonFiniteWeight { part, .. }) => {
                ModelError::Quantize {
                    tensor: name_of(part).clone(),
                    format,
                    source,
                }
            }
            ModelError::Tensor(source @ TensorError::NonFiniteScale { part, .. }) => {
                ModelError::Blocks {
                    tensor: name_of(part).clone(),
                    source,
                }
            }
            other => other,
        })?;
        for (weight, _) in &projection.tensors {
            self.done(weight);
        }
        Ok(packed)
    }

    /// The numbers of a vector, in f32.
    fn values(&self, needed: &Needed) -> Result<Vec<f32>, ModelError> {
        let values = widen(&self.stored(needed)?.into_dense()?);
        let format = self.formats.of(&needed.name);
        if format.is_quantized() {
            check_finite(&needed.name, &values, format)?;
        }
        Ok(values)
    }

    fn linear(
        &self,
        projection: &Projection,
        activation: Option<Activation>,
        cut: Cut,
    ) -> Result<Linear, ModelError> {
        let weight = self.matrix(projection, activation, cut)?;
        let biases = projection.tensors.iter().enumerate();
        let biases = biases
            .map(|(at, (_, bias))| {
                let bias = bias.as_ref().map(|bias| self.values(bias)).transpose()?;
                Ok(bias.map(|bias| projection.in_halves(at, bias)))
            })
            .collect::<Result<Vec<_>, ModelError>>()?;
        let mut values = Vec::new();
        for part in &projection.parts {
            if let Some(bias) = &biases[part.tensor] {
                values.extend_from_slice(&bias[self.rows_of(part, cut)]);
            }
        }
        for (_, bias) in &projection.tensors {
            bias.iter().for_each(|bias| self.done(bias));
        }
        // What is added to a sum is added once.
        let is_added = !values.is_empty() && (cut != Cut::Columns || self.shard.is_first());
        let bias = is_added.then(|| self.backend.vector(&values)).transpose()?;
        Ok(Linear { weight, bias })
    }

    /// A norm's weight as it multiplies.
    fn norm(&self, needed: &Needed) -> Result<Buffer, ModelError> {
        self.scaled_norm(needed, 1.0)
    }

    /// A norm's weight times `factor`.
    fn scaled_norm(&self, needed: &Needed, factor: f32) -> Result<Buffer, ModelError> {
        let mut values = self.values(needed)?;
        let offset = self.config.norm_offset;
        if offset != 0.0 || factor != 1.0 {
            values
                .iter_mut()
                .for_each(|value| *value = (*value + offset) * factor);
        }
        self.done(needed);
        Ok(self.backend.vector(&values)?)
    }

    /// The embedding, and the output matrix unless that is the embedding too.
    fn embedding_and_head(&self) -> Result<(Embedding, Option<PackedWeight>), ModelError> {
        let (vocab, hidden) = (self.config.vocab_size, self.config.hidden_size);
        let load =
            |name: &str| self.matrix(&Projection::single(name, vocab, hidden), None, Cut::Nowhere);
        let tied = self.config.tie_word_embeddings;
        let name = match tied {
            true => self.tied_name()?,
            false => EMBEDDING,
        };
        let multiplier = match self.config.multipliers.embedding {
            EmbeddingScale::By(multiplier) => multiplier,
            EmbeddingScale::RootOfWidth => {
                let dtype = match self.source.tensor(name)? {
                    Stored::Dense(dense) => dense.dtype,
                    Stored::Blocks(_) => DType::F32,
                };
                embedding_scale(hidden, dtype)
            }
        };
        let scale = multiplier / self.stream_divisor();
        let scale = (scale != 1.0).then_some(scale);
        let table = load(name)?;
        let head = match tied {
            true => None,
            false => Some(load(HEAD)?),
        };
        let positions = self.positions()?;
        let embedding = Embedding {
            table,
            scale,
            positions,
        };
        Ok((embedding, head))
    }

    /// The embedding of positions, if there is one.
    fn positions(&self) -> Result<Option<PackedWeight>, ModelError> {
        if !self.config.learned_positions {
            return Ok(None);
        }
        let (rows, cols) = (self.config.max_position_embeddings, self.config.hidden_size);
        let table = Projection::single(POSITIONS, rows, cols);
        self.matrix(&table, None, Cut::Nowhere).map(Some)
    }

    /// What the residual stream is kept divided by: see [`ModelConfig::stream_eps`].
    fn stream_divisor(&self) -> f32 {
        match self.config.architecture.family().names.norms {
            Norms::Before { .. } | Norms::Parallel(_) => self.config.multipliers.residual,
            Norms::After { .. } | Norms::BothSides { .. } => 1.0,
        }
    }

    /// Under which name a tied matrix is stored. Old checkpoints may hold it under both; what two
    /// different matrices mean is something even versions of one library disagree on, so it is refused.
    fn tied_name(&self) -> Result<&'static str, ModelError> {
        let source = self.source;
        match (source.contains(EMBEDDING), source.contains(HEAD)) {
            (false, true) => Ok(HEAD),
            (true, true) if source.tensor(EMBEDDING)?.bytes() != source.tensor(HEAD)?.bytes() => {
                Err(ModelError::UntiedWeights)
            }
            _ => Ok(EMBEDDING),
        }
    }

    fn attention(
        &self,
        layer: usize,
        tensors: &LayerTensors,
        place: CachePlace,
    ) -> Result<Attention, ModelError> {
        let spec = self.config.layers[layer].attention;
        let qkv = self.linear(&tensors.qkv, None, Cut::Rows)?;
        let norms = match (&tensors.head_norms, spec.head_norm) {
            (Some([q, k]), HeadNorm::PerHead) => HeadNorms::PerHead {
                q: self.norm(q)?,
                k: self.norm(k)?,
            },
            (Some([q, k]), HeadNorm::PerHeadTurned) => self.norms_of_turned(q, k)?,
            (Some([q, k]), HeadNorm::WholeRow) => HeadNorms::WholeRow {
                q: self.norm(q)?,
                k: self.norm(k)?,
            },
            _ => HeadNorms::Absent,
        };
        Ok(Attention {
            place,
            spec,
            qkv,
            norms,
            output: self.linear(&tensors.output, None, Cut::Columns)?,
        })
    }

    /// See [`HeadNorms::PerHeadTurned`].
    fn norms_of_turned(&self, q: &Needed, k: &Needed) -> Result<HeadNorms, ModelError> {
        let [of_queries, of_keys] = [self.values(q)?, self.values(k)?];
        let offset = self.config.norm_offset;
        let both = of_queries.iter().zip(&of_keys);
        let both: Vec<f32> = both.map(|(w, v)| (w + offset) * (v + offset)).collect();
        [q, k].iter().for_each(|needed| self.done(needed));
        Ok(HeadNorms::PerHeadTurned {
            q: self.backend.vector(&both)?,
            k: self.backend.vector(&vec![1.0; both.len()])?,
        })
    }

    fn mlp(&self, layer: usize, tensors: &LayerTensors) -> Result<Mlp, ModelError> {
        let MlpSpec {
            gated, activation, ..
        } = self.config.layers[layer].mlp;
        Ok(Mlp {
            gate_up: self.linear(&tensors.gate_up, gated.then_some(activation), Cut::Rows)?,
            ungated: (!gated).then_some(activation),
            down: self.linear(&tensors.down, None, Cut::Columns)?,
        })
    }
}

/// The root of the embedding's width, rounded to the type that the embedding is stored in, as transformers rounds it:
/// for 1,152 that is 33.94 in f32 and 34 in bf16. The products themselves are not rounded.
fn embedding_scale(hidden: usize, dtype: DType) -> f32 {
    round_as(dtype, (hidden as f64).sqrt() as f32)
}
