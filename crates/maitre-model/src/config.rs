//! `config.json` → [`ModelConfig`]: the sizes and constants that define a model's mathematics.
//!
//! Both of today's spellings are read: transformers v4 (`rope_theta`, `rope_scaling`) and v5
//! (`rope_parameters`). The idea to read the rest by: a setting is either understood, known to be
//! harmless, or refused by name. A configuration that parses describes exactly the computation that
//! this crate performs.

mod refused;
mod settings;

use maitre_tensor::{DType, KvFormat, WeightFormat};

use crate::architectures::Architecture;
use crate::error::ModelError;
use crate::json;
use crate::kv_layout::{KvLayout, Reads};
use crate::rope::RopeConfig;
use crate::source::ModelSource;
use crate::weights::vocabulary_format;
pub(crate) use settings::Settings;

/// What a model is, apart from its weights.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ModelConfig {
    /// The family whose forward pass this is.
    pub architecture: Architecture,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the gated MLP.
    pub intermediate_size: usize,
    /// Number of transformer layers.
    pub num_layers: usize,
    /// Query heads per layer.
    pub num_heads: usize,
    /// Key and value heads per layer; divides `num_heads`.
    pub num_kv_heads: usize,
    /// Width of one head; even. Independent of `hidden_size / num_heads`.
    pub head_dim: usize,
    /// Rows of the embedding: logits per output row. May exceed the tokenizer's tokens.
    pub vocab_size: usize,
    /// The longest context the model was made for, in tokens.
    pub max_position_embeddings: usize,
    /// What RMSNorm adds to the mean square.
    pub rms_norm_eps: f32,
    /// Rotary position embedding.
    pub rope: RopeConfig,
    /// How many positions a token attends to at most: the last ones, its own included. `None` is
    /// the whole context.
    pub sliding_window: Option<usize>,
    /// Whether the output matrix is the embedding.
    pub tie_word_embeddings: bool,
    /// Whether the attention projections (query, key, value and output) add a bias.
    pub attention_bias: bool,
    /// Whether the MLP projections add a bias.
    pub mlp_bias: bool,
    /// The type the configuration says its weights have, if it says so.
    pub dtype: Option<DType>,
}

/// Where a configuration lies in a model's directory.
const FILE: &str = "config.json";

impl ModelConfig {
    /// Reads a model's `config.json`.
    ///
    /// # Errors
    /// As [`from_json`](Self::from_json), and a file that is not there or cannot be read.
    pub fn load(source: &ModelSource) -> Result<Self, ModelError> {
        let expected =
            "expected a Hugging Face model directory with config.json and model.safetensors";
        Self::from_json(&source.read_required(FILE, expected)?)
    }

    /// Reads the bytes of a `config.json`.
    ///
    /// # Errors
    /// What is missing, malformed, contradictory or not implemented, by the key's name.
    pub fn from_json(json: &[u8]) -> Result<Self, ModelError> {
        let value = json::parse(FILE, json)?;
        let settings = Settings::of_file(FILE, &value)?;
        let architecture = Architecture::named_by(&settings)?;
        refused::refuse_unsupported(&settings)?;
        refused::refuse_partial_attention(&settings)?;
        refuse_other_activation(&settings)?;
        let traits = architecture.read_traits(&settings)?;

        let hidden_size = settings.required_size("hidden_size")?;
        let num_heads = settings.required_size("num_attention_heads")?;
        let max_position_embeddings = settings.required_size("max_position_embeddings")?;
        let config = Self {
            architecture,
            hidden_size,
            intermediate_size: settings.required_size("intermediate_size")?,
            num_layers: settings.required_size("num_hidden_layers")?,
            num_heads,
            num_kv_heads: settings.size("num_key_value_heads")?.unwrap_or(num_heads),
            head_dim: match settings.size("head_dim")? {
                Some(head_dim) => head_dim,
                None => traits.default_head_dim(hidden_size, num_heads)?,
            },
            vocab_size: settings.required_size("vocab_size")?,
            max_position_embeddings,
            rms_norm_eps: settings.positive("rms_norm_eps")?.unwrap_or(1e-6) as f32,
            rope: RopeConfig::from_settings(&settings)?,
            sliding_window: traits.sliding_window,
            tie_word_embeddings: settings.flag("tie_word_embeddings")?,
            attention_bias: settings.flag("attention_bias")?,
            mlp_bias: traits.mlp_bias,
            dtype: read_dtype(&settings)?,
        };
        config.check_heads()?;
        config.check_sizes()?;
        Ok(config)
    }

    /// How many numbers the weights are; a tied matrix counts once.
    #[must_use]
    pub fn num_parameters(&self) -> u64 {
        self.layer_elements() + self.vocabulary_elements() + self.vector_elements()
    }

    /// Bytes of the weights in memory with matrices in `format`. Norms and biases are kept in f32.
    #[must_use]
    pub fn weight_bytes(&self, format: WeightFormat) -> u64 {
        let bytes = |elements: u64, format: WeightFormat| {
            (elements as f64 * format.bits_per_weight() / 8.0) as u64
        };
        bytes(self.layer_elements(), format)
            + bytes(self.vocabulary_elements(), vocabulary_format(format))
            + self.vector_elements() * size_of::<f32>() as u64
    }

    /// How far back each layer reads its cache.
    pub(crate) fn reads(&self) -> Vec<Reads> {
        let reads = self.sliding_window.map_or(Reads::Full, Reads::Window);
        vec![reads; self.num_layers]
    }

    /// Which layers share block tables, and where they keep keys and values.
    #[must_use]
    pub fn kv_layout(&self) -> KvLayout {
        KvLayout::cut(&self.reads())
    }

    /// Bytes of keys and values that one token of context occupies.
    #[must_use]
    pub fn kv_bytes_per_token(&self, format: KvFormat) -> u64 {
        let layer = format.bytes_per_token(self.num_kv_heads, self.head_dim);
        self.num_layers as u64 * layer as u64
    }

    /// Width of the queries of one token: all heads side by side.
    pub(crate) fn query_size(&self) -> usize {
        self.num_heads * self.head_dim
    }

    /// Width of the keys (or the values) of one token.
    pub(crate) fn kv_size(&self) -> usize {
        self.num_kv_heads * self.head_dim
    }

    /// Width of the fused query, key, value projection.
    pub(crate) fn qkv_size(&self) -> usize {
        self.query_size() + 2 * self.kv_size()
    }

    /// Numbers in the layers' matrices.
    fn layer_elements(&self) -> u64 {
        let [hidden, inter, query, qkv, layers] = [
            self.hidden_size,
            self.intermediate_size,
            self.query_size(),
            self.qkv_size(),
            self.num_layers,
        ]
        .map(|size| size as u64);
        layers * hidden * (qkv + query + 3 * inter)
    }

    /// Numbers in the embedding and the output matrix.
    fn vocabulary_elements(&self) -> u64 {
        let embeddings = if self.tie_word_embeddings { 1 } else { 2 };
        embeddings * self.vocab_size as u64 * self.hidden_size as u64
    }

    fn vector_elements(&self) -> u64 {
        let [hidden, inter, head_dim, qkv, layers] = [
            self.hidden_size,
            self.intermediate_size,
            self.head_dim,
            self.qkv_size(),
            self.num_layers,
        ]
        .map(|size| size as u64);
        let per_layer = 2 * hidden
            + u64::from(self.architecture.normalises_heads()) * 2 * head_dim
            + u64::from(self.attention_bias) * (qkv + hidden)
            + u64::from(self.mlp_bias) * (2 * inter + hidden);
        layers * per_layer + hidden
    }

    fn check_heads(&self) -> Result<(), ModelError> {
        if !self.num_heads.is_multiple_of(self.num_kv_heads) {
            return Err(ModelError::InvalidSetting {
                file: FILE.to_owned(),
                key: "num_key_value_heads".to_owned(),
                found: self.num_kv_heads.to_string(),
                expected: format!("a divisor of num_attention_heads = {}", self.num_heads),
            });
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(ModelError::InvalidSetting {
                file: FILE.to_owned(),
                key: "head_dim".to_owned(),
                found: self.head_dim.to_string(),
                expected: "an even number, because rotary embedding turns pairs".to_owned(),
            });
        }
        Ok(())
    }

    /// Proves that the sums and products of sizes in this crate cannot overflow: ids and positions
    /// fit 32 bits, and ten times all elements of the model in four bytes each fit 63.
    fn check_sizes(&self) -> Result<(), ModelError> {
        let overflow = |what| ModelError::SizeOverflow { what };
        for (what, size) in [
            ("vocab_size", self.vocab_size),
            ("max_position_embeddings", self.max_position_embeddings),
        ] {
            if u32::try_from(size).is_err() {
                return Err(overflow(what));
            }
        }
        let heads = (self.num_heads as u128 + 2 * self.num_kv_heads as u128)
            .checked_mul(self.head_dim as u128)
            .ok_or_else(|| overflow("the width of all heads"))?;
        let widest = heads
            .max(self.intermediate_size as u128)
            .max(self.vocab_size as u128);
        // Each layer has at most five matrices of hidden × widest; the embedding twice one.
        let elements = (self.hidden_size as u128)
            .checked_mul(widest)
            .and_then(|matrix| matrix.checked_mul(5 * self.num_layers as u128 + 2))
            .ok_or_else(|| overflow("the number of parameters"))?;
        if elements > (i64::MAX / 40) as u128 {
            return Err(overflow("the number of parameters"));
        }
        Ok(())
    }
}

/// All families gate their MLP by SiLU; `swish` is its other name.
fn refuse_other_activation(settings: &Settings<'_>) -> Result<(), ModelError> {
    for key in ["hidden_act", "hidden_activation"] {
        let Some(value) = settings.get(key) else {
            continue;
        };
        if !matches!(value.as_str(), Some("silu" | "swish")) {
            return Err(settings.unsupported(key, value, "silu"));
        }
    }
    Ok(())
}

/// `dtype` (transformers v5) or `torch_dtype` (v4). Other types are left to the weight files.
fn read_dtype(settings: &Settings<'_>) -> Result<Option<DType>, ModelError> {
    let name = match settings.text("dtype")? {
        Some(name) => Some(name),
        None => settings.text("torch_dtype")?,
    };
    Ok(
        name.and_then(|name| match name.strip_prefix("torch.").unwrap_or(name) {
            "float32" => Some(DType::F32),
            "bfloat16" => Some(DType::Bf16),
            "float16" => Some(DType::F16),
            _ => None,
        }),
    )
}
