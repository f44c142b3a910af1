//! The bounds of a server, all in one place, and why each has the value it has.

use std::fmt;
use std::time::Duration;

use maitre_engine::EngineLimits;

/// Connections of a full listener that are accepted nevertheless, for health checks; and those that may be
/// on their way out at once.
pub(crate) const RESERVED_CONNECTIONS: usize = 64;
/// Calls that ask or steer (`Abort`, `GetLoad`, …) at once.
pub(crate) const MAX_CONTROL_CALLS: usize = 256;
/// Health checks at once.
pub(crate) const MAX_HEALTH_CHECKS: usize = 256;
/// Streams that watch something, on one connection: a client needs one for each thing to watch.
pub(crate) const MAX_WATCHES_PER_CONNECTION: usize = 16;
/// Reflection streams at once; people and tools at their desks use them.
pub(crate) const MAX_REFLECTION_STREAMS: usize = 64;
/// Reflection streams on one connection.
pub(crate) const MAX_REFLECTION_STREAMS_PER_CONNECTION: usize = 4;
/// Bytes that a stream of requests may bring in all; a session of reflection takes a few KiB.
pub(crate) const MAX_STREAMED_REQUEST_BYTES: u64 = 1 << 20;
/// A call that has waited this long for its message may have to make way for a new one.
pub(crate) const PATIENCE_WHEN_FULL: Duration = Duration::from_secs(1);
/// Bytes of a text, and ids, that are turned into the other in one call: an answer with all its parts takes some tens of
/// bytes for each.
pub(crate) const MAX_TOKENIZED_BYTES: usize = 1 << 20;
pub(crate) const MAX_DETOKENIZED_IDS: usize = 256 << 10;
/// Requests of one connection that are taken apart at a time; further ones wait behind them, and not in front of those of
/// other connections.
pub(crate) const TURNS_PER_CONNECTION: usize = 2;
/// After its deadline a call has this long to pass on its status.
pub(crate) const DEADLINE_GRACE: Duration = Duration::from_secs(1);
/// Bytes of an answer that are handed to a connection in one piece: what a client must take within the stall timeout.
pub(crate) const ANSWER_PIECE_BYTES: usize = 16 << 10;

/// What an operator can set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Largest request message.
    pub(crate) max_message_bytes: usize,
    /// Calls of the generation service in progress.
    pub(crate) max_calls: Option<usize>,
    /// Open connections per listener.
    pub(crate) max_connections: usize,
    /// From `accept` until the client has said what it speaks.
    pub(crate) handshake_timeout: Duration,
    /// From a call's headers until its message is complete.
    pub(crate) request_timeout: Duration,
    /// A piece of an answer is taken, and a connection written to, within this.
    pub(crate) stall_timeout: Duration,
    /// Bytes of requests under way, from their first byte until their answer begins.
    pub(crate) request_bytes: Option<u64>,
    /// Bytes of answers that are encoded and not yet written.
    pub(crate) answer_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message_bytes: 4 << 20,
            max_calls: None,
            max_connections: 4096,
            handshake_timeout: Duration::from_secs(10),
            // 4 MiB at 1.2 Mbit/s.
            request_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(30),
            request_bytes: None,
            // An answer with log-probabilities of many alternatives takes KiBs a token.
            answer_bytes: 256 << 20,
        }
    }
}

impl Limits {
    /// Calls of the generation service in progress: what was set, or more than the engine takes, so that a full queue
    /// is reported as what it is.
    pub(crate) fn max_calls(&self, engine: &EngineLimits) -> usize {
        self.max_calls.unwrap_or_else(|| {
            engine
                .max_seqs
                .saturating_add(engine.max_queue)
                .saturating_add(256)
        })
    }

    /// Bytes of requests under way: what was set, or space for several of the largest messages.
    pub(crate) fn request_bytes(&self) -> u64 {
        let several = u64::try_from(self.max_message_bytes).unwrap_or(u64::MAX);
        self.request_bytes
            .unwrap_or_else(|| several.saturating_mul(8).max(128 << 20))
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / (1024.0 * 1024.0));
        write!(
            f,
            "clients: {} connections a port, memory for requests under way {}, for answers not yet written {}",
            self.max_connections,
            mib(self.request_bytes()),
            mib(self.answer_bytes),
        )
    }
}

#[cfg(test)]
impl Limits {
    /// The defaults, with few calls and little memory.
    pub(crate) fn for_tests() -> Self {
        Self {
            max_message_bytes: 4 << 20,
            max_calls: Some(8),
            max_connections: 8,
            handshake_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(30),
            request_bytes: Some(100_000),
            answer_bytes: 1_000_000,
        }
    }
}
