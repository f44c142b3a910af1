//! Why a run ends without a table in which all is well.

use std::io;

use thiserror::Error;

/// Why a run ends without a table in which all is well.
#[derive(Debug, Error)]
pub enum GpuCheckError {
    /// There is no such device, or it can't be checked.
    #[error("device {device} can't be checked: {reason}")]
    NoDevice {
        /// The device that was asked for.
        device: String,
        /// Why not, and what to do.
        reason: String,
    },
    /// The table was printed, and not all of its rows passed.
    #[error("{failures} of {rows} rows failed; see the table")]
    Failed {
        /// Rows that failed.
        failures: usize,
        /// All rows.
        rows: usize,
    },
    /// A worker, a file or the output failed.
    #[error("{doing}")]
    Io {
        /// What was tried.
        doing: String,
        /// Why it failed.
        source: io::Error,
    },
}

impl GpuCheckError {
    /// Says what was tried when an [`io::Error`] came.
    pub(crate) fn while_doing(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}
