//! What can go wrong between a model's name and its files, and what to do about each.

use std::error::Error;
use std::path::PathBuf;

use hf_hub::HFError;

/// Why a model is not on this machine. Every message says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The name has not the form `ORG/NAME`.
    #[error(
        "`{name}` does not name a model on the Hub: expected ORG/NAME, such as Qwen/Qwen3-0.6B"
    )]
    BadName {
        /// What was given.
        name: String,
    },
    /// The revision cannot be a branch, tag or commit.
    #[error("`{revision}` cannot be a revision: expected a branch, a tag or a commit hash")]
    BadRevision {
        /// What was given.
        revision: String,
    },
    /// The address of the Hub is unusable.
    #[error("the Hub's address `{endpoint}` is unusable ({reason}): set HF_ENDPOINT to a URL")]
    Endpoint {
        /// What was given.
        endpoint: String,
        /// What the URL parser or HTTP client said.
        reason: String,
    },
    /// No such repository, or none that this token may see: the Hub does not tell them apart.
    #[error(
        "no repository `{name}` at {endpoint}, or it is private: \
         check the name; for a private one set HF_TOKEN"
    )]
    NotFound {
        /// `ORG/NAME`.
        name: String,
        /// The Hub that was asked.
        endpoint: String,
    },
    /// The repository exists, the revision does not.
    #[error(
        "repository `{name}` has no revision `{revision}`: expected a branch, tag or commit of it"
    )]
    RevisionNotFound {
        /// `ORG/NAME`.
        name: String,
        /// What was asked for.
        revision: String,
    },
    /// The repository is gated.
    #[error(
        "access to `{name}` is refused: accept its terms on {endpoint}/{name} and set HF_TOKEN"
    )]
    Denied {
        /// `ORG/NAME`.
        name: String,
        /// The Hub that was asked.
        endpoint: String,
    },
    /// No usable answer from the Hub.
    #[error(
        "cannot reach the Hub at {endpoint} ({reason}): check the network, or set HF_ENDPOINT to a \
         mirror; a model that is already downloaded is served with HF_HUB_OFFLINE=1"
    )]
    Unreachable {
        /// The Hub that was asked.
        endpoint: String,
        /// The innermost causes, outermost first.
        reason: String,
    },
    /// Offline, and the cache has no complete snapshot.
    #[error(
        "HF_HUB_OFFLINE is set and `{name}` (revision {revision}) is not completely in the cache \
         {cache}: unset HF_HUB_OFFLINE once, or point HF_HOME or HF_HUB_CACHE to the cache that has it",
        cache = .cache_dir.display()
    )]
    NotCached {
        /// `ORG/NAME`.
        name: String,
        /// What was asked for.
        revision: String,
        /// Where it was looked for.
        cache_dir: PathBuf,
    },
    /// The repository holds no model of a kind Maitre loads.
    #[error(
        "repository `{name}` has no {missing}: expected a model in Hugging Face format \
         (config.json and *.safetensors)"
    )]
    NotAModel {
        /// `ORG/NAME`.
        name: String,
        /// The file or pattern that is not there.
        missing: &'static str,
    },
    /// A file broke off and did not go on.
    #[error(
        "the download of {file} stopped at {have} of {size} bytes ({reason}): \
         run the same command again, it goes on from there"
    )]
    Interrupted {
        /// File name in the repository.
        file: String,
        /// Bytes that are here.
        have: u64,
        /// Bytes of the whole file.
        size: u64,
        /// What happened last.
        reason: String,
    },
    /// The cache cannot be read or written.
    #[error("the cache at {path} failed ({source}): check space and permissions, or set HF_HUB_CACHE",
        path = .path.display())]
    Cache {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// An answer of the Hub that makes no sense.
    #[error("the Hub at {endpoint} answered unexpectedly: {reason}")]
    Protocol {
        /// The Hub that was asked.
        endpoint: String,
        /// What was wrong with the answer.
        reason: String,
    },
}

impl HubError {
    /// What an answer to a question about the repository `name` means.
    pub(super) fn from_listing(error: HFError, name: &str, revision: &str, endpoint: &str) -> Self {
        let (name, endpoint) = (name.to_string(), endpoint.to_string());
        match error {
            HFError::RevisionNotFound {
                context: Some(context),
                ..
            } if context.error_code.as_deref() == Some("RevisionNotFound") => {
                Self::RevisionNotFound {
                    name,
                    revision: revision.to_string(),
                }
            }
            HFError::RevisionNotFound { .. } | HFError::RepoNotFound { .. } => {
                Self::NotFound { name, endpoint }
            }
            HFError::AuthRequired { context } | HFError::Forbidden { context } => {
                if context.error_code.as_deref() == Some("GatedRepo") {
                    Self::Denied { name, endpoint }
                } else {
                    Self::NotFound { name, endpoint }
                }
            }
            error if is_transport(&error) => Self::Unreachable {
                endpoint,
                reason: chain(&error),
            },
            error => Self::Protocol {
                endpoint,
                reason: chain(&error),
            },
        }
    }
}

/// Whether the network or the server failed, rather than the question.
pub(super) fn is_transport(error: &HFError) -> bool {
    match error {
        HFError::Request { .. } | HFError::RateLimited { .. } => true,
        HFError::Http { context } => context.status.is_server_error(),
        _ => false,
    }
}

/// An error and its causes in one line. Of a failed request only the causes: its own text repeats
/// the address, which the message around it names already.
pub(super) fn chain(error: &HFError) -> String {
    let first: &dyn Error = match error {
        HFError::Request { source, .. } => source.source().unwrap_or(source),
        other => other,
    };
    let mut parts: Vec<String> = Vec::new();
    for cause in std::iter::successors(Some(first), |cause| (*cause).source()) {
        let text = cause.to_string();
        // Some errors quote their cause.
        if !parts.last().is_some_and(|parent| parent.contains(&text)) {
            parts.push(text);
        }
    }
    parts.join(": ")
}
