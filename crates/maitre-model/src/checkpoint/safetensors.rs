//! A model's weight files: one `model.safetensors`, or the shards its index names.
//!
//! Files are mapped, never read as a whole. Before any weight is read the checkpoint is checked
//! against what the configuration needs: nothing may be missing, of another shape or left over, so
//! that a file with more weights than its configuration admits to is refused rather than half used.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use maitre_tensor::{DType, RawTensor, TensorError, TensorFile, WeightFormat};

use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::inventory::Needed;
use crate::names::{EMBEDDING, HEAD};
use crate::source::ModelSource;
use crate::stored::{StoredTensor, bytes_of_unread};

use super::leftovers::{UNQUANTIZED, foreign_kind, is_beside, is_buffer};
use super::shard_index::{INDEX_FILE, SINGLE_FILE, ShardIndex, weight_files};
use super::{Checkpoint, Dense, FileNames, Stored};

/// Named tensors in one or several mapped files.
#[derive(Debug)]
pub(crate) struct SafetensorsCheckpoint {
    /// Each with its name.
    files: Vec<(String, TensorFile)>,
    /// Where the tensor of this name is.
    place_of: BTreeMap<String, Place>,
    names: FileNames,
    /// The names of tensors that are not loaded.
    beside: Vec<String>,
    index: Option<ShardIndex>,
}

/// A tensor in a file.
#[derive(Debug)]
struct Place {
    /// Which of the files.
    file: usize,
    /// What it is called there.
    name: String,
}

impl SafetensorsCheckpoint {
    /// Whether a model has weight files.
    pub(crate) fn is_there(source: &ModelSource) -> Result<bool, ModelError> {
        Ok(source.has(INDEX_FILE)? || source.has(SINGLE_FILE)?)
    }

    /// Opens every shard of the index if there is one, else the single file. Tensors in them are called as `names` says.
    pub(crate) fn open(source: &ModelSource, names: FileNames) -> Result<Self, ModelError> {
        let (files, index) = weight_files(source)?;
        let mut checkpoint = Self {
            files: Vec::with_capacity(files.len()),
            place_of: BTreeMap::new(),
            names,
            beside: Vec::new(),
            index,
        };
        for name in files {
            let tensors = source.open_tensors(&name)?;
            checkpoint.add(name, tensors)?;
        }
        Ok(checkpoint)
    }

    fn add(&mut self, file: String, tensors: TensorFile) -> Result<(), ModelError> {
        for name in tensors.names() {
            if self.names.is_beside(&name) {
                self.beside.push(name);
                continue;
            }
            let here = self.names.name_of(&name);
            let place = Place {
                file: self.files.len(),
                name: name.clone(),
            };
            if let Some(first) = self.place_of.insert(here, place) {
                let first = self.files.get(first.file).map_or(&file, |it| &it.0);
                return Err(ModelError::DuplicateTensor {
                    name,
                    first: first.clone(),
                    second: file,
                });
            }
        }
        self.files.push((file, tensors));
        Ok(())
    }

    /// Every tensor of the files.
    pub(crate) fn stored_tensors(&self) -> Vec<StoredTensor> {
        let of = |(name, place): (&String, &Place)| {
            let tensors = &self.files.get(place.file)?.1;
            let shape = tensors.shape(name)?;
            let elements: usize = shape.iter().product();
            let (format, is_supported, bytes) = match tensors.get(name) {
                Ok(tensor) => {
                    let format = format!("{:?}", tensor.dtype).to_uppercase();
                    (format, true, tensor.bytes.len() as u64)
                }
                Err(error) => {
                    let (format, bytes) = bytes_of_unread(&error, elements)?;
                    (format, false, bytes)
                }
            };
            Some(StoredTensor {
                name: name.clone(),
                dimensions: shape.len(),
                elements,
                format,
                is_supported,
                bytes,
                bits_in_memory: 8.0 * bytes as f64 / elements.max(1) as f64,
            })
        };
        self.place_of.iter().filter_map(of).collect()
    }

    /// Refuses a checkpoint that is not the configuration's.
    ///
    /// # Errors
    /// A tensor that is missing, of another shape or dtype, or left over, by name; or what kind of
    /// checkpoint this is instead.
    pub(crate) fn check(&self, config: &ModelConfig) -> Result<(), ModelError> {
        self.refuse_foreign()?;
        let needed = config.needed_tensors();
        for tensor in needed.iter().filter(|tensor| self.is_read(tensor, config)) {
            self.check_tensor(tensor, config)?;
        }
        self.refuse_leftovers(&needed, config.num_layers)
    }

    /// Whether the tensor is read: of a tied pair of matrices the one that is there, or both.
    fn is_read(&self, tensor: &Needed, config: &ModelConfig) -> bool {
        !config.tie_word_embeddings
            || match tensor.name.as_str() {
                HEAD => self.contains(HEAD),
                EMBEDDING => self.contains(EMBEDDING) || !self.contains(HEAD),
                _ => true,
            }
    }

    fn check_tensor(&self, needed: &Needed, config: &ModelConfig) -> Result<(), ModelError> {
        let Some(found) = self.find(&needed.name)? else {
            return Err(ModelError::MissingTensor {
                name: self.name_in_file(&needed.name),
                expected: needed.shape.clone(),
                hint: self.why_missing(&needed.name, config),
            });
        };
        let mut expected = needed.shape.clone();
        if self.names.is_transposed(&needed.name) {
            expected.reverse();
        }
        if found.shape != expected {
            return Err(ModelError::TensorShape {
                name: self.name_in_file(&needed.name),
                file: self.file_name(&needed.name),
                expected,
                found: found.shape,
                settings: config.own_names(&needed.settings).into(),
            });
        }
        Ok(())
    }

    /// What a missing tensor may come from.
    fn why_missing(&self, name: &str, config: &ModelConfig) -> String {
        let names = self.names.in_file(name);
        let listed = self
            .index
            .as_ref()
            .and_then(|index| names.iter().find_map(|name| index.weight_map.get(name)));
        if let Some(file) = listed {
            return format!(
                "{INDEX_FILE} says that it is in {file}, which does not hold it: they are of different \
                 versions, download both again"
            );
        }
        let tied = config.tie_word_embeddings;
        if name == HEAD && !tied {
            return "config.json does not say `tie_word_embeddings` = true: set it if the output matrix is the \
                    embedding, else the file is not complete"
                .to_owned();
        }
        if name == EMBEDDING && !tied && self.contains(HEAD) {
            return format!(
                "they hold `{HEAD}`: set `tie_word_embeddings` to true in config.json if it is the embedding \
                 too, else the file is not complete"
            );
        }
        let layers: BTreeSet<usize> = self.layers().map(|(layer, _)| layer).collect();
        match (layer_of(name), layers.last()) {
            (Some(layer), Some(last)) if layer > *last => format!(
                "they hold layers 0 to {last}, and config.json says `num_hidden_layers` = {}",
                config.num_layers
            ),
            _ => {
                "its config.json is not this checkpoint's, or the files are not complete".to_owned()
            }
        }
    }

    /// The type of the tensor `name`, if it is there.
    pub(crate) fn dtype_of(&self, name: &str) -> Option<DType> {
        let (file, name) = self.file_with(name)?;
        Some(file.get(name).ok()?.dtype)
    }

    fn find(&self, name: &str) -> Result<Option<RawTensor<'_>>, ModelError> {
        let Some((file, in_file)) = self.file_with(name) else {
            return Ok(None);
        };
        file.get(in_file).map(Some).map_err(|error| match error {
            TensorError::UnsupportedDType {
                name: in_file,
                dtype,
            } => ModelError::TensorDType {
                file: self.file_name(name),
                advice: if matches!(dtype.as_str(), "F64" | "I64") {
                    "load the model with transformers in torch.bfloat16 and save it again"
                } else {
                    UNQUANTIZED
                },
                name: in_file,
                found: dtype,
            },
            other => other.into(),
        })
    }

    /// The file that holds a tensor, and what that is called there.
    fn file_with(&self, name: &str) -> Option<(&TensorFile, &str)> {
        let place = self.place_of.get(name)?;
        Some((&self.files.get(place.file)?.1, &place.name))
    }

    fn file_name(&self, name: &str) -> String {
        let place = self.place_of.get(name);
        let file = place.and_then(|place| self.files.get(place.file));
        file.map(|it| it.0.clone()).unwrap_or_default()
    }

    /// What a tensor is called in the files; of one that is not there, what it would be called beside the others.
    fn name_in_file(&self, name: &str) -> String {
        if let Some(place) = self.place_of.get(name) {
            return place.name.clone();
        }
        let mut names = self.names.in_file(name);
        let is_alike = |name: &String| {
            let prefix = name.split('.').next().unwrap_or_default();
            let mut stored = self.place_of.values();
            stored.any(|place| place.name.split('.').next() == Some(prefix))
        };
        let at = names.iter().position(is_alike).unwrap_or(0);
        names.swap_remove(at)
    }

    /// The tensors that are in a layer, with its number.
    fn layers(&self) -> impl Iterator<Item = (usize, &String)> {
        let names = self.place_of.keys();
        names.filter_map(|name| Some((layer_of(name)?, name)))
    }

    /// Refuses a checkpoint of a kind that is not read.
    fn refuse_foreign(&self) -> Result<(), ModelError> {
        let names: Vec<&str> = self.place_of.keys().map(String::as_str).collect();
        match foreign_kind(&names) {
            None => Ok(()),
            Some((kind, name)) => Err(ModelError::ForeignWeights {
                what: kind.what,
                name: name.to_owned(),
                file: self.file_name(name),
                advice: kind.advice,
            }),
        }
    }

    /// Refuses tensors that are neither needed nor buffers: a bias, a norm or a layer that the
    /// configuration does not announce.
    fn refuse_leftovers(&self, needed: &[Needed], num_layers: usize) -> Result<(), ModelError> {
        let needed: BTreeSet<&str> = needed.iter().map(|tensor| tensor.name.as_str()).collect();
        let is_left = |name: &str| {
            let shape = self
                .file_with(name)
                .and_then(|(file, name)| file.shape(name));
            !needed.contains(name) && !is_buffer(name, &shape.unwrap_or_default())
        };
        if let Some(first) = self.beside.first() {
            let count = self.beside.len();
            tracing::warn!(
                "{count} tensors that turn images into tokens are not loaded, the first is {first}: only text is served"
            );
        }
        let left = self.place_of.keys().filter(|name| is_left(name));
        let (beside, left): (Vec<&String>, Vec<&String>) = left.partition(|name| is_beside(name));
        if let Some(first) = beside.first() {
            let count = beside.len();
            tracing::warn!(
                "{count} tensors of heads beside the model are not used, the first is {first}"
            );
        }
        let beyond = left
            .iter()
            .filter_map(|name| Some((layer_of(name)?, *name)));
        if let Some((last, name)) = beyond.max_by_key(|(layer, _)| *layer)
            && last >= num_layers
        {
            return Err(ModelError::MoreLayers {
                last,
                num_layers,
                file: self.file_name(name),
                name: self.name_in_file(name),
            });
        }
        match left.first() {
            None => Ok(()),
            Some(first) => Err(ModelError::UnexpectedTensors {
                count: left.len(),
                file: self.file_name(first),
                first: self.name_in_file(first),
            }),
        }
    }
}

impl Checkpoint for SafetensorsCheckpoint {
    fn tensor(&self, name: &str) -> Result<Stored<'_>, ModelError> {
        let tensor = self.find(name)?.ok_or_else(|| ModelError::MissingTensor {
            name: name.to_owned(),
            expected: Vec::new(),
            hint: "the files are not complete".to_owned(),
        })?;
        let stored = Dense {
            dtype: tensor.dtype,
            shape: tensor.shape,
            bytes: Cow::Borrowed(tensor.bytes),
        };
        Ok(Stored::Dense(match self.names.is_transposed(name) {
            true => stored.transposed(),
            false => stored,
        }))
    }

    fn contains(&self, name: &str) -> bool {
        self.place_of.contains_key(name)
    }

    fn format_of(&self, name: &str) -> Option<WeightFormat> {
        self.dtype_of(name).map(WeightFormat::from)
    }

    fn bytes_of(&self, name: &str) -> usize {
        let tensor = self
            .file_with(name)
            .and_then(|(file, name)| file.get(name).ok());
        tensor.map_or(0, |tensor| tensor.bytes.len())
    }

    fn release(&self, name: &str) {
        if let Some((file, name)) = self.file_with(name) {
            file.release(name);
        }
    }
}

/// The number of the layer that a tensor is in.
fn layer_of(name: &str) -> Option<usize> {
    name.strip_prefix("model.layers.")?
        .split('.')
        .next()?
        .parse()
        .ok()
}
