//! Where weights come from: named tensors in some form, read one at a time.
//!
//! A checkpoint says how a tensor is stored and hands its bytes out where they lie, which for files is the mapped file:
//! nothing is copied before it is packed.

mod gguf;
mod leftovers;
mod random;
mod safetensors;
mod shard_index;

use std::borrow::Cow;

use maitre_tensor::DType;

use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::names::{EMBEDDING, HEAD};
use crate::source::ModelSource;
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

/// The weights of a model, checked against its configuration without being read, and the type that the embedding has
/// there, which stands for that of all matrices.
///
/// # Errors
/// A tensor that is missing, of another shape or left over, by name; a file that can't be read.
pub(crate) fn open(
    source: &ModelSource,
    config: &ModelConfig,
) -> Result<(Box<dyn Checkpoint>, Option<DType>), ModelError> {
    if let Some(file) = source.gguf()? {
        let weights = GgufCheckpoint::new(file, config)?;
        let dtype = weights.dtype();
        return Ok((Box::new(weights), dtype));
    }
    let files = SafetensorsCheckpoint::open(source)?;
    files.check(config)?;
    let dtype = files.dtype_of(EMBEDDING).or_else(|| files.dtype_of(HEAD));
    Ok((Box::new(files), dtype))
}

/// A tensor in the form in which it is stored.
#[derive(Debug)]
#[non_exhaustive]
pub(crate) enum Stored<'a> {
    /// A number after the other.
    Dense(Dense<'a>),
}

/// Numbers of one type, row by row.
#[derive(Debug)]
pub(crate) struct Dense<'a> {
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<usize>,
    /// Little-endian.
    pub(crate) bytes: Cow<'a, [u8]>,
}
