//! A model's weight files: one `model.safetensors`, or the shards its index names.
//!
//! Files are mapped, never read as a whole. The checkpoint remembers which tensors were taken, so
//! that one with more weights than its configuration admits to is refused rather than half used.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use maitre_tensor::{DType, RawTensor, TensorFile};
use serde::Deserialize;

use crate::error::ModelError;
use crate::source::ModelSource;

const SINGLE_FILE: &str = "model.safetensors";
const INDEX_FILE: &str = "model.safetensors.index.json";

/// The parts of the index that are needed; `metadata` is not.
#[derive(Debug, Deserialize)]
struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

/// Named tensors in one or several mapped files.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    files: Vec<TensorFile>,
    taken: RefCell<BTreeSet<String>>,
}

impl Checkpoint {
    /// Opens the single file if there is one, else every shard of the index.
    pub(crate) fn open(source: &ModelSource) -> Result<Self, ModelError> {
        let names = match source.read(INDEX_FILE)? {
            Some(json) if !source.has(SINGLE_FILE)? => shard_names(&json)?,
            _ => vec![SINGLE_FILE.to_owned()],
        };
        for name in &names {
            if !source.has(name)? {
                return Err(ModelError::MissingFile {
                    model: source.to_string(),
                    file: name.clone(),
                    expected: if name == SINGLE_FILE {
                        "expected model.safetensors, or model.safetensors.index.json and its shards"
                    } else {
                        "model.safetensors.index.json lists it as a shard; download it again"
                    },
                });
            }
        }
        Ok(Self {
            files: source.open_tensors(&names)?,
            taken: RefCell::default(),
        })
    }

    /// Whether some file holds a tensor of this name.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.file_with(name).is_some()
    }

    /// The type of the tensor `name`, if it is there.
    pub(crate) fn dtype_of(&self, name: &str) -> Option<DType> {
        let tensor = self.file_with(name)?.get(name).ok()?;
        Some(tensor.dtype)
    }

    /// The tensor `name`, which must have exactly the shape `expected`.
    pub(crate) fn take(&self, name: &str, expected: &[usize]) -> Result<RawTensor<'_>, ModelError> {
        let Some(file) = self.file_with(name) else {
            return Err(ModelError::MissingTensor {
                name: name.to_owned(),
                expected: expected.to_vec(),
            });
        };
        let tensor = file
            .get(name)
            .map_err(|source| ModelError::WeightFiles { source })?;
        if tensor.shape != expected {
            return Err(ModelError::TensorShape {
                name: name.to_owned(),
                expected: expected.to_vec(),
                found: tensor.shape,
            });
        }
        self.taken.borrow_mut().insert(name.to_owned());
        Ok(tensor)
    }

    /// Gives back the memory of a tensor that has been packed.
    pub(crate) fn release(&self, name: &str) {
        if let Some(file) = self.file_with(name) {
            file.release(name);
        }
    }

    fn file_with(&self, name: &str) -> Option<&TensorFile> {
        self.files.iter().find(|file| file.contains(name))
    }

    /// Refuses a checkpoint whose layers hold tensors that nobody took: a bias or a norm that the
    /// configuration does not announce. Buffers that older versions saved are no weights.
    pub(crate) fn refuse_leftovers(&self, num_layers: usize) -> Result<(), ModelError> {
        let taken = self.taken.borrow();
        let layers: BTreeSet<String> = (0..num_layers).map(|layer| layer.to_string()).collect();
        let mut leftovers: Vec<String> = self
            .files
            .iter()
            .flat_map(TensorFile::names)
            .filter(|name| {
                let layer = name
                    .strip_prefix("model.layers.")
                    .and_then(|rest| rest.split('.').next());
                layer.is_some_and(|layer| layers.contains(layer))
                    && !name.ends_with("rotary_emb.inv_freq")
                    && !taken.contains(name)
            })
            .collect();
        leftovers.sort_unstable();
        match leftovers.first() {
            None => Ok(()),
            Some(first) => Err(ModelError::UnexpectedTensors {
                count: leftovers.len(),
                first: first.clone(),
            }),
        }
    }
}

/// The distinct files an index names. A name that leads out of the directory is refused.
fn shard_names(json: &[u8]) -> Result<Vec<String>, ModelError> {
    let index: ShardIndex = serde_json::from_slice(json).map_err(|source| ModelError::Json {
        file: INDEX_FILE.to_owned(),
        source,
    })?;
    let names: BTreeSet<String> = index.weight_map.into_values().collect();
    if names.is_empty() {
        return Err(ModelError::ShardIndex {
            file: INDEX_FILE,
            problem: "`weight_map` is empty; expected tensor names with their files".to_owned(),
        });
    }
    for name in &names {
        if name.contains(['/', '\\']) || !name.ends_with(".safetensors") {
            return Err(ModelError::ShardIndex {
                file: INDEX_FILE,
                problem: format!("shard {name:?} is not a .safetensors file beside the index"),
            });
        }
    }
    Ok(names.into_iter().collect())
}
