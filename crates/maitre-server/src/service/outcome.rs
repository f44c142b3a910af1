//! How a call ended, in a code that all protocols share, so that metrics and limits of clients need only one.

use crate::service::api_error::{ApiError, Kind};

/// The names of `google.rpc.Code`, by number.
const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// A number of `google.rpc.Code`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome(u8);

impl Outcome {
    /// Whose number this is. One that there is not becomes UNKNOWN.
    pub(crate) fn of_number(number: i32) -> Self {
        let known = u8::try_from(number).ok();
        Self(
            known
                .filter(|it| usize::from(*it) < NAMES.len())
                .unwrap_or(2),
        )
    }

    /// Its name in metrics.
    pub(crate) fn name(self) -> &'static str {
        NAMES.get(usize::from(self.0)).unwrap_or(&"UNKNOWN")
    }

    /// Whether the call was refused for lack of places or memory.
    pub(crate) fn is_refusal(self) -> bool {
        self == Self::from(Kind::Full)
    }
}

impl From<Kind> for Outcome {
    fn from(kind: Kind) -> Self {
        Self(kind.codes().grpc)
    }
}

impl From<&ApiError> for Outcome {
    fn from(error: &ApiError) -> Self {
        error.kind.into()
    }
}
