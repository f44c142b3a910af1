//! Where weights come from: named tensors in some form, read one at a time.
//!
//! A checkpoint says how a tensor is stored and hands its bytes out where they lie, which for files is the mapped file:
//! nothing is copied before it is packed.

mod file_names;
mod gguf;
mod leftovers;
mod random;
mod safetensors;
mod shard_index;

use std::borrow::Cow;

use maitre_tensor::{BlockFormat, DType, WeightFormat};

use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::names::{EMBEDDING, HEAD};
use crate::source::ModelSource;
use crate::stored::StoredTensor;
pub(crate) use file_names::FileNames;
use gguf::GgufCheckpoint;
pub(crate) use random::RandomCheckpoint;
use safetensors::SafetensorsCheckpoint;

/// Named tensors.
pub(crate) trait Checkpoint {
    /// The tensor of this name.
    ///
    /// # Errors
    /// There is none, or it is stored in a form that is not read.
    fn tensor(&self, name: &str) -> Result<Stored<'_>, ModelError>;

    /// Whether there is a tensor of this name.
    fn contains(&self, name: &str) -> bool;

    /// The format in which the tensor is stored; `None` if it is not there.
    fn format_of(&self, name: &str) -> Option<WeightFormat>;

    /// Bytes of the tensor as it is stored; none if it is not there.
    fn bytes_of(&self, name: &str) -> usize;

    /// Gives back the memory of a tensor that will not be read again.
    fn release(&self, name: &str);
}

/// Whether a model has weights.
pub(crate) fn is_there(source: &ModelSource) -> Result<bool, ModelError> {
    match source {
        ModelSource::Gguf(_) => Ok(true),
        _ => SafetensorsCheckpoint::is_there(source),
    }
}

/// Every tensor of a model's files, whether or not it can be used; none of a model without weights.
///
/// # Errors
/// Files that can't be read.
pub(crate) fn stored_tensors(source: &ModelSource) -> Result<Vec<StoredTensor>, ModelError> {
    if let Some(file) = source.gguf()? {
        return Ok(gguf::stored_tensors(&file));
    }
    match SafetensorsCheckpoint::is_there(source)? {
        true => Ok(SafetensorsCheckpoint::open(source, FileNames::AS_IS)?.stored_tensors()),
        false => Ok(Vec::new()),
    }
}

/// The weights of a model, checked against its configuration without being read, and the format that stands for that of
/// all matrices: the embedding's, or of stored blocks the one that has the most numbers.
///
/// # Errors
/// A tensor that is missing, of another shape or left over, by name; a file that can't be read.
pub(crate) fn open(
    source: &ModelSource,
    config: &ModelConfig,
) -> Result<(Box<dyn Checkpoint>, Option<WeightFormat>), ModelError> {
    if let Some(file) = source.gguf()? {
        let weights = GgufCheckpoint::new(file, config)?;
        let format = weights.format();
        return Ok((Box::new(weights), format));
    }
    let files = SafetensorsCheckpoint::open(source, config.file_names())?;
    files.check(config)?;
    let dtype = files.dtype_of(EMBEDDING).or_else(|| files.dtype_of(HEAD));
    Ok((Box::new(files), dtype.map(WeightFormat::from)))
}

/// A tensor in the form in which it is stored.
#[derive(Debug)]
#[non_exhaustive]
pub(crate) enum Stored<'a> {
    /// A number after the other.
    Dense(Dense<'a>),
    /// Blocks of a GGUF file.
    Blocks(Blocks<'a>),
}

impl<'a> Stored<'a> {
    pub(crate) fn shape(&self) -> &[usize] {
        match self {
            Self::Dense(dense) => &dense.shape,
            Self::Blocks(blocks) => &blocks.shape,
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Dense(dense) => &dense.bytes,
            Self::Blocks(blocks) => &blocks.bytes,
        }
    }

    /// As single numbers: those of blocks in f32.
    ///
    /// # Errors
    /// Bytes that are no whole number of blocks.
    pub(crate) fn into_dense(self) -> Result<Dense<'a>, ModelError> {
        match self {
            Self::Dense(dense) => Ok(dense),
            Self::Blocks(blocks) => blocks.decode(),
        }
    }
}

/// Numbers of one type, row by row.
#[derive(Debug)]
pub(crate) struct Dense<'a> {
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<usize>,
    /// Little-endian.
    pub(crate) bytes: Cow<'a, [u8]>,
}

impl Dense<'_> {
    /// A matrix with its rows as columns.
    fn transposed(self) -> Self {
        let &[rows, cols] = self.shape.as_slice() else {
            return self;
        };
        let size = self.dtype.size_in_bytes();
        let mut bytes = Vec::with_capacity(self.bytes.len());
        for col in 0..cols {
            for row in 0..rows {
                let at = (row * cols + col) * size;
                bytes.extend_from_slice(self.bytes.get(at..at + size).unwrap_or_default());
            }
        }
        Self {
            dtype: self.dtype,
            shape: vec![cols, rows],
            bytes: Cow::Owned(bytes),
        }
    }
}

/// Numbers in blocks, row by row.
#[derive(Debug)]
pub(crate) struct Blocks<'a> {
    pub(crate) format: BlockFormat,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Cow<'a, [u8]>,
}

impl Blocks<'_> {
    fn decode(&self) -> Result<Dense<'static>, ModelError> {
        let mut numbers = vec![0.0; self.shape.iter().product()];
        self.format.decode(&self.bytes, &mut numbers)?;
        let bytes = numbers.iter().flat_map(|number| number.to_le_bytes());
        Ok(Dense {
            dtype: DType::F32,
            shape: self.shape.clone(),
            bytes: Cow::Owned(bytes.collect()),
        })
    }
}
