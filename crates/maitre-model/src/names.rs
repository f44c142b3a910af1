//! What the tensors of a layer are called in the files.
//!
//! A name here lacks the layer's prefix, `model.layers.N.`, and the kind, `.weight` or `.bias`.

use crate::checkpoint::FileNames;

pub(crate) const EMBEDDING: &str = "model.embed_tokens.weight";
pub(crate) const HEAD: &str = "lm_head.weight";
pub(crate) const FINAL_NORM: &str = "model.norm";
/// Embeddings of positions.
pub(crate) const POSITIONS: &str = "model.embed_positions.weight";

/// The names of one layer's tensors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Names {
    /// Projections of queries, keys and values.
    pub(crate) qkv: Stacked<3>,
    /// The projection of what attention computes.
    pub(crate) output: &'static str,
    /// Projections of the gate and of what it gates; of an MLP without a gate the one there is, as a fused one.
    pub(crate) gate_up: Stacked<2>,
    /// The projection of what was gated.
    pub(crate) down: &'static str,
    /// Norms of queries and keys.
    pub(crate) head_norms: [&'static str; 2],
    /// Norms of the residual stream, or of what is added to it.
    pub(crate) norms: Norms,
    /// What names of safetensors are where they are not these.
    pub(crate) files: FileNames,
}

/// Projections of one input.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stacked<const N: usize> {
    /// A tensor each.
    Apart([&'static str; N]),
    /// Below each other in one tensor.
    Fused(&'static str),
}

/// Where a layer normalises, and by which tensors. It decides on the skeleton.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Norms {
    /// Once, before attention and MLP, which read the same and are added together.
    Parallel(&'static str),
    /// Before attention and before the MLP.
    Before {
        attention: &'static str,
        mlp: &'static str,
    },
    /// What attention and MLP add.
    After {
        attention: &'static str,
        mlp: &'static str,
    },
    /// Both.
    BothSides {
        before_attention: &'static str,
        after_attention: &'static str,
        before_mlp: &'static str,
        after_mlp: &'static str,
    },
}

impl Names {
    /// As Llama has them, and most families after it.
    pub(crate) const LLAMA: Self = Self {
        qkv: Stacked::Apart(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
        output: "self_attn.o_proj",
        gate_up: Stacked::Apart(["mlp.gate_proj", "mlp.up_proj"]),
        down: "mlp.down_proj",
        head_norms: ["self_attn.q_norm", "self_attn.k_norm"],
        norms: Norms::Before {
            attention: "input_layernorm",
            mlp: "post_attention_layernorm",
        },
        files: FileNames::AS_IS,
    };
}

impl Norms {
    /// The norms before attention, after it, before the MLP and after it.
    pub(crate) fn in_order(self) -> [Option<&'static str>; 4] {
        match self {
            Self::Parallel(norm) => [Some(norm), None, None, None],
            Self::Before { attention, mlp } => [Some(attention), None, Some(mlp), None],
            Self::After { attention, mlp } => [None, Some(attention), None, Some(mlp)],
            Self::BothSides {
                before_attention,
                after_attention,
                before_mlp,
                after_mlp,
            } => [before_attention, after_attention, before_mlp, after_mlp].map(Some),
        }
    }
}
