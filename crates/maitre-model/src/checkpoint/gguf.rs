//! The tensors of a GGUF file under the names that they have on the Hub, in the order that they have there.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use maitre_gguf::{TensorEntry, TensorKind};
use maitre_tensor::{BlockFormat, DType, WeightFormat};

use super::{Blocks, Checkpoint, Dense, Stored};
use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::gguf::GgufFile;
use crate::names::{EMBEDDING, FINAL_NORM, HEAD};

/// Names of a layer's modules here and there.
const MODULES: [(&str, &str); 11] = [
    ("attn_norm", "input_layernorm"),
    ("ffn_norm", "post_attention_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// Rows of a tensor that lie in pairs of neighbours, by head.
#[derive(Debug, Clone, Copy)]
struct Interleaved {
    head_dim: usize,
}

/// A GGUF file's tensors.
#[derive(Debug)]
pub(crate) struct GgufCheckpoint {
    file: GgufFile,
    /// Entries by their names on the Hub.
    entries: BTreeMap<String, TensorEntry>,
    interleaved: Option<Interleaved>,
}

impl GgufCheckpoint {
    /// Finds what `config`, which was read from the file, needs.
    ///
    /// # Errors
    /// A tensor that is missing, of another shape, in a format that is not read, or left over: each by its name in the
    /// file.
    pub(crate) fn new(file: GgufFile, config: &ModelConfig) -> Result<Self, ModelError> {
        let head_dim = config.head_dim;
        let interleaved = file
            .interleaves_heads()?
            .then_some(Interleaved { head_dim });
        let needed = config.needed_tensors();
        let by_name: BTreeMap<&str, &TensorEntry> = file
            .index()
            .tensors()
            .iter()
            .map(|entry| (entry.name.as_str(), entry))
            .collect();
        let mut left: BTreeSet<&str> = by_name.keys().copied().collect();
        let mut entries = BTreeMap::new();
        for tensor in &needed {
            let name = name_in_file(&tensor.name);
            let Some(entry) = by_name.get(name.as_str()) else {
                if tensor.name == HEAD && config.tie_word_embeddings {
                    continue;
                }
                return Err(ModelError::MissingTensor {
                    name,
                    expected: tensor.shape.clone(),
                    hint: "the file is not complete, or its settings are another model's"
                        .to_owned(),
                });
            };
            if entry.shape != tensor.shape {
                return Err(ModelError::TensorShape {
                    name,
                    file: file.file().path().display().to_string(),
                    expected: tensor.shape.clone(),
                    found: entry.shape.clone(),
                    settings: tensor.settings.as_str().into(),
                });
            }
            numbers(entry)?;
            left.remove(name.as_str());
            entries.insert(tensor.name.clone(), (*entry).clone());
        }
        if let Some(name) = left.first() {
            let what = format!("the tensor {name}, for which its family has no use");
            return Err(file.unsupported(&what));
        }
        Ok(Self {
            file,
            entries,
            interleaved,
        })
    }

    /// The format that stands for that of all matrices: of blocks the one that has the most numbers, else the
    /// embedding's.
    pub(crate) fn format(&self) -> Option<WeightFormat> {
        let mut blocks: Vec<(BlockFormat, usize)> = Vec::new();
        for entry in self.entries.values() {
            if let Ok(Numbers::Blocks(format)) = numbers(entry) {
                match blocks.iter_mut().find(|(known, _)| *known == format) {
                    Some((_, count)) => *count += entry.len(),
                    None => blocks.push((format, entry.len())),
                }
            }
        }
        if let Some((format, _)) = blocks.into_iter().max_by_key(|(_, count)| *count) {
            return Some(WeightFormat::Blocks(format));
        }
        match numbers(self.entries.get(EMBEDDING)?).ok()? {
            Numbers::Dense(dtype) => Some(dtype.into()),
            Numbers::Blocks(format) => Some(WeightFormat::Blocks(format)),
        }
    }

    fn rows_are_interleaved(&self, name: &str) -> Option<Interleaved> {
        let is_turned = name.contains(".q_proj.") || name.contains(".k_proj.");
        self.interleaved.filter(|_| is_turned)
    }
}

/// How an entry's numbers are kept.
enum Numbers {
    Dense(DType),
    Blocks(BlockFormat),
}

fn numbers(entry: &TensorEntry) -> Result<Numbers, ModelError> {
    let blocks = |format| Ok(Numbers::Blocks(format));
    match entry.kind {
        TensorKind::F32 => Ok(Numbers::Dense(DType::F32)),
        TensorKind::F16 => Ok(Numbers::Dense(DType::F16)),
        TensorKind::Bf16 => Ok(Numbers::Dense(DType::Bf16)),
        TensorKind::Q4_0 => blocks(BlockFormat::Q4_0),
        TensorKind::Q4_1 => blocks(BlockFormat::Q4_1),
        TensorKind::Q5_0 => blocks(BlockFormat::Q5_0),
        TensorKind::Q5_1 => blocks(BlockFormat::Q5_1),
        TensorKind::Q8_0 => blocks(BlockFormat::Q8_0),
        TensorKind::Q2K => blocks(BlockFormat::Q2K),
        TensorKind::Q3K => blocks(BlockFormat::Q3K),
        TensorKind::Q4K => blocks(BlockFormat::Q4K),
        TensorKind::Q5K => blocks(BlockFormat::Q5K),
        TensorKind::Q6K => blocks(BlockFormat::Q6K),
        TensorKind::Iq4Nl => blocks(BlockFormat::Iq4Nl),
        TensorKind::Iq4Xs => blocks(BlockFormat::Iq4Xs),
        TensorKind::Mxfp4 => blocks(BlockFormat::Mxfp4),
        other => Err(ModelError::UnusableFile {
            file: format!("the tensor {}", entry.name),
            problem: format!("is in the format {other}, which is not supported"),
        }),
    }
}

/// The name of a tensor in a GGUF file.
fn name_in_file(name: &str) -> String {
    match name {
        EMBEDDING => return "token_embd.weight".to_owned(),
        HEAD => return "output.weight".to_owned(),
        FINAL_NORM => return "output_norm.weight".to_owned(),
        _ => {}
    }
    let parts = name.strip_prefix("model.layers.").and_then(|rest| {
        let (layer, rest) = rest.split_once('.')?;
        let (module, kind) = rest.rsplit_once('.')?;
        let (here, _) = MODULES.iter().find(|(_, there)| *there == module)?;
        Some(format!("blk.{layer}.{here}.{kind}"))
    });
    parts.unwrap_or_else(|| name.to_owned())
}

/// Rows in the order of halves: those of a head lie as pairs of an element of its first half and one of its second.
fn in_halves(bytes: &[u8], row: usize, head_dim: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for head in bytes.chunks_exact(row * head_dim) {
        for half in 0..2 {
            for pair in head.chunks_exact(2 * row) {
                out.extend_from_slice(&pair[half * row..][..row]);
            }
        }
    }
    out
}

impl Checkpoint for GgufCheckpoint {
    fn tensor(&self, name: &str) -> Result<Stored<'_>, ModelError> {
        let entry = self
            .entries
            .get(name)
            .ok_or_else(|| ModelError::MissingTensor {
                name: name_in_file(name),
                expected: Vec::new(),
                hint: "the file is not complete".to_owned(),
            })?;
        let bytes = self
            .file
            .bytes()
            .get(entry.place.clone())
            .unwrap_or_default();
        // A row is whole blocks, so that rows change places as they are stored.
        let bytes = match self.rows_are_interleaved(name) {
            None => Cow::Borrowed(bytes),
            Some(Interleaved { head_dim }) => {
                let rows = entry.shape.first().copied().unwrap_or(1).max(1);
                Cow::Owned(in_halves(bytes, bytes.len() / rows, head_dim))
            }
        };
        let shape = entry.shape.clone();
        Ok(match numbers(entry)? {
            Numbers::Dense(dtype) => Stored::Dense(Dense {
                dtype,
                shape,
                bytes,
            }),
            Numbers::Blocks(format) => Stored::Blocks(Blocks {
                format,
                shape,
                bytes,
            }),
        })
    }

    fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    fn bytes_of(&self, name: &str) -> usize {
        self.entries.get(name).map_or(0, |entry| entry.place.len())
    }

    fn release(&self, name: &str) {
        if let Some(entry) = self.entries.get(name) {
            self.file.file().release(entry.place.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_rows_become_halves() {
        // Two heads of four rows of two bytes, in pairs: elements 0 2, 1 3 of each head.
        let bytes = [0, 0, 2, 2, 1, 1, 3, 3, 4, 4, 6, 6, 5, 5, 7, 7];
        let rows: Vec<u8> = (0..8).flat_map(|row| [row; 2]).collect();
        assert_eq!(in_halves(&bytes, 2, 4), rows);
    }

    #[test]
    fn names_are_translated() {
        for (there, here) in [
            (EMBEDDING, "token_embd.weight"),
            (
                "model.layers.12.self_attn.q_proj.bias",
                "blk.12.attn_q.bias",
            ),
            (
                "model.layers.0.mlp.down_proj.weight",
                "blk.0.ffn_down.weight",
            ),
            ("model.layers.3.other.weight", "model.layers.3.other.weight"),
        ] {
            assert_eq!(name_in_file(there), here);
        }
    }
}
