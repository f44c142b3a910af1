//! Which models the cache has.

use std::fs;
use std::path::{Path, PathBuf};

use maitre_model::ModelFiles;

use super::cache::{RepositoryCache, gguf_files};
use super::error::HubError;
use super::{DEFAULT_REVISION, HubOptions, NO_HOME};

/// A model that is completely in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Downloaded {
    /// What it is asked for by: `ORG/NAME`, with `:FORMAT` if it is in GGUF files.
    pub name: String,
    /// What is opened.
    pub path: PathBuf,
    /// Bytes of its files.
    pub bytes: u64,
}

/// The models of the branch `main` that are completely in the cache that the environment names, by name. A cache that is
/// not there has none.
///
/// # Errors
/// [`HubError::Cache`] if the cache can't be listed.
pub fn downloaded() -> Result<Vec<Downloaded>, HubError> {
    let cache = HubOptions::from_env().cache_dir;
    downloaded_in(&cache.unwrap_or_else(|| NO_HOME.into()))
}

/// The same of the cache in a directory.
///
/// # Errors
/// As [`downloaded`].
pub fn downloaded_in(cache: &Path) -> Result<Vec<Downloaded>, HubError> {
    let failed = |error| HubError::Cache {
        path: cache.to_path_buf(),
        error,
    };
    if !cache.exists() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(cache).map_err(failed)?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort_unstable();
    let mut models = Vec::new();
    for name in names {
        let repository = name.strip_prefix("models--");
        if let Some((owner, model)) = repository.and_then(|it| it.split_once("--")) {
            models.extend(models_of(
                &RepositoryCache::new(cache, owner, model),
                owner,
                model,
            ));
        }
    }
    Ok(models)
}

fn models_of(cache: &RepositoryCache, owner: &str, model: &str) -> Vec<Downloaded> {
    let Some(snapshot) = cache.find_snapshot(DEFAULT_REVISION) else {
        return Vec::new();
    };
    let directory = snapshot.directory.clone();
    let name = format!("{owner}/{model}");
    let mut models = Vec::new();
    if let Some(path) = snapshot.complete() {
        let files = fs::read_dir(&path).into_iter().flatten().flatten();
        let files = files.map(|entry| entry.path());
        let is_gguf = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "gguf");
        let bytes = files
            .filter(|path| !is_gguf(path))
            .map(|path| size_of(&path));
        models.push(Downloaded {
            name: name.clone(),
            bytes: bytes.sum(),
            path,
        });
    }
    let ggufs = gguf_files(&directory);
    for found in ModelFiles::among(ggufs.iter().map(String::as_str)) {
        let paths = found.files.iter().map(|file| directory.join(file));
        let paths: Vec<PathBuf> = paths.collect();
        if let Some(first) = paths.first()
            && paths.iter().all(|path| path.is_file())
        {
            models.push(Downloaded {
                name: format!("{name}:{}", found.tag()),
                bytes: paths.iter().map(|path| size_of(path)).sum(),
                path: first.clone(),
            });
        }
    }
    models
}

/// Bytes of a file; links are followed.
fn size_of(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |found| found.len())
}
