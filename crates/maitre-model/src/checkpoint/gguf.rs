//! The tensors of a GGUF file under the names that they have on the Hub, in the order that they have there.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::slice;

use maitre_gguf::{TensorEntry, TensorKind};
use maitre_tensor::{BlockFormat, DType, WeightFormat};

use super::{Blocks, Checkpoint, Dense, Stored};
use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::gguf::{GgufFile, Held, NamesInFile};
use crate::names::{EMBEDDING, HEAD};
use crate::pairs::Neighbours;
use crate::stored::StoredTensor;

/// A GGUF file's tensors.
#[derive(Debug)]
pub(crate) struct GgufCheckpoint {
    file: GgufFile,
    /// Entries by their names on the Hub.
    entries: BTreeMap<String, Held>,
    names: NamesInFile,
    neighbours: Option<Neighbours>,
}

impl GgufCheckpoint {
    /// Finds what `config`, which was read from the file, needs.
    ///
    /// # Errors
    /// A tensor that is missing, of another shape, in a format that is not read, or left over: each by its name in the
    /// file.
    pub(crate) fn new(file: GgufFile, config: &ModelConfig) -> Result<Self, ModelError> {
        let head_dim = config.head_dim;
        let neighbours = file.interleaves_heads()?.then_some(Neighbours {
            head_dim,
            turned: head_dim,
        });
        let needed = config.needed_tensors();
        let names = file.names(config)?;
        let by_name = file.weights(config)?;
        let mut left: BTreeSet<&str> = by_name.keys().map(String::as_str).collect();
        let mut entries = BTreeMap::new();
        for tensor in &needed {
            let name = names.in_file(&tensor.name);
            let Some(held) = by_name.get(name.as_str()) else {
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
            let entry = &held.entry;
            if entry.shape != tensor.shape {
                return Err(ModelError::TensorShape {
                    name,
                    file: file.path_of(held),
                    expected: tensor.shape.clone(),
                    found: entry.shape.clone(),
                    settings: tensor.settings.as_str().into(),
                });
            }
            numbers(entry)?;
            left.remove(name.as_str());
            entries.insert(tensor.name.clone(), held.clone());
        }
        if let Some(name) = left.first() {
            let what = format!("the tensor {name}, for which its family has no use");
            return Err(file.unsupported(&what));
        }
        Ok(Self {
            file,
            entries,
            names,
            neighbours,
        })
    }

    /// The format that stands for that of all matrices: of blocks the one that has the most numbers, else the
    /// embedding's.
    pub(crate) fn format(&self) -> Option<WeightFormat> {
        let mut blocks: Vec<(BlockFormat, usize)> = Vec::new();
        for held in self.entries.values() {
            let entry = &held.entry;
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
        match numbers(&self.entries.get(EMBEDDING)?.entry).ok()? {
            Numbers::Dense(dtype) => Some(dtype.into()),
            Numbers::Blocks(format) => Some(WeightFormat::Blocks(format)),
        }
    }

    fn pairs_of(&self, name: &str) -> Option<Neighbours> {
        let is_turned = name.contains(".q_proj.") || name.contains(".k_proj.");
        self.neighbours.filter(|_| is_turned)
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

/// Every tensor of a file.
pub(super) fn stored_tensors(file: &GgufFile) -> Vec<StoredTensor> {
    let tensors = file.tensors().map(|(_, entry)| {
        let elements = entry.len();
        let bytes = entry.place.len() as u64;
        let kept = match numbers(entry) {
            Ok(Numbers::Dense(dtype)) => Some(dtype.into()),
            Ok(Numbers::Blocks(format)) => Some(WeightFormat::Blocks(format)),
            Err(_) => None,
        };
        StoredTensor {
            name: entry.name.clone(),
            dimensions: entry.shape.len(),
            elements,
            format: entry.kind.to_string(),
            is_supported: kept.is_some(),
            bytes,
            bits_in_memory: match kept {
                Some(format) => format.bits_per_weight(),
                None => 8.0 * bytes as f64 / elements.max(1) as f64,
            },
        }
    });
    tensors.collect()
}

impl Checkpoint for GgufCheckpoint {
    fn tensor(&self, name: &str) -> Result<Stored<'_>, ModelError> {
        let held = self
            .entries
            .get(name)
            .ok_or_else(|| ModelError::MissingTensor {
                name: self.names.in_file(name),
                expected: Vec::new(),
                hint: "the file is not complete".to_owned(),
            })?;
        let (entry, bytes) = (&held.entry, self.file.bytes_of(held));
        let bytes = Cow::Borrowed(bytes);
        let shape = entry.shape.clone();
        let stored = match numbers(entry)? {
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
        };
        let all = 0..entry.shape.first().copied().unwrap_or(1);
        Ok(match self.pairs_of(name) {
            None => stored,
            Some(neighbours) => neighbours.of_rows(stored, slice::from_ref(&all)),
        })
    }

    fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    fn format_of(&self, name: &str) -> Option<WeightFormat> {
        Some(match numbers(&self.entries.get(name)?.entry).ok()? {
            Numbers::Dense(dtype) => dtype.into(),
            Numbers::Blocks(format) => WeightFormat::Blocks(format),
        })
    }

    fn bytes_of(&self, name: &str) -> usize {
        self.entries
            .get(name)
            .map_or(0, |held| held.entry.place.len())
    }

    fn release(&self, name: &str) {
        if let Some(held) = self.entries.get(name) {
            self.file.release(held);
        }
    }
}
