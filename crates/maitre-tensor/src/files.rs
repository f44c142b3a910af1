//! [`TensorFile`]: named tensors in safetensors files, read in place.
//!
//! A file is mapped, not read: opening takes microseconds, and its pages are loaded while the
//! weights are packed. The `safetensors` crate parses the header and checks that it describes the
//! file exactly; this module adds the path to each complaint and refuses a name that two files share.

mod mapped;

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};

pub use mapped::MappedFile;

use crate::{DType, TensorError};

/// Bytes before the header: its length, as a u64.
const HEADER_LENGTH: usize = size_of::<u64>();

/// A tensor as the file stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawTensor<'a> {
    /// Format of the stored numbers.
    pub dtype: DType,
    /// Sizes of its dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Row-major little-endian elements at any alignment.
    pub bytes: &'a [u8],
}

/// The tensors of one model: one or several memory-mapped files, or bytes compiled into the
/// program.
pub struct TensorFile {
    parts: Vec<Part>,
    /// Which part holds the tensor of this name.
    part_of: HashMap<String, usize>,
}

struct Part {
    path: PathBuf,
    source: Source,
    /// What the header says, checked against the length of the file.
    metadata: Metadata,
    /// Where the tensors' bytes begin.
    data_start: usize,
}

enum Source {
    Mapped(MappedFile),
    Static(&'static [u8]),
}

impl TensorFile {
    /// Maps the files of a model.
    ///
    /// The files must not be truncated or rewritten while they are mapped, which is also the rule
    /// of every other program that maps them; replace a model by renaming a new file over it.
    ///
    /// # Errors
    ///
    /// [`TensorError::File`] if a file can't be read, [`TensorError::InvalidFile`] if it is
    /// truncated or not a safetensors file, [`TensorError::DuplicateTensor`] if two files hold
    /// tensors of the same name. Each names the path.
    pub fn map(paths: &[PathBuf]) -> Result<Self, TensorError> {
        let parts = paths
            .iter()
            .map(|path| map_one(path))
            .collect::<Result<_, _>>()?;
        Self::index(parts)
    }

    /// Reads a safetensors file that is already in memory.
    ///
    /// # Errors
    ///
    /// [`TensorError::InvalidFile`] if the bytes are not a whole safetensors file.
    pub fn from_static(bytes: &'static [u8]) -> Result<Self, TensorError> {
        let path = PathBuf::from("<bytes in memory>");
        Self::index(vec![Part::new(path, Source::Static(bytes))?])
    }

    fn index(parts: Vec<Part>) -> Result<Self, TensorError> {
        let mut part_of = HashMap::new();
        for (number, part) in parts.iter().enumerate() {
            for name in part.names() {
                if let Some(first) = part_of.insert(name.clone(), number) {
                    return Err(TensorError::DuplicateTensor {
                        name,
                        first: parts[first].path.clone(),
                        second: part.path.clone(),
                    });
                }
            }
        }
        Ok(Self { parts, part_of })
    }

    /// Names of all tensors, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.part_of.keys().cloned().collect();
        names.sort_unstable();
        names
    }

    /// Whether there is a tensor of this name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.part_of.contains_key(name)
    }

    /// The sizes of a tensor's dimensions, whatever its format; `None` if there is no such tensor.
    #[must_use]
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let part = &self.parts[*self.part_of.get(name)?];
        Some(part.metadata.info(name)?.shape.clone())
    }

    /// Gives the memory of a mapped tensor back to the system, for one that has been read and will
    /// hardly be again: a model then takes no more memory while it loads than afterwards. Its bytes
    /// remain valid, they would be read from the file anew. Whatever is not mapped is left alone.
    pub fn release(&self, name: &str) {
        if let Some((part, tensor)) = self.find(name)
            && let Source::Mapped(file) = &part.source
        {
            file.release(part.place_of(tensor));
        }
    }

    /// The tensor of this name; its bytes stay where they are.
    ///
    /// # Errors
    ///
    /// [`TensorError::NoSuchTensor`], or [`TensorError::UnsupportedDType`] if it is stored in a
    /// format that no operator reads.
    pub fn get(&self, name: &str) -> Result<RawTensor<'_>, TensorError> {
        let (part, tensor) = self.find(name).ok_or_else(|| TensorError::NoSuchTensor {
            name: name.to_owned(),
            files: self.paths(),
        })?;
        let dtype = match tensor.dtype {
            Dtype::F32 => DType::F32,
            Dtype::BF16 => DType::Bf16,
            Dtype::F16 => DType::F16,
            other => {
                return Err(TensorError::UnsupportedDType {
                    name: name.to_owned(),
                    dtype: format!("{other:?}"),
                });
            }
        };
        Ok(RawTensor {
            dtype,
            shape: tensor.shape.clone(),
            bytes: part.bytes_of(tensor),
        })
    }

    fn find(&self, name: &str) -> Option<(&Part, &TensorInfo)> {
        let part = &self.parts[*self.part_of.get(name)?];
        Some((part, part.metadata.info(name)?))
    }

    fn paths(&self) -> String {
        let paths: Vec<String> = self
            .parts
            .iter()
            .map(|part| part.path.display().to_string())
            .collect();
        paths.join(", ")
    }
}

impl Part {
    fn new(path: PathBuf, source: Source) -> Result<Self, TensorError> {
        match SafeTensors::read_metadata(source.bytes()) {
            Ok((header, metadata)) => Ok(Self {
                path,
                source,
                metadata,
                data_start: HEADER_LENGTH + header,
            }),
            Err(error) => Err(TensorError::InvalidFile {
                path,
                reason: error.to_string(),
            }),
        }
    }

    fn names(&self) -> Vec<String> {
        self.metadata.offset_keys()
    }

    fn bytes_of(&self, tensor: &TensorInfo) -> &[u8] {
        // Within the file: the parser has compared the end of the last tensor with the file's.
        &self.source.bytes()[self.place_of(tensor)]
    }

    fn place_of(&self, tensor: &TensorInfo) -> Range<usize> {
        let (start, end) = tensor.data_offsets;
        self.data_start + start..self.data_start + end
    }
}

impl Source {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Mapped(file) => file.bytes(),
            Self::Static(bytes) => bytes,
        }
    }
}

impl fmt::Debug for TensorFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TensorFile")
            .field("paths", &self.paths())
            .field("tensors", &self.part_of.len())
            .finish()
    }
}

fn map_one(path: &Path) -> Result<Part, TensorError> {
    let file = MappedFile::map(path)?;
    Part::new(path.to_owned(), Source::Mapped(file))
}
