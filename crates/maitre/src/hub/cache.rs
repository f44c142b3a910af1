//! The Hub cache of one repository on disk.
//!
//! ```text
//! CACHE/models--ORG--NAME/blobs/ID                the bytes, named by their content
//!                        /blobs/ID.incomplete     the first part of them
//!                        /snapshots/COMMIT/FILE   a link to the blob
//!                        /refs/REVISION           the commit, once the snapshot is complete
//!                        /.no_exist/COMMIT/FILE   empty: the Hub has said that there is no such file
//! CACHE/.locks/models--ORG--NAME/ID.lock          held by the process that downloads that blob
//! ```

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use maitre_model::ModelFiles;

use super::error::HubError;

/// What text cannot be read without. Some repositories have none.
pub(super) const TOKENIZER: &str = "tokenizer.json";

/// A snapshot in the cache, and what it lacks of what a model needs.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) directory: PathBuf,
    /// What is opened as the model: the directory, or a file in it.
    pub(super) model: PathBuf,
    pub(super) lacks: Vec<String>,
}

impl Snapshot {
    pub(super) fn complete(self) -> Option<PathBuf> {
        self.lacks.is_empty().then_some(self.model)
    }
}

/// Paths and states of one repository in the cache.
#[derive(Debug)]
pub(super) struct RepositoryCache {
    root: PathBuf,
    folder: String,
}

impl RepositoryCache {
    pub(super) fn new(root: &Path, owner: &str, name: &str) -> Self {
        Self {
            root: root.to_path_buf(),
            folder: format!("models--{owner}--{name}"),
        }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    fn repository(&self) -> PathBuf {
        self.root.join(&self.folder)
    }

    pub(super) fn blob(&self, id: &str) -> PathBuf {
        self.repository().join("blobs").join(id)
    }

    pub(super) fn partial(&self, id: &str) -> PathBuf {
        self.repository()
            .join("blobs")
            .join(format!("{id}.incomplete"))
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.repository().join("snapshots").join(commit)
    }

    /// Where it is kept that the commit has no such file, as other Hub clients keep it.
    fn absence(&self, commit: &str, file: &str) -> PathBuf {
        self.repository().join(".no_exist").join(commit).join(file)
    }

    /// Keeps that the commit has no such file.
    pub(super) fn note_absence(&self, commit: &str, file: &str) -> Result<(), HubError> {
        let path = self.absence(commit, file);
        if path.is_file() {
            return Ok(());
        }
        in_parent(&path, |path| fs::write(path, []))
    }

    /// The commit of `revision` and its directory.
    fn find_commit(&self, revision: &str) -> Option<(String, PathBuf)> {
        let commit = if is_commit(revision) {
            revision.to_string()
        } else {
            let name = self.repository().join("refs").join(revision);
            fs::read_to_string(name).ok()?.trim().to_string()
        };
        let directory = self.snapshot(&commit);
        (is_commit(&commit) && directory.is_dir()).then_some((commit, directory))
    }

    /// The snapshot of `revision`, complete or not, of a model in GGUF files that `tag` means among those that are here.
    pub(super) fn find_gguf(&self, revision: &str, tag: &str) -> Option<Snapshot> {
        let (_, directory) = self.find_commit(revision)?;
        let names = gguf_files(&directory);
        let models = ModelFiles::among(names.iter().map(String::as_str));
        let meant = ModelFiles::meant(&models, tag);
        let [model] = meant.as_slice() else {
            return None;
        };
        let lacks = model.files.iter();
        let lacks = lacks.filter(|file| !directory.join(file).is_file());
        Some(Snapshot {
            model: directory.join(model.files.first()?),
            lacks: lacks.cloned().collect(),
            directory,
        })
    }

    /// The snapshot of `revision`, complete or not.
    pub(super) fn find_snapshot(&self, revision: &str) -> Option<Snapshot> {
        let (commit, directory) = self.find_commit(revision)?;
        let mut lacks = lacks_of_model(&directory);
        if !directory.join(TOKENIZER).is_file() && !self.absence(&commit, TOKENIZER).is_file() {
            lacks.push(TOKENIZER.to_owned());
        }
        Some(Snapshot {
            model: directory.clone(),
            directory,
            lacks,
        })
    }

    /// Gives the snapshot of `commit` its name. Done last, it says that the snapshot is complete.
    pub(super) fn name_snapshot(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        if is_commit(revision) {
            return Ok(());
        }
        let path = self.repository().join("refs").join(revision);
        // A cache that says so already may be on a read-only file system.
        if fs::read_to_string(&path).is_ok_and(|named| named.trim() == commit) {
            return Ok(());
        }
        in_parent(&path, |path| fs::write(path, commit))
    }

    /// Makes a complete blob appear as `file` of the snapshot.
    pub(super) fn link(&self, id: &str, commit: &str, file: &str) -> Result<(), HubError> {
        let path = self.snapshot(commit).join(file);
        in_parent(&path, |path| {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            // Relative, so that the cache may be moved: snapshots/COMMIT/FILE -> blobs/ID.
            #[cfg(unix)]
            {
                let up = "../".repeat(2 + file.matches('/').count());
                std::os::unix::fs::symlink(Path::new(&up).join("blobs").join(id), path)
            }
            #[cfg(not(unix))]
            {
                fs::rename(self.blob(id), path)
            }
        })
    }

    /// Waits until no other process downloads the blob, and keeps others out until dropped.
    pub(super) async fn lock(&self, id: &str) -> Result<File, HubError> {
        let path = self
            .root
            .join(".locks")
            .join(&self.folder)
            .join(format!("{id}.lock"));
        let failed = |error| HubError::Cache {
            path: path.clone(),
            error,
        };
        let locked = path.clone();
        let task = tokio::task::spawn_blocking(move || {
            if let Some(parent) = locked.parent() {
                fs::create_dir_all(parent)?;
            }
            let file = File::create(&locked)?;
            file.lock()?;
            Ok(file)
        });
        task.await
            .map_err(|error| failed(io::Error::other(error)))?
            .map_err(failed)
    }
}

/// Runs `write` on `path` after making its directory.
pub(super) fn in_parent<T>(
    path: &Path,
    write: impl FnOnce(&Path) -> io::Result<T>,
) -> Result<T, HubError> {
    path.parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| write(path))
        .map_err(|error| HubError::Cache {
            path: path.to_path_buf(),
            error,
        })
}

/// Whether this is a full commit hash, which names itself.
pub(super) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// What the directory lacks of a config and all its weights: every shard of the index, or, without
/// one, any weights file. Other clients name a snapshot before it is complete.
fn lacks_of_model(directory: &Path) -> Vec<String> {
    const CONFIG: &str = "config.json";
    const INDEX: &str = "model.safetensors.index.json";
    let mut lacks = Vec::new();
    if !directory.join(CONFIG).is_file() {
        lacks.push(CONFIG.to_owned());
    }
    let index = fs::read(directory.join(INDEX)).ok();
    match index.map(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes)) {
        Some(index) => match index.as_ref().map(|index| index["weight_map"].as_object()) {
            Ok(Some(map)) => {
                let shards: BTreeSet<&str> =
                    map.values().filter_map(|file| file.as_str()).collect();
                let absent = shards
                    .into_iter()
                    .filter(|file| !directory.join(file).is_file());
                lacks.extend(absent.map(str::to_owned));
            }
            _ => lacks.push(format!("a readable {INDEX}")),
        },
        None if !has_weights_file(directory) => lacks.push("*.safetensors".to_owned()),
        None => {}
    }
    lacks
}

/// The names of the GGUF files of a snapshot: at its top level, or in a folder.
pub(super) fn gguf_files(directory: &Path) -> Vec<String> {
    let names = |folder: &Path| -> Vec<String> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().into_string());
        names.filter_map(Result::ok).collect()
    };
    let mut files = Vec::new();
    for name in names(directory) {
        let path = directory.join(&name);
        if path.is_dir() {
            files.extend(names(&path).iter().map(|file| format!("{name}/{file}")));
        } else {
            files.push(name);
        }
    }
    files.retain(|file| file.ends_with(".gguf"));
    files
}

/// A shard (`model-00001-of-00002`) without the index is a part of a model.
fn has_weights_file(directory: &Path) -> bool {
    fs::read_dir(directory).is_ok_and(|mut entries| {
        entries.any(|entry| {
            entry.is_ok_and(|entry| {
                let (path, name) = (entry.path(), entry.file_name());
                let is_shard = name.to_string_lossy().contains("-of-");
                let is_weights = path.extension().is_some_and(|ext| ext == "safetensors");
                is_weights && !is_shard && path.is_file()
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sharded_model_is_complete_when_every_shard_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        assert!(!lacks_of_model(directory.path()).is_empty());
        write("config.json", "{}");
        assert!(!lacks_of_model(directory.path()).is_empty());
        write("model-00001-of-00002.safetensors", "");
        assert!(
            !lacks_of_model(directory.path()).is_empty(),
            "a shard without its index"
        );
        write(
            "model.safetensors.index.json",
            r#"{"weight_map":{"a":"one.safetensors","b":"two.safetensors"}}"#,
        );
        write("one.safetensors", "");
        assert!(!lacks_of_model(directory.path()).is_empty());
        assert_eq!(lacks_of_model(directory.path()), ["two.safetensors"]);
        write("two.safetensors", "");
        assert!(lacks_of_model(directory.path()).is_empty());
    }
}
