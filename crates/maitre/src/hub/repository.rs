//! One revision of one repository: what it lists, and which of it a model needs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use futures_util::{StreamExt, TryStreamExt, stream};
use indicatif::ProgressBar;
use maitre_model::ModelFiles;

use super::cache::{RepositoryCache, Snapshot, TOKENIZER, is_commit};
use super::client::{Client, TreeEntry};
use super::error::{Asked, HubError};
use super::transfer::Transfer;

/// Shards that are downloaded at once.
const PARALLEL_FILES: usize = 4;

/// The one folder that serving reads files of, beside the top level.
const ADDITIONAL_TEMPLATES: &str = "additional_chat_templates/";

/// A file of the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RemoteFile {
    /// Name in the repository, with its folder if that is not the top level.
    pub(super) name: String,
    /// Git object id: changes with the content, and names the blob in the cache.
    pub(super) id: String,
    /// In bytes.
    pub(super) size: u64,
}

/// Which of a repository's files are asked for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wanted<'a> {
    /// A model as transformers saves it.
    Model,
    /// A model in GGUF files, by its format or a file's name.
    Gguf(&'a str),
}

/// The files to have, all of one commit.
#[derive(Debug)]
pub(super) struct Listing {
    commit: String,
    files: Vec<RemoteFile>,
}

/// One revision of one repository, remote and cached.
#[derive(Debug)]
pub(super) struct Repository<'a> {
    client: &'a Client,
    cache: RepositoryCache,
    asked: Asked<'a>,
    wanted: Wanted<'a>,
}

impl<'a> Repository<'a> {
    pub(super) fn new(
        client: &'a Client,
        cache_dir: &Path,
        asked: Asked<'a>,
        wanted: Wanted<'a>,
    ) -> Result<Self, HubError> {
        let Asked { name, revision, .. } = asked;
        let parts = name
            .split_once('/')
            .filter(|(owner, model)| is_word(owner) && is_word(model));
        let Some((owner, model)) = parts else {
            return Err(HubError::BadName {
                name: name.to_string(),
            });
        };
        if !revision.split('/').all(is_word) {
            return Err(HubError::BadRevision {
                revision: revision.to_string(),
            });
        }
        Ok(Self {
            client,
            cache: RepositoryCache::new(cache_dir, owner, model),
            asked,
            wanted,
        })
    }

    pub(super) fn cached(&self) -> Option<Snapshot> {
        self.find(self.asked.revision)
    }

    fn find(&self, revision: &str) -> Option<Snapshot> {
        match self.wanted {
            Wanted::Model => self.cache.find_snapshot(revision),
            Wanted::Gguf(tag) => self.cache.find_gguf(revision, tag),
        }
    }

    /// The cached snapshot of the commit that the Hub has listed, if it is complete without what could not be had.
    pub(super) fn cached_as_listed(&self, listing: &Listing) -> Option<PathBuf> {
        self.find(&listing.commit)?.complete()
    }

    pub(super) fn not_cached(&self, lacks: Vec<String>) -> HubError {
        HubError::NotCached {
            name: match self.wanted {
                Wanted::Model => self.asked.name.to_string(),
                Wanted::Gguf(tag) => format!("{}:{tag}", self.asked.name),
            },
            revision: self.asked.revision.to_string(),
            cache_dir: self.cache.root().to_path_buf(),
            lacks,
        }
    }

    /// Asks the Hub what the revision holds.
    pub(super) async fn list(&self) -> Result<Listing, HubError> {
        let Asked {
            name,
            revision,
            endpoint,
            ..
        } = self.asked;
        let failed = |error| self.asked.failed(&error);
        let garbled = |reason: String| HubError::Protocol {
            endpoint: endpoint.to_string(),
            reason,
        };

        let commit = self.client.commit(name, revision).await.map_err(failed)?;
        let commit = commit.filter(|sha| is_commit(sha));
        let commit = commit.ok_or_else(|| garbled(format!("no commit for {revision}")))?;
        let entries = self.client.tree(name, &commit).await.map_err(failed)?;
        let files = entries.into_iter().filter_map(|entry| match entry {
            TreeEntry::File { oid, size, path } => Some(RemoteFile {
                name: path,
                id: oid,
                size,
            }),
            TreeEntry::Other => None,
        });
        let files = match self.wanted {
            Wanted::Model => needed_of_model(name, files.collect())?,
            Wanted::Gguf(tag) => needed_of_gguf(name, tag, files.collect())?,
        };
        if let Some(file) = files.iter().find(|file| !is_word(&file.id)) {
            return Err(garbled(format!(
                "{} has the object id `{}`",
                file.name, file.id
            )));
        }
        Ok(Listing { commit, files })
    }

    /// Gets every listed file that is not here yet; returns what is opened as the model.
    pub(super) async fn download(
        &self,
        listing: &Listing,
        progress: &ProgressBar,
    ) -> Result<PathBuf, HubError> {
        let directory = self.cache.snapshot(&listing.commit);
        let total: u64 = listing.files.iter().map(|file| file.size).sum();
        let name = self.asked.name;
        progress.set_message(name.to_string());
        progress.set_length(total);
        tracing::info!(
            "model {name}: {} files, {total} bytes, in {}",
            listing.files.len(),
            directory.display()
        );
        if matches!(self.wanted, Wanted::Model)
            && !listing.files.iter().any(|file| file.name == TOKENIZER)
            && let Err(error) = self.cache.note_absence(&listing.commit, TOKENIZER)
        {
            tracing::debug!("without the Hub, {name} will count as incomplete: {error}");
        }
        let transfers = listing
            .files
            .iter()
            .map(|file| self.get(file, &listing.commit, progress));
        // Boxed one by one: the stream needs one future type without a borrowed iterator in it.
        let transfers: Vec<_> = transfers.map(Box::pin).collect();
        let () = stream::iter(transfers)
            .buffer_unordered(PARALLEL_FILES)
            .try_collect()
            .await?;
        if let Err(error) = self
            .cache
            .name_snapshot(self.asked.revision, &listing.commit)
        {
            // The files are there; only a start without the Hub would not find them.
            tracing::warn!("without the Hub, {name} will not be found by its name: {error}");
        }
        progress.finish_and_clear();
        Ok(match (self.wanted, listing.files.first()) {
            (Wanted::Gguf(_), Some(first)) => directory.join(&first.name),
            _ => directory,
        })
    }

    async fn get(
        &self,
        file: &RemoteFile,
        commit: &str,
        progress: &ProgressBar,
    ) -> Result<(), HubError> {
        if self.cache.snapshot(commit).join(&file.name).is_file() {
            progress.inc(file.size);
            return Ok(());
        }
        let _lock = self.cache.lock(&file.id).await?;
        let blob = self.cache.blob(&file.id);
        // Another process, or another revision with the same file, may have brought it.
        if std::fs::metadata(&blob).is_ok_and(|found| found.len() == file.size) {
            progress.inc(file.size);
        } else {
            let partial = self.cache.partial(&file.id);
            let transfer = Transfer {
                client: self.client,
                file,
                commit,
                partial: &partial,
                asked: self.asked,
            };
            transfer.run(progress).await?;
            std::fs::rename(&partial, &blob)
                .map_err(|error| HubError::Cache { path: blob, error })?;
        }
        self.cache.link(&file.id, commit, &file.name)
    }
}

/// Whether `part` can stand as one folder or file name, on any system and in a URL.
fn is_word(part: &str) -> bool {
    !part.is_empty()
        && part.len() <= 128
        && !part.starts_with('.')
        && part
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// The files of a model as transformers saves it.
fn needed_of_model(name: &str, files: Vec<RemoteFile>) -> Result<Vec<RemoteFile>, HubError> {
    let ggufs = ModelFiles::among(files.iter().map(|file| file.name.as_str()));
    let files = needed(files);
    for (missing, pattern) in [
        ("config.json", "config.json"),
        ("*.safetensors", ".safetensors"),
    ] {
        if !files.iter().any(|file| file.name.ends_with(pattern)) {
            return Err(match ggufs.is_empty() {
                true => HubError::NotAModel {
                    name: name.to_owned(),
                    missing,
                },
                false => HubError::GgufOnly {
                    name: name.to_owned(),
                    tags: tags(&ggufs),
                },
            });
        }
    }
    Ok(files)
}

/// The files of the one model in GGUF files that `tag` means.
fn needed_of_gguf(
    name: &str,
    tag: &str,
    mut files: Vec<RemoteFile>,
) -> Result<Vec<RemoteFile>, HubError> {
    let is_safe = |name: &str| name.split('/').count() <= 2 && name.split('/').all(is_word);
    files.retain(|file| is_safe(&file.name));
    let models = ModelFiles::among(files.iter().map(|file| file.name.as_str()));
    let model = match ModelFiles::meant(&models, tag).as_slice() {
        [model] => *model,
        meant => {
            return Err(HubError::GgufChoice {
                name: name.to_owned(),
                tag: tag.to_owned(),
                meant: meant
                    .iter()
                    .flat_map(|it| it.files.first())
                    .cloned()
                    .collect(),
                tags: tags(&models),
            });
        }
    };
    let found = model.files.iter().map(|part| {
        let file = files.iter().find(|file| file.name == *part);
        file.cloned().ok_or_else(|| HubError::GgufPart {
            name: name.to_owned(),
            part: part.clone(),
        })
    });
    found.collect()
}

/// The formats of models, each once.
fn tags(models: &[ModelFiles]) -> Vec<String> {
    let tags: BTreeSet<&str> = models.iter().map(ModelFiles::tag).collect();
    tags.into_iter().map(str::to_owned).collect()
}

/// The files that serving reads. Only top-level ones and chat templates: subfolders hold the same model in
/// other formats. And of several sets of weights only `model*.safetensors`, the one transformers reads;
/// some repositories carry a second, `consolidated*.safetensors`.
fn needed(files: Vec<RemoteFile>) -> Vec<RemoteFile> {
    let standard_weights = |name: &str| name.starts_with("model") && name.ends_with(".safetensors");
    let has_standard_weights = files.iter().any(|file| standard_weights(&file.name));
    let wanted = |name: &str| match name {
        "config.json" | "generation_config.json" | "special_tokens_map.json" => true,
        "chat_template.jinja" | "chat_template.json" | "model.safetensors.index.json" => true,
        _ if name.starts_with("tokenizer") => name.ends_with(".json"),
        _ if has_standard_weights => standard_weights(name),
        _ => name.ends_with(".safetensors"),
    };
    files
        .into_iter()
        .filter(|file| match file.name.strip_prefix(ADDITIONAL_TEMPLATES) {
            Some(template) => is_word(template) && template.ends_with(".jinja"),
            None => is_word(&file.name) && wanted(&file.name),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names_of(files: &[&str]) -> Vec<String> {
        let files = files.iter().map(|name| RemoteFile {
            name: (*name).to_string(),
            id: "0".into(),
            size: 1,
        });
        needed(files.collect())
            .into_iter()
            .map(|file| file.name)
            .collect()
    }

    #[test]
    fn only_what_serving_reads_is_downloaded() {
        let listed = [
            ".gitattributes",
            "README.md",
            "additional_chat_templates/../x.jinja",
            "additional_chat_templates/README.md",
            "additional_chat_templates/deep/x.jinja",
            "additional_chat_templates/tool_use.jinja",
            "chat_template.jinja",
            "chat_template.json",
            "config.json",
            "consolidated.safetensors",
            "generation_config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "original/model.safetensors",
            "pytorch_model.bin",
            "special_tokens_map.json",
            "tokenizer.json",
            "tokenizer.model",
            "tokenizer_config.json",
        ];
        let expected = [
            "additional_chat_templates/tool_use.jinja",
            "chat_template.jinja",
            "chat_template.json",
            "config.json",
            "generation_config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "special_tokens_map.json",
            "tokenizer.json",
            "tokenizer_config.json",
        ];
        assert_eq!(names_of(&listed), expected);
        assert_eq!(names_of(&["weights.safetensors"]), ["weights.safetensors"]);
    }

    #[test]
    fn names_that_could_leave_the_cache_are_refused() {
        let client = Client::new(Some("http://127.0.0.1:9".into()), None, None).unwrap();
        let repository =
            |asked| Repository::new(&client, Path::new("/cache"), asked, Wanted::Model);
        let asked = |name, revision| Asked {
            name,
            revision,
            endpoint: "",
            token: None,
        };
        for name in [
            "", "model", "a/b/c", "/b", "a/", "../b", "a/..", "a b/c", "a/b?c",
        ] {
            let error = repository(asked(name, "main")).unwrap_err();
            assert!(matches!(error, HubError::BadName { .. }), "{name}: {error}");
        }
        for revision in ["", "..", "refs/../../x", "a b"] {
            let error = repository(asked("a/b", revision)).unwrap_err();
            assert!(
                matches!(error, HubError::BadRevision { .. }),
                "{revision}: {error}"
            );
        }
        assert!(repository(asked("a/b", "refs/pr/1")).is_ok());
    }
}
