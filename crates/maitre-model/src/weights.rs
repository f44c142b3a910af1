//! Tensor names → packed weights.
//!
//! The names are those of Hugging Face's Llama family. Projections that read the same input are
//! stacked into one matrix (query, key, value; gate, up), so that a layer is four matrix products.
//! A tied embedding is packed once and used twice.

use half::{bf16, f16};
use maitre_tensor::{
    Backend, Buffer, DType, PackedWeight, RawTensor, TensorError, WeightFormat, WeightView,
};

use crate::checkpoint::Checkpoint;
use crate::config::ModelConfig;
use crate::decoder::{Decoder, Layer, Linear};
use crate::error::ModelError;
use crate::kv_layout::{CachePlace, KvLayout, Reads};
use crate::progress::{LoadProgress, Progress};
use crate::random::RandomWeights;

pub(crate) const EMBEDDING: &str = "model.embed_tokens.weight";
pub(crate) const HEAD: &str = "lm_head.weight";
pub(crate) const FINAL_NORM: &str = "model.norm.weight";

/// Where weights come from.
#[derive(Debug)]
pub(crate) enum WeightSource {
    /// The model's files.
    Checkpoint(Checkpoint),
    /// A generator.
    Random(RandomWeights),
}

impl WeightSource {
    /// The type in which the files hold the embedding, which stands for all matrices.
    pub(crate) fn dtype(&self) -> Option<DType> {
        match self {
            Self::Checkpoint(files) => files.dtype_of(EMBEDDING).or_else(|| files.dtype_of(HEAD)),
            Self::Random(_) => None,
        }
    }

    /// Packs the tensors `(name, rows)`, each `[rows, cols]`, stacked along their rows or, if they
    /// are a gate and an up projection, as `gated`.
    fn matrix(
        &self,
        backend: &Backend,
        parts: &[(String, usize)],
        cols: usize,
        format: WeightFormat,
        gated: bool,
    ) -> Result<PackedWeight, ModelError> {
        let view = |rows: usize, dtype, bytes| WeightView {
            dtype,
            rows,
            cols,
            bytes,
        };
        let pack = |views: &[WeightView<'_>]| match views {
            [gate, up] if gated => backend.pack_gated(*gate, *up, format),
            views => backend.pack(views, format),
        };
        let packed = match self {
            Self::Checkpoint(files) => {
                let tensors = parts
                    .iter()
                    .map(|(name, rows)| files.take(name, &[*rows, cols]))
                    .collect::<Result<Vec<_>, _>>()?;
                let views = parts.iter().zip(&tensors);
                let views =
                    views.map(|((_, rows), tensor)| view(*rows, tensor.dtype, tensor.bytes));
                let packed = pack(&views.collect::<Vec<_>>());
                parts.iter().for_each(|(name, _)| files.release(name));
                packed
            }
            Self::Random(weights) => {
                let dtype = made_up_dtype(format);
                let tensors = parts
                    .iter()
                    .map(|(name, rows)| weights.bytes(name, rows * cols, dtype))
                    .collect::<Result<Vec<_>, _>>()?;
                let views = parts.iter().zip(&tensors);
                let views = views.map(|((_, rows), bytes)| view(*rows, dtype, bytes));
                pack(&views.collect::<Vec<_>>())
            }
        };
        packed.map_err(|source| match source {
            TensorError::NonFiniteWeight { part, .. } => ModelError::Quantize {
                tensor: parts[part].0.clone(),
                format,
                source,
            },
            other => other.into(),
        })
    }

    /// The tensors `(name, len)`, one after the other, in f32, for matrices in `format`.
    fn vector(
        &self,
        backend: &Backend,
        parts: &[(String, usize)],
        format: WeightFormat,
    ) -> Result<Buffer, ModelError> {
        let mut values = Vec::new();
        for (name, len) in parts {
            let part = match self {
                Self::Checkpoint(files) => widen(&files.take(name, &[*len])?),
                Self::Random(weights) => weights.vector(name, *len),
            };
            if format.is_quantized() {
                check_finite(name, &part, format)?;
            }
            values.extend(part);
        }
        Ok(backend.vector(&values)?)
    }

    /// Bytes of the tensor `name` as the files hold it, or would hold it.
    fn bytes_of(&self, name: &str, elements: usize, format: WeightFormat) -> u64 {
        let bytes = match self {
            Self::Checkpoint(files) => files.bytes_of(name),
            Self::Random(_) => elements * made_up_dtype(format).size_in_bytes(),
        };
        bytes as u64
    }

    /// Bytes of all tensors that are packed for `config`.
    fn total_bytes(&self, config: &ModelConfig, format: WeightFormat) -> u64 {
        // Of a tied pair one matrix is packed.
        let unused = match self {
            _ if !config.tie_word_embeddings => None,
            Self::Checkpoint(files) if !files.contains(EMBEDDING) => Some(EMBEDDING),
            _ => Some(HEAD),
        };
        let needed = config.needed_tensors();
        let packed = needed
            .iter()
            .filter(|tensor| Some(tensor.name.as_str()) != unused);
        packed
            .map(|tensor| self.bytes_of(&tensor.name, tensor.shape.iter().product(), format))
            .sum()
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

/// Loads every weight of `config`'s architecture with matrices in `format` for layers whose keys and values lie as in
/// `layout`, and tells `observer` of each. A checkpoint has been checked against `config`.
///
/// # Errors
/// A tensor that cannot be quantized, by name; matrices that are tied and differ.
pub(crate) fn load_decoder(
    source: &WeightSource,
    config: &ModelConfig,
    layout: &KvLayout,
    format: WeightFormat,
    backend: &Backend,
    observer: &dyn Fn(LoadProgress),
) -> Result<Decoder, ModelError> {
    let loader = Loader {
        source,
        config,
        format,
        backend,
        progress: Progress::begin(observer, source.total_bytes(config, format)),
    };
    let (embedding, head) = loader.embedding_and_head()?;
    Ok(Decoder {
        embedding,
        first_norm: loader.norm("model.layers.0.input_layernorm.weight")?,
        layers: config
            .reads()
            .into_iter()
            .enumerate()
            .filter_map(|(layer, reads)| Some((layer, layout.place_of(layer)?, reads)))
            .map(|(layer, place, reads)| loader.layer(layer, place, reads))
            .collect::<Result<_, _>>()?,
        head,
    })
}

/// The format of the embedding and of the output matrix.
///
/// Beside int4 layers they are int8: the loss of int4 there is as large as in all layers together
/// (perplexity of the bundled model on held-out text, over bf16: int4 throughout +3.7 %, with these
/// two in int8 +2.4 %, in bf16 +2.3 %), and other engines keep them finer too.
pub(crate) const fn vocabulary_format(layers: WeightFormat) -> WeightFormat {
    match layers {
        WeightFormat::Int4 { group } => WeightFormat::Int8 {
            activation_group: Some(group),
        },
        other => other,
    }
}

struct Loader<'a> {
    source: &'a WeightSource,
    config: &'a ModelConfig,
    format: WeightFormat,
    backend: &'a Backend,
    progress: Progress<'a>,
}

impl Loader<'_> {
    /// [`WeightSource::matrix`], counted.
    fn matrix(
        &self,
        parts: &[(String, usize)],
        cols: usize,
        format: WeightFormat,
        gated: bool,
    ) -> Result<PackedWeight, ModelError> {
        let packed = self
            .source
            .matrix(self.backend, parts, cols, format, gated)?;
        for (name, rows) in parts {
            self.progress
                .add(self.source.bytes_of(name, rows * cols, self.format));
        }
        Ok(packed)
    }

    /// [`WeightSource::vector`], counted.
    fn vector(&self, parts: &[(String, usize)]) -> Result<Buffer, ModelError> {
        let vector = self.source.vector(self.backend, parts, self.format)?;
        for (name, len) in parts {
            self.progress
                .add(self.source.bytes_of(name, *len, self.format));
        }
        Ok(vector)
    }

    /// The embedding, and the output matrix unless that is the embedding too.
    fn embedding_and_head(&self) -> Result<(PackedWeight, Option<PackedWeight>), ModelError> {
        let (vocab, hidden) = (self.config.vocab_size, self.config.hidden_size);
        let format = vocabulary_format(self.format);
        let load = |name: &str| self.matrix(&[(name.to_owned(), vocab)], hidden, format, false);
        if !self.config.tie_word_embeddings {
            return Ok((load(EMBEDDING)?, Some(load(HEAD)?)));
        }
        let name = match self.source {
            WeightSource::Checkpoint(files) => tied_name(files, &[vocab, hidden])?,
            WeightSource::Random(_) => EMBEDDING,
        };
        Ok((load(name)?, None))
    }

    fn layer(&self, layer: usize, place: CachePlace, reads: Reads) -> Result<Layer, ModelError> {
        let config = self.config;
        let (hidden, inter) = (config.hidden_size, config.intermediate_size);
        let (query, kv) = (config.query_size(), config.kv_size());
        let name = |part: &str| format!("model.layers.{layer}.{part}");
        let next_norm = if layer + 1 < config.num_layers {
            format!("model.layers.{}.input_layernorm.weight", layer + 1)
        } else {
            FINAL_NORM.to_owned()
        };
        let attention = |parts: &[(&str, usize)], cols| {
            self.linear(&name("self_attn"), parts, cols, config.attention_bias)
        };
        let mlp =
            |parts: &[(&str, usize)], cols| self.linear(&name("mlp"), parts, cols, config.mlp_bias);
        Ok(Layer {
            place,
            reads,
            qkv: attention(&[("q_proj", query), ("k_proj", kv), ("v_proj", kv)], hidden)?,
            q_norm: self.head_norm(name("self_attn.q_norm.weight"))?,
            k_norm: self.head_norm(name("self_attn.k_norm.weight"))?,
            output: attention(&[("o_proj", hidden)], query)?,
            mlp_norm: self.norm(&name("post_attention_layernorm.weight"))?,
            gate_up: mlp(&[("gate_proj", inter), ("up_proj", inter)], hidden)?,
            down: mlp(&[("down_proj", hidden)], inter)?,
            next_norm: self.norm(&next_norm)?,
        })
    }

    /// The projections `(name, rows)` of `module`, stacked, with their biases if they have any.
    fn linear(
        &self,
        module: &str,
        parts: &[(&str, usize)],
        cols: usize,
        biased: bool,
    ) -> Result<Linear, ModelError> {
        let named = |kind: &str| -> Vec<(String, usize)> {
            let parts = parts.iter();
            parts
                .map(|(part, rows)| (format!("{module}.{part}.{kind}"), *rows))
                .collect()
        };
        let gated = matches!(parts, [("gate_proj", _), ("up_proj", _)]);
        let weight = self.matrix(&named("weight"), cols, self.format, gated)?;
        let bias = biased.then(|| self.vector(&named("bias"))).transpose()?;
        Ok(Linear { weight, bias })
    }

    fn norm(&self, name: &str) -> Result<Buffer, ModelError> {
        self.vector(&[(name.to_owned(), self.config.hidden_size)])
    }

    /// The norm over each head, in the families that have one.
    fn head_norm(&self, name: String) -> Result<Option<Buffer>, ModelError> {
        self.config
            .architecture
            .normalises_heads()
            .then(|| self.vector(&[(name, self.config.head_dim)]))
            .transpose()
    }
}

/// Under which name a tied matrix is stored. Old checkpoints may hold it under both; what two
/// different matrices mean is something even versions of one library disagree on, so it is refused.
fn tied_name(files: &Checkpoint, shape: &[usize]) -> Result<&'static str, ModelError> {
    match (files.contains(EMBEDDING), files.contains(HEAD)) {
        (false, true) => Ok(HEAD),
        (true, true) if files.take(EMBEDDING, shape)?.bytes != files.take(HEAD, shape)?.bytes => {
            Err(ModelError::UntiedWeights)
        }
        _ => Ok(EMBEDDING),
    }
}

/// Refuses a vector that would make activations which no integer can stand for.
fn check_finite(name: &str, values: &[f32], format: WeightFormat) -> Result<(), ModelError> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(at) => Err(ModelError::NonFiniteVector {
            tensor: name.to_owned(),
            format,
            at,
            value: values[at],
        }),
    }
}

/// A tensor's elements in f32.
fn widen(tensor: &RawTensor<'_>) -> Vec<f32> {
    let bytes = tensor.bytes;
    match tensor.dtype {
        DType::F32 => map_chunks(bytes, f32::from_le_bytes),
        DType::Bf16 => map_chunks(bytes, |element| bf16::from_le_bytes(element).to_f32()),
        DType::F16 => map_chunks(bytes, |element| f16::from_le_bytes(element).to_f32()),
    }
}

fn map_chunks<const WIDTH: usize>(bytes: &[u8], convert: fn([u8; WIDTH]) -> f32) -> Vec<f32> {
    let (elements, _) = bytes.as_chunks::<WIDTH>();
    elements.iter().map(|element| convert(*element)).collect()
}
