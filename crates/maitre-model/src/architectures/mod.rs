//! The model families, one file each: from a configuration to what its layers do.
//!
//! A family's file states what sets it apart: the names of its tensors, what absent settings mean, and a
//! [`ModelSpec`](crate::spec::ModelSpec) made of its settings. [`crate::layers`] has the blocks that these
//! describe, [`crate::registry`] the table of all families.

pub(crate) mod cohere2;
pub(crate) mod exaone4;
pub(crate) mod gemma;
pub(crate) mod gemma2;
pub(crate) mod gemma3;
pub(crate) mod glm;
pub(crate) mod gpt2;
pub(crate) mod granite;
pub(crate) mod hunyuan;
pub(crate) mod llama;
pub(crate) mod ministral;
pub(crate) mod ministral3;
pub(crate) mod mistral;
pub(crate) mod mistral3;
pub(crate) mod olmo2;
pub(crate) mod olmo3;
pub(crate) mod phi3;
pub(crate) mod qwen2;
pub(crate) mod qwen3;
pub(crate) mod seed_oss;
pub(crate) mod smollm3;
pub(crate) mod starcoder2;
