//! What a model's weight files hold, by use and format: for people, before anything is loaded.

use std::collections::BTreeMap;

use maitre_tensor::TensorError;

use crate::checkpoint;
use crate::error::ModelError;
use crate::names::HEAD;
use crate::source::ModelSource;

/// What tensors are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TensorUse {
    /// The embedding.
    Embedding,
    /// Matrices of attention.
    Attention,
    /// Matrices of MLPs.
    Mlp,
    /// The output matrix, where it is not the embedding.
    Output,
    /// Norms, biases and other vectors.
    Vectors,
    /// All others.
    Other,
    /// What turns images into tokens, and is not loaded.
    Images,
}

/// Tensors of one use in one format.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredTensors {
    /// What they are for, by their names.
    pub used_for: TensorUse,
    /// How the file names their format.
    pub format: String,
    /// Whether it can be read.
    pub is_supported: bool,
    /// How many there are.
    pub count: usize,
    /// Bytes that they take in the files.
    pub bytes: u64,
    /// Bytes that they take in memory if they are kept as they are stored: vectors are widened to f32, and stored blocks
    /// lie in the order in which they are computed with.
    pub bytes_in_memory: u64,
}

/// One tensor: its name in the file, its dimensions and how many numbers it has, its format and whether that is read, its
/// bytes, and how many bits a number takes in memory if it is kept so.
pub(crate) struct StoredTensor {
    pub(crate) name: String,
    pub(crate) dimensions: usize,
    pub(crate) elements: usize,
    pub(crate) format: String,
    pub(crate) is_supported: bool,
    pub(crate) bytes: u64,
    pub(crate) bits_in_memory: f64,
}

impl StoredTensor {
    fn bytes_in_memory(&self) -> u64 {
        let bits = match self.dimensions {
            0 | 1 => 32.0,
            _ => self.bits_in_memory,
        };
        (self.elements as f64 * bits / 8.0).ceil() as u64
    }
}

impl TensorUse {
    /// By the name that a tensor has on the Hub or in a GGUF file.
    fn of(tensor: &StoredTensor) -> Self {
        const ATTENTION: [&str; 3] = [".self_attn.", ".attn_", ".attn."];
        const MLP: [&str; 2] = [".mlp.", ".ffn_"];
        const EMBEDDINGS: [&str; 4] = [
            "embed_tokens.weight",
            "wte.weight",
            "wpe.weight",
            "position_embd.weight",
        ];
        const IMAGES: [&str; 2] = ["vision_tower.", "multi_modal_projector."];
        let has = |parts: &[&str]| parts.iter().any(|part| tensor.name.contains(part));
        let is_of_images = |name: &str| {
            let name = name.strip_prefix("model.").unwrap_or(name);
            IMAGES.iter().any(|part| name.starts_with(part))
        };
        let ends = |end: &str| tensor.name.ends_with(end);
        match tensor.name.as_str() {
            name if is_of_images(name) => Self::Images,
            _ if tensor.dimensions < 2 => Self::Vectors,
            "token_embd.weight" => Self::Embedding,
            _ if EMBEDDINGS.iter().any(|end| ends(end)) => Self::Embedding,
            "output.weight" => Self::Output,
            _ if ends(HEAD) => Self::Output,
            _ if has(&ATTENTION) => Self::Attention,
            _ if has(&MLP) => Self::Mlp,
            _ => Self::Other,
        }
    }

    /// A word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Embedding => "embedding",
            Self::Attention => "attention",
            Self::Mlp => "MLP",
            Self::Output => "output",
            Self::Vectors => "norms, biases",
            Self::Other => "other",
            Self::Images => "images",
        }
    }
}

impl ModelSource {
    /// What the weight files hold, by use, then by format; nothing of a model that has none. Whether the model is
    /// supported does not matter.
    ///
    /// # Errors
    /// Files that can't be read.
    pub fn stored_tensors(&self) -> Result<Vec<StoredTensors>, ModelError> {
        let tensors = checkpoint::stored_tensors(self)?;
        let mut groups: BTreeMap<(TensorUse, String), StoredTensors> = BTreeMap::new();
        for tensor in tensors {
            let used_for = TensorUse::of(&tensor);
            let group = groups
                .entry((used_for, tensor.format.clone()))
                .or_insert_with(|| StoredTensors {
                    used_for,
                    format: tensor.format.clone(),
                    is_supported: tensor.is_supported,
                    count: 0,
                    bytes: 0,
                    bytes_in_memory: 0,
                });
            group.count += 1;
            group.bytes += tensor.bytes;
            group.bytes_in_memory += match used_for {
                TensorUse::Images => 0,
                _ => tensor.bytes_in_memory(),
            };
        }
        Ok(groups.into_values().collect())
    }
}

/// Bytes of a tensor of safetensors whose format is not read.
pub(crate) fn bytes_of_unread(error: &TensorError, elements: usize) -> Option<(String, u64)> {
    let TensorError::UnsupportedDType { dtype, .. } = error else {
        return None;
    };
    let digits = dtype.trim_start_matches(char::is_alphabetic);
    let end = digits.find(|sign: char| !sign.is_ascii_digit());
    let bits = digits.get(..end.unwrap_or(digits.len()));
    // Booleans have no width in their name, and take a byte.
    let bits: u64 = bits.and_then(|bits| bits.parse().ok()).unwrap_or(8);
    Some((dtype.clone(), (elements as u64).saturating_mul(bits) / 8))
}
