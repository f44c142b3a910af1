//! Why a call was refused or failed, in words that belong to no protocol.
//!
//! A front turns an [`ApiError`] into its own answer: the [`Kind`] decides the code ([`Kind::codes`] is the only table
//! of them), and the rest becomes the details that the protocol has a place for. A caller acts on the kind, a program
//! on the reason, a person on the message.

use std::fmt;
use std::time::Duration;

use maitre_engine::Violation;

/// What kind of failure it is: what a client does about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The request is wrong; sent again, it is wrong again.
    Invalid,
    /// No model of that name is served here.
    UnknownModel,
    /// A request of the same id is in flight.
    Duplicate,
    /// The caller did not say who it is, or could not prove it.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "for servers that ask for credentials")
    )]
    Unauthenticated,
    /// The caller may not do this.
    Forbidden,
    /// A queue, a budget or a share of one is full: later, or with less, it works.
    Full,
    /// The server does not serve now: it loads, drains or has stopped.
    Unavailable,
    /// A deadline passed.
    DeadlineExceeded,
    /// The caller, or an abort, ended it.
    Cancelled,
    /// This server was started without what the call needs.
    NotEnabled,
    /// A listener fell behind, and what it missed is gone.
    Missed,
    /// A fault of the server.
    Internal,
}

/// A kind in the codes of the protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Codes {
    /// Its number in `google.rpc.Code`, which gRPC has.
    pub(crate) grpc: u8,
    /// Its HTTP status. 499 is nginx's "client closed request".
    pub(crate) http: u16,
}

impl Kind {
    /// The table of codes.
    pub(crate) fn codes(self) -> Codes {
        let (grpc, http) = match self {
            Self::Invalid => (3, 400),
            Self::UnknownModel => (5, 404),
            Self::Duplicate => (6, 409),
            Self::Unauthenticated => (16, 401),
            Self::Forbidden => (7, 403),
            Self::Full => (8, 429),
            Self::Unavailable => (14, 503),
            Self::DeadlineExceeded => (4, 408),
            Self::Cancelled => (1, 499),
            Self::NotEnabled => (9, 400),
            Self::Missed => (11, 400),
            Self::Internal => (13, 500),
        };
        Codes { grpc, http }
    }
}

/// Why a call was refused or failed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ApiError {
    pub(crate) kind: Kind,
    /// A stable name that programs can tell failures apart by, such as `QUEUE_FULL`.
    pub(crate) reason: &'static str,
    /// What was found, what was expected, what to do.
    pub(crate) message: String,
    /// Which fields are wrong, in the names that the caller's message has for them.
    pub(crate) violations: Vec<Violation>,
    /// When to try again, where that helps.
    pub(crate) retry_after: Option<Duration>,
    /// What is full, such as `queue`.
    pub(crate) quota: Option<&'static str>,
    /// The figures of the message, by name.
    pub(crate) metadata: Box<[(&'static str, String)]>,
}

/// A listed message ends after so many bytes; the violations themselves are all kept.
const MAX_LISTED_BYTES: usize = 512;

impl ApiError {
    /// A failure with nothing beside its message.
    pub(crate) fn new(kind: Kind, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind,
            reason,
            message: message.into(),
            violations: Vec::new(),
            retry_after: None,
            quota: None,
            metadata: Box::default(),
        }
    }

    /// A request that is wrong in these fields; at least one.
    pub(crate) fn invalid(violations: Vec<Violation>) -> Self {
        let mut listed = String::new();
        for (index, violation) in violations.iter().enumerate() {
            if listed.len() > MAX_LISTED_BYTES {
                listed += &format!("; and {} more", violations.len() - index);
                break;
            }
            let separator = if listed.is_empty() { "" } else { "; " };
            listed += &format!("{separator}{}: {}", violation.field, violation.description);
        }
        let message = format!("invalid request: {listed}");
        Self {
            violations,
            ..Self::new(Kind::Invalid, "INVALID_REQUEST", message)
        }
    }

    /// A request that is wrong in one field.
    pub(crate) fn unusable(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::invalid(vec![Violation::new(field, description)])
    }

    /// `subject` is full: `limit` is how much of it there is, or is left.
    pub(crate) fn full(
        reason: &'static str,
        subject: &'static str,
        message: impl Into<String>,
        limit: impl fmt::Display,
        retry_after: Option<Duration>,
    ) -> Self {
        Self {
            retry_after,
            quota: Some(subject),
            ..Self::new(Kind::Full, reason, message)
        }
        .with([("limit", limit.to_string())])
    }

    /// The same with these figures.
    pub(crate) fn with<const N: usize>(mut self, metadata: [(&'static str, String); N]) -> Self {
        self.metadata = Box::new(metadata);
        self
    }

    /// The same, about this field.
    pub(crate) fn about(mut self, field: &str) -> Self {
        let description = self.message.clone();
        self.violations.push(Violation::new(field, description));
        self
    }

    /// The same, to be tried again after this time.
    pub(crate) fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.reason, self.message)
    }
}

impl std::error::Error for ApiError {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Clients of OpenAI's API act on these: they retry 408, 409, 429 and what is 500 or above.
    #[test]
    fn a_kind_has_the_http_status_that_clients_act_on() {
        for (kind, http) in [
            (Kind::Invalid, 400),
            (Kind::Unauthenticated, 401),
            (Kind::Forbidden, 403),
            (Kind::UnknownModel, 404),
            (Kind::DeadlineExceeded, 408),
            (Kind::Duplicate, 409),
            (Kind::Full, 429),
            (Kind::Cancelled, 499),
            (Kind::Internal, 500),
            (Kind::Unavailable, 503),
        ] {
            assert_eq!(kind.codes().http, http, "{kind:?}");
        }
    }
}
