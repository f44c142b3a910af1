//! What can go wrong between a model's name and its files, and what to do about each.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use super::cache::Snapshot;
use super::client::{Failure, Refusal};
use super::environment::Token;

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
    #[error("no repository `{name}` at {endpoint}, or {}", hidden(token.as_deref()))]
    NotFound {
        /// `ORG/NAME`.
        name: String,
        /// The Hub that was asked.
        endpoint: String,
        /// Where the token that was sent came from.
        token: Option<String>,
    },
    /// The Hub does not know the token that was sent.
    #[error(
        "the Hub at {endpoint} refuses the token of {token}{}: it may be mistyped, expired or revoked; make a \
         new one at {endpoint}/settings/tokens, or send none if `{name}` is public",
        said(reason.as_deref())
    )]
    TokenRefused {
        /// `ORG/NAME`.
        name: String,
        /// The Hub that was asked.
        endpoint: String,
        /// Where the token came from.
        token: String,
        /// What the Hub said about it.
        reason: Option<String>,
    },
    /// The token cannot stand in a request.
    #[error(
        "the token of {origin} cannot be sent: it contains spaces, control characters or others than ASCII; \
         expected one such as hf_AbC123"
    )]
    BadToken {
        /// Where it was found.
        origin: String,
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
    /// The repository is gated, or the token may not read it.
    #[error(
        "access to `{name}` is refused{}: accept its terms on {endpoint}/{name} and {}",
        said(reason.as_deref()),
        allowed(token.as_deref())
    )]
    Denied {
        /// `ORG/NAME`.
        name: String,
        /// The Hub that was asked.
        endpoint: String,
        /// Where the token that was sent came from.
        token: Option<String>,
        /// What the Hub said, where a token was sent.
        reason: Option<String>,
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
    /// The Hub answers, and says that it is in trouble.
    #[error(
        "the Hub at {endpoint} answered {status}{}: try again later; a model that is already downloaded is \
         served with HF_HUB_OFFLINE=1",
        said(reason.as_deref())
    )]
    Failing {
        /// The Hub that was asked.
        endpoint: String,
        /// The HTTP status, with its name.
        status: String,
        /// What the Hub said about it.
        reason: Option<String>,
    },
    /// Too many requests, from this address or with this token.
    #[error("the Hub at {endpoint} is rate limiting (429): {}", slower(token.as_deref()))]
    RateLimited {
        /// The Hub that was asked.
        endpoint: String,
        /// Where the token that was sent came from.
        token: Option<String>,
    },
    /// The cache has a part of the model, and the Hub has not said how to get the rest.
    #[error("the model in {directory} is not complete (it lacks {lacks}), and the Hub gives no more: {cause}",
        directory = .directory.display(), lacks = .lacks.join(", "))]
    Incomplete {
        /// The snapshot.
        directory: PathBuf,
        /// The files that are not there.
        lacks: Vec<String>,
        /// Why the Hub was of no use.
        cause: Box<HubError>,
    },
    /// Offline, and the cache has no complete snapshot.
    #[error(
        "HF_HUB_OFFLINE is set and `{name}` (revision {revision}) is not completely in the cache \
         {cache}{lacking}: unset HF_HUB_OFFLINE once, or point HF_HOME or HF_HUB_CACHE to the cache that has it",
        cache = .cache_dir.display(), lacking = lacking(lacks)
    )]
    NotCached {
        /// `ORG/NAME`, with the format or the file of a GGUF model behind a colon.
        name: String,
        /// What was asked for.
        revision: String,
        /// Where it was looked for.
        cache_dir: PathBuf,
        /// What the snapshot lacks, if a part of it is there.
        lacks: Vec<String>,
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
    /// The repository holds a model in GGUF files only, and none was named.
    #[error(
        "repository `{name}` has GGUF files only: name one by its format, as {name}:{first}; there are {all}",
        first = .tags.first().map_or("", String::as_str), all = .tags.join(", ")
    )]
    GgufOnly {
        /// `ORG/NAME`.
        name: String,
        /// The formats there are.
        tags: Vec<String>,
    },
    /// A format means no GGUF file of the repository, or several.
    #[error("{}", choice(name, tag, meant, tags))]
    GgufChoice {
        /// `ORG/NAME`.
        name: String,
        /// What was asked for.
        tag: String,
        /// The files that it means.
        meant: Vec<String>,
        /// The formats there are.
        tags: Vec<String>,
    },
    /// The repository lacks a part of a model that is split.
    #[error(
        "repository `{name}` lacks {part}, a part of the model: choose another format, or another repository"
    )]
    GgufPart {
        /// `ORG/NAME`.
        name: String,
        /// The file.
        part: String,
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
    #[error("the cache at {path} failed ({error}): check space and permissions, or set HF_HUB_CACHE",
        path = .path.display())]
    Cache {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
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

fn choice(name: &str, tag: &str, meant: &[String], tags: &[String]) -> String {
    match (meant, tags) {
        (_, []) => format!("repository `{name}` has no GGUF file: leave out `:{tag}`"),
        ([], tags) => format!(
            "repository `{name}` has no GGUF file of the format `{tag}`; it has {}",
            tags.join(", ")
        ),
        (meant, _) => format!(
            "`{tag}` means several files of repository `{name}`: name one, as {name}:FILE; they are {}",
            meant.join(", ")
        ),
    }
}

fn hidden(token: Option<&str>) -> String {
    match token {
        None => "it is private: check the name; for a private one set HF_TOKEN".to_owned(),
        Some(origin) => format!(
            "it is private and the token of {origin} may not see it: check the name, and whose token it is"
        ),
    }
}

fn allowed(token: Option<&str>) -> String {
    match token {
        None => "set HF_TOKEN".to_owned(),
        Some(origin) => format!(
            "make sure that the token of {origin} belongs to the account that did, and may read gated repositories"
        ),
    }
}

fn slower(token: Option<&str>) -> String {
    match token {
        None => "wait, or set HF_TOKEN, which raises the limit".to_owned(),
        Some(origin) => {
            format!("wait; the limit is that of the account of the token of {origin}")
        }
    }
}

fn lacking(lacks: &[String]) -> String {
    match lacks {
        [] => String::new(),
        lacks => format!(" (it lacks {})", lacks.join(", ")),
    }
}

pub(super) fn said(reason: Option<&str>) -> String {
    reason.map_or_else(String::new, |reason| format!(" ({reason})"))
}

impl HubError {
    /// Whether it leaves open what the revision holds now, so that what was downloaded of it earlier is the best
    /// that can be had.
    pub(super) fn is_no_answer_about_the_model(&self) -> bool {
        match self {
            Self::NotFound { .. }
            | Self::TokenRefused { .. }
            | Self::Denied { .. }
            | Self::Unreachable { .. }
            | Self::Failing { .. }
            | Self::RateLimited { .. }
            | Self::Interrupted { .. }
            | Self::Cache { .. }
            | Self::Protocol { .. } => true,
            Self::BadName { .. }
            | Self::BadRevision { .. }
            | Self::BadToken { .. }
            | Self::Endpoint { .. }
            | Self::RevisionNotFound { .. }
            | Self::NotCached { .. }
            | Self::Incomplete { .. }
            | Self::NotAModel { .. }
            | Self::GgufOnly { .. }
            | Self::GgufChoice { .. }
            | Self::GgufPart { .. } => false,
        }
    }

    /// The same, with what the cache lacks, where the Hub would have had to give it.
    pub(super) fn with_incomplete(self, cached: Option<Snapshot>) -> Self {
        match cached {
            Some(Snapshot {
                directory, lacks, ..
            }) if self.is_no_answer_about_the_model() => Self::Incomplete {
                directory,
                lacks,
                cause: Box::new(self),
            },
            _ => self,
        }
    }
}

/// A question to the Hub: about what, and on whose behalf.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    /// `ORG/NAME`.
    pub(super) name: &'a str,
    pub(super) revision: &'a str,
    pub(super) endpoint: &'a str,
    pub(super) token: Option<&'a Token>,
}

impl Asked<'_> {
    /// What it means that there is no answer to it.
    pub(super) fn failed(&self, failure: &Failure) -> HubError {
        let refusal = match failure {
            Failure::Refused(refusal) => refusal,
            Failure::Request(_) => {
                return HubError::Unreachable {
                    endpoint: self.endpoint.to_string(),
                    reason: chain(failure),
                };
            }
        };
        self.refused(refusal).unwrap_or_else(|| HubError::Protocol {
            endpoint: self.endpoint.to_string(),
            reason: chain(failure),
        })
    }

    /// What a refusal means, if it has a meaning here.
    fn refused(&self, refusal: &Refusal) -> Option<HubError> {
        let (name, endpoint) = (self.name.to_string(), self.endpoint.to_string());
        let token = self.token.map(|token| token.origin().to_owned());
        let reason = refusal.message.clone();
        let code = refusal.code.as_deref().unwrap_or_default();
        Some(match (refusal.status.as_u16(), token) {
            (404, _) if code == "RevisionNotFound" => HubError::RevisionNotFound {
                name,
                revision: self.revision.to_string(),
            },
            (401, Some(token)) => HubError::TokenRefused {
                name,
                endpoint,
                token,
                reason,
            },
            (401 | 403, None) if code == "GatedRepo" => HubError::Denied {
                name,
                endpoint,
                token: None,
                reason: None,
            },
            (403, Some(token)) => HubError::Denied {
                name,
                endpoint,
                token: Some(token),
                reason,
            },
            (401 | 403 | 404, token) => HubError::NotFound {
                name,
                endpoint,
                token,
            },
            (429, token) => HubError::RateLimited { endpoint, token },
            (500.., _) => HubError::Failing {
                endpoint,
                status: refusal.status.to_string(),
                reason,
            },
            _ => return None,
        })
    }

    /// That nothing came for so long.
    pub(super) fn no_answer(&self, patience: Duration) -> HubError {
        HubError::Unreachable {
            endpoint: self.endpoint.to_string(),
            reason: format!("no answer within {patience:?}"),
        }
    }
}

/// Whether the Hub does not give this to the one who asks.
pub(super) fn is_refusal(failure: &Failure) -> bool {
    match failure {
        Failure::Refused(refusal) => matches!(refusal.status.as_u16(), 401 | 403),
        Failure::Request(_) => false,
    }
}

/// A failure and its causes in one line. Of a failed request only the causes: its own text repeats the address, which
/// the message around it names already.
pub(super) fn chain(failure: &Failure) -> String {
    let first: &dyn Error = match failure {
        Failure::Request(error) => error.source().unwrap_or(error),
        refused => refused,
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
