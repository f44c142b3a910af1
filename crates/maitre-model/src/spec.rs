//! What a family makes of a configuration: the mathematics of each layer, apart from sizes and weights.
//!
//! Families differ in a few choices per layer: how far attention looks back, which positions turn which heads, what is
//! normalised, how the MLP's gate opens. A [`LayerSpec`] states these choices; the blocks in `layers/` carry them out.

use maitre_tensor::Activation;

use crate::kv_layout::Reads;
use crate::rope::RopeConfig;

/// One layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerSpec {
    /// Its attention.
    pub attention: AttentionSpec,
    /// Its MLP.
    pub mlp: MlpSpec,
}

/// Attention with grouped queries (Ainslie et al. 2023, arXiv 2305.13245).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionSpec {
    /// How far back a token looks.
    pub reads: Reads,
    /// Which of [`ModelConfig::ropes`](crate::ModelConfig::ropes) turns queries and keys; `None` if they are not turned
    /// and know of positions by what attention may look at alone (Kazemnejad et al. 2023, arXiv 2305.19466).
    pub rope: Option<usize>,
    /// What is normalised of queries and keys.
    pub head_norm: HeadNorm,
    /// Factor of each score.
    pub scale: f32,
    /// Bound of each score after that, by tanh.
    pub score_bound: Option<f32>,
    /// Whether the projections of queries, keys and values add a bias.
    pub qkv_bias: bool,
    /// Whether the projection of the result adds one.
    pub output_bias: bool,
}

/// An RMSNorm of queries and keys, before they are turned unless it says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeadNorm {
    /// None.
    Absent,
    /// Each head by itself, all with one weight, `[head_dim]`.
    PerHead,
    /// Each head by itself after it was turned, all with one weight, `[head_dim]`.
    PerHeadTurned,
    /// All heads of a token as one vector, with weights `[heads * head_dim]` and `[kv_heads * head_dim]`.
    WholeRow,
}

/// `down(activation(gate) * up)`, or without a gate `down(activation(up))`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MlpSpec {
    /// Whether there is a gate.
    pub gated: bool,
    /// How the gate opens, or what stands between the projections.
    pub activation: Activation,
    /// Whether the projections add a bias.
    pub bias: bool,
}

/// How the residual stream is normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NormKind {
    /// By its root mean square.
    Rms,
    /// By mean and variance (LayerNorm).
    Layer {
        /// Whether something is added to each number afterwards.
        bias: bool,
    },
}

/// Constants that embeddings, what layers add, and logits are multiplied by; that of scores is [`AttentionSpec::scale`].
///
/// All are part of weights or of other constants once a model is loaded: a step does not multiply by them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Multipliers {
    /// Of embeddings.
    pub embedding: EmbeddingScale,
    /// Of what attention and MLP add to the residual stream, above 0.
    pub residual: f32,
    /// Of logits.
    pub logits: f32,
}

/// What embeddings are multiplied by.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum EmbeddingScale {
    /// A constant.
    By(f32),
    /// The root of their width, rounded to the type in which they are stored.
    RootOfWidth,
}

impl Multipliers {
    /// Those that change nothing.
    pub const ONE: Self = Self {
        embedding: EmbeddingScale::By(1.0),
        residual: 1.0,
        logits: 1.0,
    };
}

/// All that a family reads from its configuration beyond the sizes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ModelSpec {
    pub(crate) layers: Vec<LayerSpec>,
    pub(crate) ropes: Vec<RopeConfig>,
    pub(crate) multipliers: Multipliers,
    /// What norms add to the weights in the files.
    pub(crate) norm_offset: f32,
    /// Bound of each logit, by tanh.
    pub(crate) logit_bound: Option<f32>,
    /// How the residual stream is normalised.
    pub(crate) norm: NormKind,
    /// Whether each position has an embedding that is added to its token's.
    pub(crate) learned_positions: bool,
}

impl ModelSpec {
    /// Equal layers; embeddings and norms as most families have them.
    pub(crate) fn uniform(num_layers: usize, layer: LayerSpec, rope: RopeConfig) -> Self {
        Self {
            layers: vec![layer; num_layers],
            ..Self::without_layers(rope)
        }
    }

    /// What is left of them where layers differ.
    pub(crate) fn without_layers(rope: RopeConfig) -> Self {
        Self {
            ropes: vec![rope],
            ..Self::without_rope()
        }
    }

    /// What is left of that where no layer turns its heads.
    pub(crate) fn without_rope() -> Self {
        Self {
            layers: Vec::new(),
            ropes: Vec::new(),
            multipliers: Multipliers::ONE,
            norm_offset: 0.0,
            logit_bound: None,
            norm: NormKind::Rms,
            learned_positions: false,
        }
    }
}

impl AttentionSpec {
    /// Over the whole context, without biases or norms, with scores over the root of the head's width.
    pub(crate) fn plain(head_dim: usize) -> Self {
        Self {
            reads: Reads::Full,
            rope: Some(0),
            head_norm: HeadNorm::Absent,
            scale: 1.0 / (head_dim as f32).sqrt(),
            score_bound: None,
            qkv_bias: false,
            output_bias: false,
        }
    }
}

impl MlpSpec {
    /// With SiLU, without biases.
    pub(crate) const PLAIN: Self = Self {
        gated: true,
        activation: Activation::Silu,
        bias: false,
    };
}
