//! Models by name: `ORG/NAME` on the Hugging Face Hub becomes a directory on this machine.
//!
//! `hf-hub` talks to the Hub; the cache has the layout that every Hub client shares
//! (`models--ORG--NAME/{blobs,refs,snapshots}`), so what one of them has downloaded all of them
//! find. Two things are added to it: a broken download goes on at the byte where it stopped, and a
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
//! | `HF_HUB_CACHE`, else `HF_HOME` (+ `/hub`) | where downloads are kept |
//! | `HF_HUB_OFFLINE` | `1`: never use the network |
//! | `HF_TOKEN`, else `$HF_HOME/token` | access to private and gated repositories |

mod cache;
mod error;
mod repository;
mod transfer;

use std::path::PathBuf;
use std::time::Duration;

use hf_hub::HFClient;
use indicatif::{ProgressBar, ProgressStyle};

pub use error::HubError;
use repository::Repository;

/// The revision meant when none is named.
const DEFAULT_REVISION: &str = "main";

/// Downloads what serving the model needs, or finds it in the cache; returns its directory.
///
/// `name` is `ORG/NAME`, `revision` a branch, tag or commit (default `main`). Configured by the
/// environment, as in the table above.
///
/// # Errors
/// A [`HubError`] that says what to do. If the Hub cannot be reached but the revision is complete
/// in the cache, that is used and a warning logged.
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
    /// Base address; `None` = huggingface.co.
    pub endpoint: Option<String>,
    /// Cache directory; `None` = the one Hub clients share in the user's home.
    pub cache_dir: Option<PathBuf>,
    /// Use the cache only.
    pub offline: bool,
    /// First pause before a failed request is repeated, doubled each time; `None` = 100 ms.
    pub retry_delay: Option<Duration>,
}

impl HubOptions {
    /// The options which the process environment describes.
    #[must_use]
    pub fn from_env() -> Self {
        Self::from_vars(|name| std::env::var(name).ok())
    }

    /// The options which these variables describe. Empty values count as unset.
    pub fn from_vars(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let cache_dir = set("HF_HUB_CACHE")
            .or_else(|| set("HUGGINGFACE_HUB_CACHE"))
            .map(PathBuf::from)
            .or_else(|| set("HF_HOME").map(|home| PathBuf::from(home).join("hub")));
        let offline = set("HF_HUB_OFFLINE").is_some_and(|value| {
            matches!(
                value.to_ascii_lowercase().as_str(),
                "1" | "true" | "yes" | "on"
            )
        });
        Self {
            endpoint: set("HF_ENDPOINT"),
            cache_dir,
            offline,
            retry_delay: None,
        }
    }
}

/// A Hub and the local cache in front of it.
#[derive(Debug)]
pub struct Hub {
    client: HFClient,
    offline: bool,
}

impl Hub {
    /// Connects lazily: nothing is sent before [`Hub::resolve`].
    ///
    /// # Errors
    /// [`HubError::Endpoint`] if the address is not a URL.
    pub fn new(options: HubOptions) -> Result<Self, HubError> {
        let mut builder =
            HFClient::builder().user_agent(concat!("maitre/", env!("CARGO_PKG_VERSION")));
        let endpoint = options.endpoint.clone().unwrap_or_default();
        if let Some(endpoint) = options.endpoint {
            builder = builder.endpoint(endpoint);
        }
        if let Some(cache_dir) = options.cache_dir {
            builder = builder.cache_dir(cache_dir);
        }
        if let Some(delay) = options.retry_delay {
            builder = builder.retry_base_delay(delay);
        }
        let client = builder.build().map_err(|source| HubError::Endpoint {
            endpoint,
            reason: source.to_string(),
        })?;
        Ok(Self {
            client,
            offline: options.offline,
        })
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
        let revision = revision.unwrap_or(DEFAULT_REVISION);
        let repository = Repository::new(&self.client, name, revision)?;
        if self.offline {
            return repository.cached().ok_or_else(|| repository.not_cached());
        }
        match repository.list().await {
            Ok(listing) => repository.download(&listing, progress).await,
            Err(unreachable @ HubError::Unreachable { .. }) => match repository.cached() {
                Some(directory) => {
                    tracing::warn!("{unreachable}; using {}", directory.display());
                    Ok(directory)
                }
                None => Err(unreachable),
            },
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(vars: &[(&str, &str)]) -> HubOptions {
        HubOptions::from_vars(|name| {
            vars.iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_string())
        })
    }

    #[test]
    fn the_environment_is_read_as_other_hub_clients_read_it() {
        assert_eq!(from(&[]), HubOptions::default());
        assert_eq!(from(&[("HF_ENDPOINT", "")]), HubOptions::default());
        assert_eq!(
            from(&[("HF_ENDPOINT", "http://127.0.0.1:9")])
                .endpoint
                .as_deref(),
            Some("http://127.0.0.1:9")
        );
        assert_eq!(
            from(&[("HF_HOME", "/h")]).cache_dir,
            Some(PathBuf::from("/h/hub"))
        );
        assert_eq!(
            from(&[("HF_HOME", "/h"), ("HF_HUB_CACHE", "/c")]).cache_dir,
            Some(PathBuf::from("/c"))
        );
        for (value, offline) in [("1", true), ("TRUE", true), ("on", true), ("0", false)] {
            assert_eq!(
                from(&[("HF_HUB_OFFLINE", value)]).offline,
                offline,
                "{value}"
            );
        }
    }

    #[test]
    fn an_endpoint_that_is_no_url_is_named() {
        let error = Hub::new(from(&[("HF_ENDPOINT", "not a url")]))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("HF_ENDPOINT") && error.contains("not a url"),
            "{error}"
        );
    }
}
