//! Tensors that the model does not need: buffers to ignore, and telltales of checkpoints that this
//! crate does not read.
//!
//! Older versions of training libraries saved what they computed from the configuration (tables of
//! rotary embeddings, causal masks) beside the weights. No other tensor may be left over: a weight
//! that is ignored is ignored mathematics.

/// Whether a tensor holds what the model computes itself, in any layer.
///
/// What vLLM, llama.cpp's converter and transformers leave out for these families, and its kin.
pub(crate) fn is_buffer(name: &str, shape: &[usize]) -> bool {
    const ROTARY: [&str; 5] = [
        "rotary_emb",
        "rotary_embedding",
        "rotary_embeddings",
        "rotary_pos_emb",
        "rope",
    ];
    const COMPUTED: [&str; 11] = [
        "inv_freq",
        "original_inv_freq",
        "cos_cached",
        "sin_cached",
        "cos_cache",
        "sin_cache",
        "cos_sin_cache",
        "freqs_cis",
        "masked_bias",
        "causal_mask",
        "position_ids",
    ];
    let mut parts = name.rsplit('.');
    let (last, parent) = (parts.next().unwrap_or(name), parts.next());
    // A bias belongs to a projection; one of the attention itself is its causal mask, [1, 1, n, n].
    let is_mask = last == "bias"
        && match parent {
            Some("attn" | "attention") => true,
            Some("self_attn") => matches!(shape, [.., rows, cols] if rows == cols),
            _ => false,
        };
    is_mask
        || COMPUTED.contains(&last)
        || last.starts_with("_extra_state")
        || name.split('.').any(|part| ROTARY.contains(&part))
}

/// Whether a tensor belongs to a head beside the model, which changes nothing of what it predicts:
/// a value head of reinforcement learning, layers that predict further tokens.
pub(crate) fn is_beside(name: &str) -> bool {
    ["v_head.", "mtp."]
        .iter()
        .any(|head| name.starts_with(head))
}

/// A kind of checkpoint that is not read.
#[derive(Debug)]
pub(crate) struct ForeignKind {
    /// What the tensors are.
    pub(crate) what: &'static str,
    /// What to do.
    pub(crate) advice: &'static str,
    tells: Tells,
}

/// How a tensor of the kind is recognized by its name.
#[derive(Debug)]
enum Tells {
    Part(&'static [&'static str]),
    End(&'static [&'static str]),
    Start(&'static [&'static str]),
}

const MERGE: &str = "merge the adapter into its base model and give the result";
/// What to do about quantized weights.
pub(crate) const UNQUANTIZED: &str = "quantized checkpoints are not supported: give the unquantized model, which can be quantized to int8 or \
     int4 while it is loaded";
const UNWRAP: &str = "save the model without its wrapper";

/// In the order in which they are looked for: the plainer sign first.
const FOREIGN: &[ForeignKind] = &[
    ForeignKind {
        what: "a LoRA adapter",
        advice: MERGE,
        tells: Tells::Part(&[
            "lora_A",
            "lora_B",
            "lora_embedding_A",
            "lora_embedding_B",
            "lora_magnitude_vector",
            "base_layer",
        ]),
    },
    ForeignKind {
        what: "a model as PEFT wraps it",
        advice: MERGE,
        tells: Tells::Start(&["base_model.model."]),
    },
    ForeignKind {
        what: "weights quantized by GPTQ or AWQ",
        advice: UNQUANTIZED,
        tells: Tells::Part(&["qweight", "qzeros", "g_idx"]),
    },
    ForeignKind {
        what: "weights quantized by bitsandbytes",
        advice: UNQUANTIZED,
        tells: Tells::Part(&["absmax", "nested_absmax", "quant_map", "quant_state", "SCB"]),
    },
    ForeignKind {
        what: "weights in FP8 blocks",
        advice: UNQUANTIZED,
        tells: Tells::Part(&["weight_scale_inv"]),
    },
    ForeignKind {
        what: "weights quantized by compressed-tensors or ModelOpt",
        advice: UNQUANTIZED,
        tells: Tells::Part(&[
            "weight_packed",
            "weight_scale",
            "weight_scale_2",
            "weight_global_scale",
            "weight_shape",
            "weight_zero_point",
            "input_scale",
            "input_global_scale",
            "output_scale",
            "k_scale",
            "v_scale",
        ]),
    },
    ForeignKind {
        what: "weights quantized by torchao",
        advice: UNQUANTIZED,
        tells: Tells::Part(&["_weight_qdata", "_weight_scale"]),
    },
    ForeignKind {
        what: "weights quantized to MXFP4",
        advice: UNQUANTIZED,
        tells: Tells::End(&["_proj_blocks", "_proj_scales"]),
    },
    ForeignKind {
        what: "quantized weights",
        advice: UNQUANTIZED,
        tells: Tells::Part(&["scales", "biases", "zeros"]),
    },
    ForeignKind {
        what: "a mixture of experts",
        advice: "its config.json is not this checkpoint's, or the family is not supported",
        tells: Tells::Part(&[
            "experts",
            "block_sparse_moe",
            "shared_expert",
            "shared_experts",
        ]),
    },
    ForeignKind {
        what: "the names of a compiled model",
        advice: UNWRAP,
        tells: Tells::Part(&["_orig_mod"]),
    },
    ForeignKind {
        what: "the names of a model wrapped for parallel training",
        advice: UNWRAP,
        tells: Tells::Start(&["module.", "_fsdp_wrapped_module.", "pretrained_model."]),
    },
    ForeignKind {
        what: "a model of images or sound beside its language model",
        advice: "only language models are supported: give one of its text-only versions",
        tells: Tells::Start(&[
            "model.language_model.",
            "language_model.",
            "model.visual.",
            "visual.",
            "model.vision_tower.",
            "vision_tower.",
            "vision_model.",
            "multi_modal_projector.",
        ]),
    },
    ForeignKind {
        what: "a classifier or a reward model",
        advice: "only models that generate text are supported",
        tells: Tells::Start(&["score.", "classifier."]),
    },
    ForeignKind {
        what: "a model in its authors' own layout",
        advice: "convert it to the Hugging Face layout, or download that",
        tells: Tells::Start(&["tok_embeddings.", "layers.0.attention."]),
    },
    ForeignKind {
        what: "another family's names",
        advice: "its config.json is not this checkpoint's, or the family is not supported",
        tells: Tells::Start(&["transformer.", "gpt_neox.", "model.decoder.", "backbone."]),
    },
    ForeignKind {
        what: "a model saved without its output layer (names lack `model.`)",
        advice: "load it with transformers' AutoModelForCausalLM and save it again",
        tells: Tells::Start(&["embed_tokens.", "layers.", "norm."]),
    },
];

/// The first kind of checkpoint that a tensor of `names` tells of, with that tensor.
pub(crate) fn foreign_kind<'a>(names: &[&'a str]) -> Option<(&'static ForeignKind, &'a str)> {
    let find = |kind: &ForeignKind| names.iter().copied().find(|name| kind.tells.of(name));
    FOREIGN.iter().find_map(|kind| Some((kind, find(kind)?)))
}

impl Tells {
    fn of(&self, name: &str) -> bool {
        match self {
            Self::Part(parts) => name.split('.').any(|part| parts.contains(&part)),
            Self::End(ends) => ends.iter().any(|end| name.ends_with(end)),
            Self::Start(starts) => starts.iter().any(|start| name.starts_with(start)),
        }
    }
}
