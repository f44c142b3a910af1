//! `config.json` → [`ModelConfig`]: the sizes and constants that define a model's mathematics.
//!
//! Both of today's spellings are read: transformers v4 (`rope_theta`, `rope_scaling`) and v5
//! (`rope_parameters`). The idea to read the rest by: a setting is either understood, known to be
//! harmless, or refused by name. A configuration that parses describes exactly the computation that
//! this crate performs.

mod choices;
mod refused;
mod settings;

use maitre_tensor::{DType, KvFormat, WeightFormat};

use crate::error::ModelError;
use crate::inventory::Needed;
use crate::json;
use crate::kv_layout::{KvLayout, Reads};
use crate::names::{EMBEDDING, HEAD, POSITIONS};
use crate::registry::{Architecture, Family};
use crate::rope::{DEFAULT_THETA, RopeConfig, RopeContext, RopePairs, RopeScaling};
use crate::source::ModelSource;
use crate::spec::{LayerSpec, ModelSpec, Multipliers, NormKind};
use crate::weights::FormatOf;
use crate::wrapper::Wrapper;
pub(crate) use settings::{Settings, is_positive};

/// What a model is, apart from its weights.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ModelConfig {
    /// The family whose forward pass this is.
    pub architecture: Architecture,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the MLP.
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
    /// What norms add to the mean square, or to the variance.
    pub rms_norm_eps: f32,
    /// What each layer does.
    pub layers: Vec<LayerSpec>,
    /// The rotary position embeddings that layers use, by number.
    pub ropes: Vec<RopeConfig>,
    /// How many positions a token attends to at most in all layers: the last ones, its own included. `None` is
    /// the whole context, in some layers at least.
    pub sliding_window: Option<usize>,
    /// Whether the output matrix is the embedding.
    pub tie_word_embeddings: bool,
    /// What embeddings, what layers add, and logits are multiplied by.
    pub multipliers: Multipliers,
    /// What norms add to their weights as they are stored.
    pub norm_offset: f32,
    /// Bound of each logit: it becomes `bound * tanh(logit / bound)`.
    pub logit_bound: Option<f32>,
    /// How the residual stream is normalised.
    pub norm: NormKind,
    /// Whether each position has an embedding that is added to its token's.
    pub learned_positions: bool,
    /// The type the configuration says its weights have, if it says so.
    pub dtype: Option<DType>,
    /// The class that the model is the text's part of, if it is one's.
    pub wrapper: Option<Wrapper>,
}

/// Where a configuration lies in a model's directory.
const FILE: &str = "config.json";
const TIED: &str = "tie_word_embeddings";
const KV_HEADS: &str = "num_key_value_heads";

impl ModelConfig {
    /// Reads a model's `config.json`, or what its GGUF file says.
    ///
    /// # Errors
    /// As [`from_json`](Self::from_json), and a file that is not there or cannot be read.
    pub fn load(source: &ModelSource) -> Result<Self, ModelError> {
        if let Some(file) = source.gguf()? {
            return file.config();
        }
        let expected = "expected a Hugging Face model directory with config.json and model.safetensors, or a GGUF file";
        Self::from_json(&source.read_required(FILE, expected)?)
    }

    /// Reads the bytes of a `config.json`.
    ///
    /// # Errors
    /// What is missing, malformed, contradictory or not implemented, by the key's name.
    pub fn from_json(json: &[u8]) -> Result<Self, ModelError> {
        let value = json::parse(FILE, json)?;
        let outer = Settings::of_file(FILE, &value)?;
        let wrapper = Wrapper::named_by(&outer);
        let (settings, architecture) = match wrapper {
            None => (outer, Architecture::named_by(&outer)?),
            Some(wrapper) => {
                refused::refuse_unsupported(&outer, &[])?;
                let text = text_settings(&outer)?;
                (text, wrapper.text_family(&text)?)
            }
        };
        let family = architecture.family();
        refused::refuse_unsupported(&settings, family.implements)?;
        let sizes = Sizes::read(&settings, family)?;
        let spec = (family.spec)(&settings, &sizes)?;
        // Of a model with images the setting outside is that of the whole.
        let tie_word_embeddings = match outer.optional_flag(TIED)? {
            None => settings.optional_flag(TIED)?,
            stated => stated,
        };
        let eps = settings.positive(family.defaults.keys.norm_eps)?;
        let config = Self {
            architecture,
            hidden_size: sizes.hidden_size,
            intermediate_size: sizes.intermediate_size,
            num_layers: sizes.num_layers,
            num_heads: sizes.num_heads,
            num_kv_heads: sizes.num_kv_heads,
            head_dim: sizes.head_dim,
            vocab_size: sizes.vocab_size,
            max_position_embeddings: longest_context(&spec, sizes.max_position_embeddings),
            rms_norm_eps: eps.unwrap_or(family.defaults.rms_norm_eps) as f32,
            sliding_window: common_window(&spec.layers),
            tie_word_embeddings: tie_word_embeddings.unwrap_or(family.defaults.tie_word_embeddings),
            multipliers: spec.multipliers,
            norm_offset: spec.norm_offset,
            logit_bound: spec.logit_bound,
            norm: spec.norm,
            learned_positions: spec.learned_positions,
            layers: spec.layers,
            ropes: spec.ropes,
            dtype: read_dtype(&settings)?.map_or_else(|| read_dtype(&outer), |it| Ok(Some(it)))?,
            wrapper,
        };
        check_size("max_position_embeddings", config.max_position_embeddings)?;
        if !is_positive(f64::from(config.stream_eps())) {
            return Err(settings.contradicts(
                "residual_multiplier",
                config.multipliers.residual.to_string(),
                format!(
                    "a number by whose square rms_norm_eps = {} can be divided",
                    config.rms_norm_eps
                ),
            ));
        }
        Ok(config)
    }

    /// What norms of the residual stream add to its mean square, where layers norm before they compute.
    ///
    /// Such layers keep the stream divided by the multiplier m of what they add, so that they add it as it is. Their
    /// norms give what they would give of the whole stream if they add less: of x/m, eps/m².
    pub(crate) fn stream_eps(&self) -> f32 {
        let multiplier = f64::from(self.multipliers.residual);
        (f64::from(self.rms_norm_eps) / (multiplier * multiplier)) as f32
    }

    /// How many numbers the weights are; a tied matrix counts once.
    #[must_use]
    pub fn num_parameters(&self) -> u64 {
        let tensors = self.needed_tensors();
        let counted = tensors.iter().filter(|tensor| self.is_counted(tensor));
        counted.map(|tensor| tensor.elements() as u64).sum()
    }

    /// Bytes of the weights in memory with matrices in `format`. Norms and biases are kept in f32.
    #[must_use]
    pub fn weight_bytes(&self, format: WeightFormat) -> u64 {
        let formats = FormatOf::layers_in(format);
        let mut elements = [0u64; 3];
        for tensor in self.needed_tensors() {
            let kind = match tensor.name.as_str() {
                EMBEDDING | HEAD | POSITIONS => 0,
                _ if tensor.shape.len() > 1 => 1,
                _ => 2,
            };
            elements[kind] += u64::from(self.is_counted(&tensor)) * tensor.elements() as u64;
        }
        let [vocabulary, layers, vectors] = elements;
        let bytes = |elements: u64, format: WeightFormat| {
            (elements as f64 * format.bits_per_weight() / 8.0) as u64
        };
        bytes(layers, format)
            + bytes(vocabulary, formats.of(EMBEDDING))
            + vectors * size_of::<f32>() as u64
    }

    /// Whether the tensor is there beside others: the output matrix is not where it is the embedding.
    fn is_counted(&self, tensor: &Needed) -> bool {
        tensor.name != HEAD || !self.tie_word_embeddings
    }

    /// How far back each layer reads its cache.
    pub(crate) fn reads(&self) -> Vec<Reads> {
        let layers = self.layers.iter();
        layers.map(|layer| layer.attention.reads).collect()
    }

    /// Which layers share block tables, and where they keep keys and values.
    #[must_use]
    pub fn kv_layout(&self) -> KvLayout {
        KvLayout::cut(&self.reads())
    }

    /// Bytes of keys and values that one token of context occupies: in all layers, and in places of pages that no layer
    /// uses.
    #[must_use]
    pub fn kv_bytes_per_token(&self, format: KvFormat) -> u64 {
        let places = self.kv_layout().blocks_per_context_block();
        places as u64 * self.layer_kv_bytes(format)
    }

    /// The same of a token that lies behind all windows: what each further token of a long context takes. 0 where all
    /// layers have a window.
    #[must_use]
    pub fn kv_bytes_per_distant_token(&self, format: KvFormat) -> u64 {
        let KvLayout { places, groups } = self.kv_layout();
        let full = groups.iter().filter(|group| group.reads == Reads::Full);
        (full.count() * places) as u64 * self.layer_kv_bytes(format)
    }

    /// Bytes of a token's keys and values in one layer.
    fn layer_kv_bytes(&self, format: KvFormat) -> u64 {
        format.bytes_per_token(self.num_kv_heads, self.head_dim) as u64
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
}

/// The sizes of a configuration, checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) hidden_size: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) num_layers: usize,
    pub(crate) num_heads: usize,
    pub(crate) num_kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) vocab_size: usize,
    pub(crate) max_position_embeddings: usize,
}

/// The most layers: each has its own entry in the lists of a configuration.
pub(crate) const MOST_LAYERS: usize = 1 << 16;

impl Sizes {
    fn read(settings: &Settings<'_>, family: &Family) -> Result<Self, ModelError> {
        let keys = &family.defaults.keys;
        let hidden_size = settings.required_size(keys.hidden_size)?;
        let size = |key: &'static str| match settings.size(key)? {
            Some(size) => Ok(size),
            None => match family.defaults.size(key) {
                Some(size) => Ok(size),
                None => settings.required_size(key),
            },
        };
        let num_heads = size(keys.num_heads)?;
        let default_kv_heads = family.defaults.size(KV_HEADS).unwrap_or(num_heads);
        let intermediate_size = match family.defaults.mlp_widths {
            Some(widths) if settings.get(keys.intermediate_size).is_none() => {
                hidden_size.saturating_mul(widths)
            }
            _ => settings.required_size(keys.intermediate_size)?,
        };
        let head_dim = match settings.size("head_dim")?.or(family.defaults.head_dim) {
            Some(head_dim) => head_dim,
            None if hidden_size.is_multiple_of(num_heads) => hidden_size / num_heads,
            None => {
                return Err(ModelError::InvalidSetting {
                    file: FILE.to_owned(),
                    key: keys.num_heads.to_owned(),
                    found: num_heads.to_string(),
                    expected: format!(
                        "a divisor of {} = {hidden_size}, or a head_dim",
                        keys.hidden_size
                    ),
                });
            }
        };
        let sizes = Self {
            hidden_size,
            intermediate_size,
            num_layers: settings.required_size(keys.num_layers)?,
            num_heads,
            num_kv_heads: settings.size(KV_HEADS)?.unwrap_or(default_kv_heads),
            head_dim,
            vocab_size: size("vocab_size")?,
            max_position_embeddings: size(keys.max_position_embeddings)?,
        };
        sizes.check_heads()?;
        sizes.check_sizes()?;
        Ok(sizes)
    }

    /// What RoPE is told, for families whose heads are turned whole.
    pub(crate) fn for_rope(&self) -> RopeContext {
        RopeContext {
            head_dim: self.head_dim,
            max_position_embeddings: self.max_position_embeddings,
            original: self.max_position_embeddings,
            theta: DEFAULT_THETA,
            pairs: RopePairs::Halves,
            has_alpha: false,
            has_dynamic: false,
            turned_part: None,
            has_long_rope: false,
            has_query_growth: false,
        }
    }

    fn check_heads(&self) -> Result<(), ModelError> {
        if !self.num_heads.is_multiple_of(self.num_kv_heads) {
            return Err(ModelError::InvalidSetting {
                file: FILE.to_owned(),
                key: KV_HEADS.to_owned(),
                found: self.num_kv_heads.to_string(),
                expected: format!("a divisor of num_attention_heads = {}", self.num_heads),
            });
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(ModelError::InvalidSetting {
                file: FILE.to_owned(),
                key: "head_dim".to_owned(),
                found: self.head_dim.to_string(),
                expected: "an even number, because heads are turned and stored in pairs; where no setting gives it, it \
                           is the model's width over its heads"
                    .to_owned(),
            });
        }
        Ok(())
    }

    /// Proves that the sums and products of sizes in this crate cannot overflow: ids and positions
    /// fit 32 bits, and ten times all elements of the model in four bytes each fit 63.
    fn check_sizes(&self) -> Result<(), ModelError> {
        let overflow = |what| ModelError::SizeOverflow { what };
        check_size("vocab_size", self.vocab_size)?;
        check_size("max_position_embeddings", self.max_position_embeddings)?;
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
        if self.num_layers > MOST_LAYERS {
            return Err(overflow("num_hidden_layers"));
        }
        Ok(())
    }
}

/// That ids and positions fit 32 bits.
fn check_size(what: &'static str, size: usize) -> Result<(), ModelError> {
    match u32::try_from(size) {
        Ok(_) => Ok(()),
        Err(_) => Err(ModelError::SizeOverflow { what }),
    }
}

/// The longest context: what a configuration says, or what YaRN or a larger base stretches the trained one
/// to where that is longer.
fn longest_context(spec: &ModelSpec, stated: usize) -> usize {
    let stretched = spec.ropes.iter().map(|rope| match &rope.scaling {
        RopeScaling::Yarn(yarn) => {
            (yarn.original_max_position_embeddings as f64 * yarn.factor) as usize
        }
        RopeScaling::Dynamic(dynamic) => dynamic.longest(),
        _ => stated,
    });
    stretched.fold(stated, usize::max)
}

/// The window that all layers have.
fn common_window(layers: &[LayerSpec]) -> Option<usize> {
    let mut windows = layers.iter().map(|layer| layer.attention.reads.window());
    let first = windows.next()??;
    windows.all(|window| window == Some(first)).then_some(first)
}

/// The settings of the text's part of a model.
pub(crate) fn text_settings<'a>(outer: &Settings<'a>) -> Result<Settings<'a>, ModelError> {
    let text = outer.object("text_config", "text_config.")?;
    text.ok_or_else(|| {
        outer.missing(
            "text_config",
            "an object, the settings of the model of text",
        )
    })
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
