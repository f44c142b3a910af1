//! [`TensorFile`]: named tensors in safetensors files, read in place.
//!
//! A file is mapped, not read: opening takes microseconds, and its pages are loaded while the
//! weights are packed. The format is parsed by candle; this module adds the path to each
//! complaint and refuses a name that two files share.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use candle_core::safetensors::{MmapedSafetensors, SliceSafetensors};

use crate::{DType, TensorError};

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
}

enum Source {
    Mapped(MmapedSafetensors),
    Static(SliceSafetensors<'static>),
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
        let source = SliceSafetensors::new(bytes).map_err(|error| invalid(&path, &error))?;
        let source = Source::Static(source);
        Self::index(vec![Part { path, source }])
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
        let view = match &part.source {
            Source::Mapped(file) => file.get(name),
            Source::Static(file) => file.get(name),
        };
        view.ok().map(|view| view.shape().to_vec())
    }

    /// Gives the memory of a mapped tensor back to the system, for one that has been read and will
    /// hardly be again: a model then takes no more memory while it loads than afterwards. Its bytes
    /// remain valid, they would be read from the file anew. Whatever is not mapped is left alone.
    pub fn release(&self, name: &str) {
        let part = self.part_of.get(name).map(|&number| &self.parts[number]);
        if let Some(Source::Mapped(file)) = part.map(|part| &part.source)
            && let Ok(view) = file.get(name)
        {
            forget_pages(view.data());
        }
    }

    /// The tensor of this name; its bytes stay where they are.
    ///
    /// # Errors
    ///
    /// [`TensorError::NoSuchTensor`], or [`TensorError::UnsupportedDType`] if it is stored in a
    /// format that no operator reads.
    pub fn get(&self, name: &str) -> Result<RawTensor<'_>, TensorError> {
        let part = self
            .part_of
            .get(name)
            .map(|&number| &self.parts[number])
            .ok_or_else(|| TensorError::NoSuchTensor {
                name: name.to_owned(),
                files: self.paths(),
            })?;
        let view = match &part.source {
            Source::Mapped(file) => file.get(name),
            Source::Static(file) => file.get(name),
        }
        .map_err(|error| invalid(&part.path, &error))?;
        let dtype = match candle_core::DType::try_from(view.dtype()) {
            Ok(candle_core::DType::F32) => DType::F32,
            Ok(candle_core::DType::BF16) => DType::Bf16,
            Ok(candle_core::DType::F16) => DType::F16,
            _ => {
                return Err(TensorError::UnsupportedDType {
                    name: name.to_owned(),
                    dtype: format!("{:?}", view.dtype()),
                });
            }
        };
        Ok(RawTensor {
            dtype,
            shape: view.shape().to_vec(),
            bytes: view.data(),
        })
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
    fn names(&self) -> Vec<String> {
        let tensors = match &self.source {
            Source::Mapped(file) => file.tensors(),
            Source::Static(file) => file.tensors(),
        };
        tensors.into_iter().map(|(name, _)| name).collect()
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

/// Drops the pages that lie wholly within bytes of a mapped file.
#[cfg(target_os = "linux")]
fn forget_pages(bytes: &[u8]) {
    const PAGE: usize = 4096;
    let start = bytes.as_ptr().align_offset(PAGE);
    if let Some(len) = bytes.len().checked_sub(start) {
        let pages = bytes[start..].as_ptr().cast_mut().cast();
        // SAFETY: the range belongs to a mapping of a file that is never written through; dropped
        // pages are read from the file again when they are touched. A page size above 4096 makes
        // the call fail, which changes nothing.
        let _ = unsafe { libc::madvise(pages, len / PAGE * PAGE, libc::MADV_DONTNEED) };
    }
}

#[cfg(not(target_os = "linux"))]
fn forget_pages(_: &[u8]) {}

fn map_one(path: &Path) -> Result<Part, TensorError> {
    let unreadable = |error| TensorError::File {
        path: path.to_owned(),
        error,
    };
    // Opened here first, so that "no such file" is not reported as a damaged one.
    let metadata = File::open(path)
        .and_then(|file| file.metadata())
        .map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(unreadable(io::ErrorKind::IsADirectory.into()));
    }
    if metadata.len() == 0 {
        return Err(TensorError::InvalidFile {
            path: path.to_owned(),
            reason: "it is empty".to_owned(),
        });
    }
    // SAFETY: the mapping is private to this process and only read. Another process that
    // truncates the file meanwhile breaks the documented rule of `TensorFile::map`, as it would
    // for every program that maps its weights.
    let file = unsafe { MmapedSafetensors::new(path) }.map_err(|error| invalid(path, &error))?;
    Ok(Part {
        path: path.to_owned(),
        source: Source::Mapped(file),
    })
}

fn invalid(path: &Path, error: &candle_core::Error) -> TensorError {
    let mut cause = error;
    // The path and the backtrace that candle wraps around its errors are not part of the reason.
    while let candle_core::Error::WithPath { inner, .. }
    | candle_core::Error::WithBacktrace { inner, .. } = cause
    {
        cause = inner;
    }
    TensorError::InvalidFile {
        path: path.to_owned(),
        reason: cause.to_string(),
    }
}
