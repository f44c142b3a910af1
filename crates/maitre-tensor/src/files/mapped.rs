//! [`MappedFile`]: the bytes of a file where they lie.
#![allow(unsafe_code)]

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::TensorError;

/// A file that is mapped, not read: its pages are loaded when they are touched.
pub struct MappedFile {
    path: PathBuf,
    bytes: Mmap,
}

impl MappedFile {
    /// Maps a file.
    ///
    /// The file must not be truncated or rewritten while it is mapped, which is also the rule of every other program
    /// that maps it; replace a model by renaming a new file over it.
    ///
    /// # Errors
    ///
    /// [`TensorError::File`] if it can't be read, [`TensorError::InvalidFile`] if it is empty.
    pub fn map(path: &Path) -> Result<Self, TensorError> {
        let unreadable = |error| TensorError::File {
            path: path.to_owned(),
            error,
        };
        let file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
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
        // truncates the file meanwhile breaks the rule that is documented above, as it would for every program
        // that maps its weights.
        let bytes = unsafe { Mmap::map(&file) }.map_err(unreadable)?;
        Ok(Self {
            path: path.to_owned(),
            bytes,
        })
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All of it.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Gives the memory of bytes that have been read back to the system. They remain valid, they would be read from
    /// the file anew.
    pub fn release(&self, range: Range<usize>) {
        if let Some(bytes) = self.bytes.get(range) {
            forget_pages(bytes);
        }
    }
}

impl fmt::Debug for MappedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MappedFile")
            .field("path", &self.path)
            .field("len", &self.bytes.len())
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
