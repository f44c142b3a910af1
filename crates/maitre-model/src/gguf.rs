//! A model in a GGUF file: its settings in the words of `config.json`.
//!
//! A file of the format has everything: weights, settings, vocabulary. What it says of the mathematics is translated
//! into the configuration that the same model has on the Hub, so that one reader understands (or refuses) both. What has
//! no words there is added to the configuration that was read. The tensors are translated by
//! [`checkpoint::gguf`](crate::checkpoint).

mod ends;
mod families;
mod names;
mod parts;
mod refused;
mod rope;
mod settings;
mod weights;

use std::path::Path;

use maitre_gguf::{GgufError, GgufIndex, TensorEntry, TensorKind};
use maitre_tensor::MappedFile;
use serde_json::Value;

use crate::config::ModelConfig;
use crate::error::ModelError;
use families::Family;
pub(crate) use names::NamesInFile;
use settings::Words;
pub(crate) use weights::Held;

/// A GGUF file, mapped, with its index; or several that a model is split among.
#[derive(Debug)]
pub struct GgufFile {
    /// It has the settings, and all or some of the tensors.
    first: Part,
    /// The others have tensors.
    rest: Vec<Part>,
}

/// A mapped file with its index.
#[derive(Debug)]
struct Part {
    file: MappedFile,
    index: GgufIndex,
}

const ARCHITECTURE: &str = "general.architecture";
const TOKENS: &str = "tokenizer.ggml.tokens";
const OUTPUT: &str = "output.weight";

impl Part {
    fn open(path: &Path) -> Result<Self, ModelError> {
        parts::refuse_absent(path)?;
        let file = MappedFile::map(path)?;
        let index = GgufIndex::read(file.bytes()).map_err(|error| broken(path, &error))?;
        Ok(Self { file, index })
    }

    fn tensors(&self) -> &[TensorEntry] {
        self.index.tensors()
    }

    fn path(&self) -> String {
        self.file.path().display().to_string()
    }
}

impl GgufFile {
    /// Maps a file and reads its index; of a model that is split, that of each part. `path` is the first one then.
    ///
    /// # Errors
    /// A file that can't be read, is no whole GGUF file, or not the part that it should be.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let first = Part::open(path)?;
        let rest = parts::open_rest(path, &first)?;
        Ok(Self { first, rest })
    }

    /// What it says before its data; of a split model what the first part says, which has all settings.
    #[must_use]
    pub fn index(&self) -> &GgufIndex {
        &self.first.index
    }

    /// All of the file that [`index`](Self::index) was read from.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.first.file.bytes()
    }

    /// Every tensor, with the number of the file that holds it.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = (usize, &TensorEntry)> {
        let parts = std::iter::once(&self.first).chain(&self.rest).enumerate();
        parts.flat_map(|(number, part)| std::iter::repeat(number).zip(part.tensors()))
    }

    /// A file by its number.
    fn part(&self, number: usize) -> &Part {
        let rest = number.checked_sub(1);
        rest.and_then(|number| self.rest.get(number))
            .unwrap_or(&self.first)
    }

    /// Whether rows of queries and keys lie in pairs of neighbours.
    pub(crate) fn interleaves_heads(&self) -> Result<bool, ModelError> {
        Ok(self.family()?.interleaves_heads)
    }

    /// What the tensors of a model are called in it.
    pub(crate) fn names(&self, config: &ModelConfig) -> Result<NamesInFile, ModelError> {
        let names = &config.architecture.family().names;
        Ok(NamesInFile::of(names, self.family()?.renamed))
    }

    fn family(&self) -> Result<&'static Family, ModelError> {
        let found = self.said(self.index().text(ARCHITECTURE))?;
        let mut families = families::FAMILIES.iter();
        let family = families.find(|family| Some(family.name) == found);
        family.ok_or_else(|| {
            let names = families::FAMILIES.map(|family| family.name).join(", ");
            let found = found.map_or_else(|| "absent".to_owned(), |name| format!("{name:?}"));
            ModelError::UnusableFile {
                file: self.path(),
                problem: format!(
                    "has the unknown model architecture {found} in {ARCHITECTURE}; supported: {names}"
                ),
            }
        })
    }

    /// What the model is.
    ///
    /// # Errors
    /// As of a `config.json`, and what has no words there and is not supported.
    pub(crate) fn config(&self) -> Result<ModelConfig, ModelError> {
        let words = self.config_json()?.to_string();
        let config = ModelConfig::from_json(words.as_bytes());
        let mut config = config.map_err(|error| self.as_said_here(error))?;
        // The converter has added it to the weights.
        config.norm_offset = 0.0;
        let family = self.family()?;
        rope::apply_factors(self, family, &mut config)?;
        Ok(config)
    }

    /// What takes the place of `config.json`.
    pub(crate) fn config_json(&self) -> Result<Value, ModelError> {
        let family = self.family()?;
        let words = Words {
            file: self,
            prefix: family.name,
        };
        refused::refuse_unsupported(&words, family.implements)?;
        let mut config = settings::common(&words, family)?;
        (family.particulars)(&words, &mut config)?;
        Ok(Value::Object(config))
    }

    /// What takes the place of `generation_config.json`: the tokens that end an answer.
    pub(crate) fn generation_json(&self) -> Result<Value, ModelError> {
        ends::generation_json(self)
    }

    /// The error for what is well-formed and not supported.
    pub(crate) fn unsupported(&self, what: &str) -> ModelError {
        ModelError::UnusableFile {
            file: self.path(),
            problem: format!("has {what}, which is not supported"),
        }
    }

    /// An error about `config.json` as one about this file.
    fn as_said_here(&self, mut error: ModelError) -> ModelError {
        if let ModelError::MissingSetting { file, .. }
        | ModelError::InvalidSetting { file, .. }
        | ModelError::UnsupportedSetting { file, .. } = &mut error
        {
            *file = format!("{}, in the words of config.json,", self.path());
        }
        error
    }

    fn path(&self) -> String {
        self.first.path()
    }

    fn tensor(&self, name: &str) -> Option<(usize, &TensorEntry)> {
        self.tensors().find(|(_, tensor)| tensor.name == name)
    }

    fn has(&self, tensor: &str) -> bool {
        self.tensor(tensor).is_some()
    }

    /// The numbers of a vector that is kept as it is.
    fn floats(&self, name: &str) -> Result<Option<Vec<f32>>, ModelError> {
        let Some((part, tensor)) = self.tensor(name) else {
            return Ok(None);
        };
        if tensor.kind != TensorKind::F32 || tensor.shape.len() != 1 {
            let (kind, shape) = (tensor.kind, &tensor.shape);
            return Err(self.unsupported(&format!("{name} as {kind} {shape:?}")));
        }
        let bytes = self.part(part).file.bytes().get(tensor.place.clone());
        let (numbers, _) = bytes.unwrap_or_default().as_chunks::<4>();
        Ok(Some(
            numbers.iter().map(|it| f32::from_le_bytes(*it)).collect(),
        ))
    }

    fn said<T>(&self, read: Result<T, GgufError>) -> Result<T, ModelError> {
        read.map_err(|error| broken(self.first.file.path(), &error))
    }
}

fn broken(path: &Path, error: &GgufError) -> ModelError {
    ModelError::UnusableFile {
        file: path.display().to_string(),
        problem: format!("is no GGUF file that can be read: {error}"),
    }
}
