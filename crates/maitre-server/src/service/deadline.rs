//! When the caller of a call stops waiting.
//!
//! However a protocol says it, one rule holds: a call that outlives its deadline ends with
//! [`Kind::DeadlineExceeded`](crate::service::api_error::Kind::DeadlineExceeded), whatever it waits for.

use std::future::Future;
use std::time::Duration;

use maitre_engine::limits::MAX_TIME_LIMIT_S;
use tokio::time::Instant;

use crate::service::api_error::ApiError;

/// When the caller stops waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deadline(pub(crate) Instant);

impl Deadline {
    /// How long the caller still waits; zero once it has given up.
    pub(crate) fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// The same, where it is short enough for the engine to keep. One beyond the engine's longest is as good as none:
    /// a call that lasts so long is ended by its own deadline.
    pub(crate) fn remaining_for_the_engine(self) -> Option<Duration> {
        let longest = Duration::from_secs(MAX_TIME_LIMIT_S);
        Some(self.remaining()).filter(|left| *left <= longest)
    }
}

/// What comes of `work` before the deadline.
///
/// # Errors
///
/// The deadline passed first; the work is dropped.
pub(crate) async fn within<T>(
    deadline: Option<Deadline>,
    work: impl Future<Output = T>,
) -> Result<T, ApiError> {
    match deadline {
        None => Ok(work.await),
        Some(Deadline(at)) => tokio::time::timeout_at(at, work)
            .await
            .map_err(|_elapsed| ApiError::deadline_exceeded()),
    }
}
