//! Where a model's files come from: a directory, or memory.
//!
//! A source hands out small files whole and weight files mapped. Everything above reads through
//! it, so a model compiled into the binary and one on disk take the same path.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use maitre_gguf::ModelFiles;
use maitre_tensor::TensorFile;

use crate::contents::mistaken_text;
use crate::error::ModelError;
use crate::gguf::GgufFile;
use crate::{damage, json, layout};

/// U+FEFF in UTF-8: some editors put it first.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A model's files, by the names a Hugging Face directory gives them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelSource {
    /// A directory on disk.
    Directory(PathBuf),
    /// A GGUF file, which has all of a model; the first of them, if it is split.
    Gguf(PathBuf),
    /// Files compiled into the program.
    Memory {
        /// What to call the model in messages.
        name: &'static str,
        /// `(file name, content)`.
        files: &'static [(&'static str, &'static [u8])],
    },
}

impl ModelSource {
    /// The model in a directory: that of the Hub's layout, or else the one in GGUF files if it has any. Such files beside
    /// a `config.json` are another form of the same model, and are left alone.
    ///
    /// # Errors
    /// Several models in GGUF files, by name; a directory that cannot be listed.
    pub fn in_directory(directory: &Path) -> Result<Self, ModelError> {
        let as_on_hub = Self::Directory(directory.to_owned());
        if as_on_hub.has("config.json")? {
            return Ok(as_on_hub);
        }
        let names = list(directory)?;
        let models = ModelFiles::among(names.iter().map(String::as_str));
        let files: Vec<&str> = models
            .iter()
            .filter_map(|model| model.files.first().map(String::as_str))
            .collect();
        match files.as_slice() {
            [] => Ok(as_on_hub),
            [file] => Ok(Self::Gguf(directory.join(file))),
            several => Err(ModelError::UnusableFile {
                file: format!("model directory {}", directory.display()),
                problem: format!(
                    "has several models in GGUF files: name one of {}",
                    several.join(", ")
                ),
            }),
        }
    }

    /// The content of the text file `file`, or `None` if the model has no such file. A byte order
    /// mark before JSON is left out.
    ///
    /// # Errors
    /// [`ModelError::Directory`] when the directory itself is not there,
    /// [`ModelError::Read`] when the file is but cannot be read, [`ModelError::BrokenLink`] when it
    /// leads nowhere, [`ModelError::UnusableFile`] when it is a git-LFS pointer, a web page or empty.
    pub fn read(&self, file: &str) -> Result<Option<Cow<'static, [u8]>>, ModelError> {
        let Some(content) = self.read_raw(file)? else {
            return Ok(None);
        };
        let is_json = file.ends_with(".json");
        if let Some(problem) = mistaken_text(&content).filter(|_| is_json) {
            return Err(ModelError::UnusableFile {
                file: self.path_of(file),
                problem,
            });
        }
        let has_mark = is_json && content.starts_with(BYTE_ORDER_MARK);
        let start = if has_mark { BYTE_ORDER_MARK.len() } else { 0 };
        Ok(Some(match content {
            Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[start..]),
            Cow::Owned(mut bytes) => {
                bytes.drain(..start);
                Cow::Owned(bytes)
            }
        }))
    }

    /// The content of the JSON file `file` as any JSON parser reads it, or `None` if the model has no
    /// such file: the numbers that only Python reads, such as `NaN`, are strings.
    ///
    /// # Errors
    /// As [`read`](Self::read), and [`ModelError::Json`] with the place of a mistake.
    pub fn read_json(&self, file: &str) -> Result<Option<Cow<'static, [u8]>>, ModelError> {
        let Some(content) = self.read(file)? else {
            return Ok(None);
        };
        Ok(Some(match json::strict(file, &content)? {
            Cow::Borrowed(_) => content,
            Cow::Owned(strict) => Cow::Owned(strict),
        }))
    }

    /// The content of `file` as it is.
    fn read_raw(&self, file: &str) -> Result<Option<Cow<'static, [u8]>>, ModelError> {
        match self {
            Self::Memory { .. } => Ok(self.in_memory(file).map(Cow::Borrowed)),
            Self::Gguf(path) => translated(path, file),
            Self::Directory(directory) => {
                let Some(path) = existing_file(directory, file)? else {
                    return Ok(None);
                };
                match std::fs::read(&path) {
                    Ok(bytes) => Ok(Some(Cow::Owned(bytes))),
                    Err(error) => Err(ModelError::Read {
                        file: self.path_of(file),
                        error,
                    }),
                }
            }
        }
    }

    /// Where `file` is, for messages.
    fn path_of(&self, file: &str) -> String {
        match self {
            Self::Memory { .. } => file.to_owned(),
            Self::Directory(directory) => directory.join(file).display().to_string(),
            Self::Gguf(path) => path.display().to_string(),
        }
    }

    /// The names of the files in `folder` that end in `suffix`, as [`read`](Self::read) takes them, in order;
    /// none if the model has no such folder.
    ///
    /// # Errors
    /// [`ModelError::Read`] when the folder is there but cannot be listed.
    pub fn files_in(&self, folder: &str, suffix: &str) -> Result<Vec<String>, ModelError> {
        let mut files: Vec<String> = match self {
            Self::Memory { files, .. } => files
                .iter()
                .map(|(name, _)| *name)
                .filter(|name| name.rsplit_once('/').is_some_and(|(of, _)| of == folder))
                .map(str::to_owned)
                .collect(),
            Self::Gguf(_) => Vec::new(),
            Self::Directory(directory) => list(&directory.join(folder))?
                .into_iter()
                .map(|name| format!("{folder}/{name}"))
                .collect(),
        };
        files.retain(|file| file.ends_with(suffix));
        files.sort_unstable();
        Ok(files)
    }

    /// The content of a file the model cannot do without.
    pub(crate) fn read_required(
        &self,
        file: &str,
        expected: &str,
    ) -> Result<Cow<'static, [u8]>, ModelError> {
        match self.read(file)? {
            Some(content) => Ok(content),
            None => {
                let found = layout::instead_of_model(&self.file_names());
                Err(self.missing(file, expected.to_owned() + &found))
            }
        }
    }

    /// The error for a file that is not there.
    pub(crate) fn missing(&self, file: &str, expected: String) -> ModelError {
        ModelError::MissingFile {
            model: self.to_string(),
            file: file.to_owned(),
            expected,
        }
    }

    /// The names of all files, sorted; none of a directory that cannot be listed.
    pub(crate) fn file_names(&self) -> Vec<String> {
        let mut names: Vec<String> = match self {
            Self::Memory { files, .. } => {
                files.iter().map(|(name, _)| (*name).to_owned()).collect()
            }
            Self::Gguf(_) => Vec::new(),
            Self::Directory(directory) => std::fs::read_dir(directory)
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .collect(),
        };
        names.sort_unstable();
        names
    }

    /// Whether the model has a file of this name.
    pub(crate) fn has(&self, file: &str) -> Result<bool, ModelError> {
        match self {
            Self::Memory { .. } => Ok(self.in_memory(file).is_some()),
            Self::Gguf(path) => Ok(translated(path, file)?.is_some()),
            Self::Directory(directory) => Ok(existing_file(directory, file)?.is_some()),
        }
    }

    /// The GGUF file, if the model is one.
    ///
    /// # Errors
    /// As [`GgufFile::open`].
    pub fn gguf(&self) -> Result<Option<GgufFile>, ModelError> {
        match self {
            Self::Gguf(path) => GgufFile::open(path).map(Some),
            Self::Directory(_) | Self::Memory { .. } => Ok(None),
        }
    }

    /// Opens a safetensors file without copying it.
    pub(crate) fn open_tensors(&self, file: &str) -> Result<TensorFile, ModelError> {
        match self {
            Self::Memory { .. } => {
                let content = self.in_memory(file).unwrap_or_default();
                TensorFile::from_static(content)
                    .map_err(|error| damage::explain(file, content, error))
            }
            Self::Gguf(path) => TensorFile::map(std::slice::from_ref(path))
                .map_err(|error| damage::explain_file(path, error)),
            Self::Directory(directory) => {
                let path = directory.join(file);
                TensorFile::map(std::slice::from_ref(&path))
                    .map_err(|error| damage::explain_file(&path, error))
            }
        }
    }

    fn in_memory(&self, file: &str) -> Option<&'static [u8]> {
        match self {
            Self::Directory(_) | Self::Gguf(_) => None,
            Self::Memory { files, .. } => files
                .iter()
                .find(|(name, _)| *name == file)
                .map(|(_, content)| *content),
        }
    }
}

/// What a GGUF file says in place of a file of a directory.
fn translated(path: &Path, file: &str) -> Result<Option<Cow<'static, [u8]>>, ModelError> {
    let said = match file {
        "config.json" => GgufFile::open(path)?.config_json()?,
        "generation_config.json" => GgufFile::open(path)?.generation_json()?,
        _ => return Ok(None),
    };
    Ok(Some(Cow::Owned(said.to_string().into_bytes())))
}

/// The names in a folder, none if it does not exist. A name that is no text is no name of a model's file.
fn list(folder: &Path) -> Result<Vec<String>, ModelError> {
    let failed = |error: io::Error| ModelError::Read {
        file: folder.display().to_string(),
        error,
    };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(Vec::new());
        }
        Err(error) => return Err(failed(error)),
    };
    let names: Result<Vec<_>, _> = entries.map(|entry| Ok(entry?.file_name())).collect();
    let names = names.map_err(failed)?;
    Ok(names
        .into_iter()
        .filter_map(|name| name.into_string().ok())
        .collect())
}

/// The path of `file` in `directory` if it exists; an error if the directory does not.
fn existing_file(directory: &Path, file: &str) -> Result<Option<PathBuf>, ModelError> {
    if !directory.is_dir() {
        return Err(ModelError::Directory {
            path: directory.to_owned(),
            problem: if directory.exists() {
                "is not a directory"
            } else {
                "does not exist"
            },
        });
    }
    let path = directory.join(file);
    match std::fs::metadata(&path) {
        Ok(_) => Ok(Some(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match std::fs::read_link(&path) {
            Ok(target) => Err(ModelError::BrokenLink { path, target }),
            Err(_) => Ok(None),
        },
        Err(error) => Err(ModelError::Read {
            file: path.display().to_string(),
            error,
        }),
    }
}

impl fmt::Display for ModelSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(formatter, "model directory {}", path.display()),
            Self::Gguf(path) => write!(formatter, "GGUF file {}", path.display()),
            Self::Memory { name, .. } => write!(formatter, "built-in model {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_a_folder_are_listed_in_order() {
        let memory = ModelSource::Memory {
            name: "m",
            files: &[
                ("t/b.jinja", b""),
                ("t/a.jinja", b""),
                ("t/a.txt", b""),
                ("t/deep/c.jinja", b""),
                ("a.jinja", b""),
            ],
        };
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("t/deep")).unwrap();
        if let ModelSource::Memory { files, .. } = &memory {
            for (name, content) in *files {
                std::fs::write(directory.path().join(name), content).unwrap();
            }
        }
        let on_disk = ModelSource::Directory(directory.path().to_owned());
        for source in [memory, on_disk] {
            let listed = |folder| source.files_in(folder, ".jinja").unwrap();
            assert_eq!(listed("t"), ["t/a.jinja", "t/b.jinja"]);
            assert!(listed("absent").is_empty() && listed("a.jinja").is_empty());
        }
    }
}
