//! What can go wrong with a server as a whole; what goes wrong with one call is a gRPC status.

use std::io;
use std::net::SocketAddr;

/// Why a server could not start or went down.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// An address could not be listened on.
    #[error("cannot listen on {address} for {purpose}: {error}; {advice}")]
    Bind {
        /// `"gRPC"` or `"HTTP"`.
        purpose: &'static str,
        /// The address asked for.
        address: SocketAddr,
        /// What to do.
        advice: &'static str,
        /// The operating system's answer.
        error: io::Error,
    },
    /// A listener's own address could not be read.
    #[error("cannot read the address of the {purpose} listener: {error}")]
    Address {
        /// `"gRPC"` or `"HTTP"`.
        purpose: &'static str,
        /// The operating system's answer.
        error: io::Error,
    },
    /// The API's descriptors, compiled in, could not be read back.
    #[error("the compiled-in API description is unusable: {message}; this build is broken")]
    Descriptors {
        /// What the reader says.
        message: String,
    },
    /// A part of the server ended without having been told to.
    #[error("the {part} task ended unexpectedly: {message}")]
    TaskEnded {
        /// Which part.
        part: &'static str,
        /// How it ended.
        message: String,
    },
}

impl ServerError {
    pub(crate) fn bind(purpose: &'static str, address: SocketAddr, error: io::Error) -> Self {
        let advice = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "another process uses the port: stop it, or choose another port (0 picks a free one)"
            }
            io::ErrorKind::PermissionDenied => "choose a port of 1024 or above",
            io::ErrorKind::AddrNotAvailable => "choose an address that this machine has",
            _ => "choose another address",
        };
        Self::Bind {
            purpose,
            address,
            advice,
            error,
        }
    }
}
