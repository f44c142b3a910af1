//! Models by name: `ORG/NAME` on the Hugging Face Hub becomes a directory on this machine.
//!
//! The cache has the layout that every Hub client shares
//! (`models--ORG--NAME/{blobs,refs,snapshots}`), so what one of them has downloaded all of them
//! find. Two things are added to what they do: a broken download goes on at the byte where it stopped, and a
//! snapshot gets its name in `refs/` only when it is complete, so that "downloaded" can be trusted
//! when there is no network.
//!
//! ```no_run
//! # async fn run() -> Result<(), maitre::hub::HubError> {
//! let bar = maitre::hub::progress_bar();
//! let directory = maitre::hub::resolve("Qwen/Qwen3-0.6B", None, &bar).await?;
//! println!("{}", directory.display());
//! # Ok(()) }
//! ```
//!
//! | variable | meaning |
//! |---|---|
//! | `HF_ENDPOINT` | the Hub, or a mirror of it |
//! | `HF_HUB_CACHE`, else `HF_HOME` (+ `/hub`), else `XDG_CACHE_HOME` (+ `/huggingface/hub`) | where downloads are kept |
//! | `HF_HUB_OFFLINE` | `1`: never use the network |
//! | `HF_TOKEN`, else the file `HF_TOKEN_PATH` or `$HF_HOME/token` | access to private and gated repositories |

mod cache;
mod client;
mod downloaded;
mod environment;
mod error;
mod repository;
mod transfer;

use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use client::Client;
pub use downloaded::{Downloaded, downloaded, downloaded_in};
pub use environment::Token;
use error::Asked;
pub use error::HubError;
use repository::{Repository, Wanted};

/// The revision meant when none is named.
const DEFAULT_REVISION: &str = "main";

/// The cache of a process that has no home directory.
const NO_HOME: &str = "/tmp/.cache/huggingface/hub";

/// How long the Hub may take to say what a revision holds, where the cache would do.
const PATIENCE_WITH_CACHE: Duration = Duration::from_secs(10);
/// The same where only the Hub can tell.
const PATIENCE: Duration = Duration::from_secs(60);

/// Downloads what serving the model needs, or finds it in the cache; returns its directory.
///
/// `name` is `ORG/NAME`, `revision` a branch, tag or commit (default `main`). Configured by the
/// environment, as in the table above.
///
/// # Errors
/// A [`HubError`] that says what to do. If the Hub does not answer, refuses, or a download fails, but the revision
/// is complete in the cache, that is used and a warning logged.
///
/// # Cancel safety
/// Dropping the future stops the download; the next call goes on where it stopped.
pub async fn resolve(
    name: &str,
    revision: Option<&str>,
    progress: &ProgressBar,
) -> Result<PathBuf, HubError> {
    Hub::new(HubOptions::from_env())?
        .resolve(name, revision, progress)
        .await
}

/// As [`resolve`], of a model in GGUF files; returns the path of its first one. `tag` is the format as the files' names
/// have it, such as `Q4_K_M`, in any case of letters; or a file's name.
///
/// # Errors
/// As [`resolve`]. A tag that means no file or several is answered with those there are.
///
/// # Cancel safety
/// As [`resolve`].
pub async fn resolve_gguf(
    name: &str,
    revision: Option<&str>,
    tag: &str,
    progress: &ProgressBar,
) -> Result<PathBuf, HubError> {
    Hub::new(HubOptions::from_env())?
        .resolve_gguf(name, revision, tag, progress)
        .await
}

/// Whether [`resolve_gguf`] would find this in the cache, without the Hub.
#[must_use]
pub fn has_gguf(name: &str, revision: Option<&str>, tag: &str) -> bool {
    let cache = HubOptions::from_env().cache_dir;
    let cache = cache.unwrap_or_else(|| NO_HOME.into());
    let revision = revision.unwrap_or(DEFAULT_REVISION);
    let found = name.split_once('/').and_then(|(owner, model)| {
        cache::RepositoryCache::new(&cache, owner, model).find_gguf(revision, tag)
    });
    found.is_some_and(|snapshot| snapshot.lacks.is_empty())
}

/// A progress bar for [`resolve`], on stderr; invisible when stderr is not a terminal.
#[must_use]
pub fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    let template = "{msg} [{bar:32}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

/// Which Hub, which cache, and whether the network may be used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HubOptions {
    /// Base address; `None` = what `HF_ENDPOINT` says, else huggingface.co.
    pub endpoint: Option<String>,
    /// Cache directory; `None` = the one Hub clients share in the user's home.
    pub cache_dir: Option<PathBuf>,
    /// Use the cache only.
    pub offline: bool,
    /// First pause before a failed request is repeated, doubled each time; `None` = 100 ms.
    pub retry_delay: Option<Duration>,
}

/// A Hub and the local cache in front of it.
#[derive(Debug)]
pub struct Hub {
    client: Client,
    cache_dir: PathBuf,
    token: Option<Token>,
    offline: bool,
    patience: Option<Duration>,
}

impl Hub {
    /// Connects lazily: nothing is sent before [`Hub::resolve`]. The token is the environment's.
    ///
    /// # Errors
    /// [`HubError::Endpoint`] if the address is not a URL, [`HubError::BadToken`].
    pub fn new(options: HubOptions) -> Result<Self, HubError> {
        Self::with_token(options, Token::from_env())
    }

    /// As [`Hub::new`], with this token or none.
    ///
    /// # Errors
    /// As [`Hub::new`].
    pub fn with_token(options: HubOptions, token: Option<Token>) -> Result<Self, HubError> {
        let environment = HubOptions::from_env();
        let endpoint = options.endpoint.or(environment.endpoint);
        let value = token.as_ref().map(Token::value).transpose()?;
        let client = Client::new(endpoint, value, options.retry_delay)?;
        let cache_dir = options.cache_dir.or(environment.cache_dir);
        Ok(Self {
            client,
            cache_dir: cache_dir.unwrap_or_else(|| NO_HOME.into()),
            token,
            offline: options.offline,
            patience: None,
        })
    }

    /// How long the Hub may take to say what a revision holds; default: 60 s, and 10 s where the cache would do.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// [`resolve`], on this Hub and cache.
    ///
    /// # Errors
    /// As [`resolve`].
    pub async fn resolve(
        &self,
        name: &str,
        revision: Option<&str>,
        progress: &ProgressBar,
    ) -> Result<PathBuf, HubError> {
        self.get(name, revision, Wanted::Model, progress).await
    }

    /// [`resolve_gguf`], on this Hub and cache.
    ///
    /// # Errors
    /// As [`resolve_gguf`].
    pub async fn resolve_gguf(
        &self,
        name: &str,
        revision: Option<&str>,
        tag: &str,
        progress: &ProgressBar,
    ) -> Result<PathBuf, HubError> {
        self.get(name, revision, Wanted::Gguf(tag), progress).await
    }

    async fn get(
        &self,
        name: &str,
        revision: Option<&str>,
        wanted: Wanted<'_>,
        progress: &ProgressBar,
    ) -> Result<PathBuf, HubError> {
        let revision = revision.unwrap_or(DEFAULT_REVISION);
        let asked = Asked {
            name,
            revision,
            endpoint: self.client.endpoint(),
            token: self.token.as_ref(),
        };
        let repository = Repository::new(&self.client, &self.cache_dir, asked, wanted)?;
        let (cached, incomplete) = match repository.cached() {
            Some(snapshot) if !snapshot.lacks.is_empty() => (None, Some(snapshot)),
            snapshot => (snapshot.map(|snapshot| snapshot.model), None),
        };
        if self.offline {
            let lacks = incomplete.map_or_else(Vec::new, |snapshot| snapshot.lacks);
            return cached.ok_or_else(|| repository.not_cached(lacks));
        }
        let patience = self.patience.unwrap_or(match cached {
            Some(_) => PATIENCE_WITH_CACHE,
            None => PATIENCE,
        });
        let listing = match tokio::time::timeout(patience, repository.list()).await {
            Ok(answer) => answer,
            Err(_) => Err(asked.no_answer(patience)),
        };
        let (cached, outcome) = match listing {
            Ok(listing) => {
                let outcome = repository.download(&listing, progress).await;
                (repository.cached_as_listed(&listing).or(cached), outcome)
            }
            Err(error) => (cached, Err(error.with_incomplete(incomplete))),
        };
        match (outcome, cached) {
            (Err(error), Some(directory)) if error.is_no_answer_about_the_model() => {
                progress.finish_and_clear();
                tracing::warn!(
                    "using {}, which may not be the latest {revision} of {name}: {error}",
                    directory.display()
                );
                Ok(directory)
            }
            (outcome, _) => outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_that_is_no_url_is_named() {
        let options = HubOptions {
            endpoint: Some("not a url".into()),
            ..HubOptions::default()
        };
        let error = Hub::with_token(options, None).unwrap_err().to_string();
        assert!(
            error.contains("HF_ENDPOINT") && error.contains("not a url"),
            "{error}"
        );
    }
}
