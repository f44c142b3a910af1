//! The bounds that hold for every engine, in one place, so that they can be documented and tested.
//! Bounds that an operator sets are fields of [`EngineBuilder`](crate::EngineBuilder).

pub use maitre_sampling::MAX_LOGIT_BIAS;
pub use maitre_text::grammar::limits::{MAX_CHOICES, MAX_GRAMMAR_BYTES};

/// Answers per request.
pub const MAX_N: u32 = 16;
/// Stop strings per request.
pub const MAX_STOP_STRINGS: usize = 64;
/// Bytes per stop string.
pub const MAX_STOP_BYTES: usize = 1024;
/// Bytes of a request's stop strings together that are always taken.
pub const ALWAYS_TAKEN_STOP_BYTES: usize = 256;
/// Bytes of stop strings that all requests in flight may have together, not counting requests that have no
/// more than [`ALWAYS_TAKEN_STOP_BYTES`]: 32 requests with the largest stop strings.
pub const MAX_STOP_BYTES_IN_FLIGHT: usize = 32 * MAX_STOP_STRINGS * MAX_STOP_BYTES;
/// Stop token ids per request.
pub const MAX_STOP_TOKEN_IDS: usize = 256;
/// Bytes of a request id.
pub const MAX_REQUEST_ID_BYTES: usize = 256;
/// Bytes of a tenant's name and of a cache salt.
pub const MAX_TENANT_BYTES: usize = 256;
/// Longest prompt text in bytes per token of context: far above any real ratio, so that a prompt
/// that can't fit is refused before it is tokenized.
pub const MAX_PROMPT_BYTES_PER_TOKEN: usize = 64;
/// Events a receiver may leave unread before its request is ended.
pub const MAX_UNREAD_EVENTS: usize = 4096;
/// Events that may be unread while the receiver waits for its turn to run, having read all there was before: a
/// machine that is busy with other work is not held against it.
pub const MAX_UNREAD_EVENTS_OF_A_WAITING_RECEIVER: usize = 4 * MAX_UNREAD_EVENTS;
/// The largest time limit a request may set, in seconds (one week).
pub const MAX_TIME_LIMIT_S: u64 = 7 * 24 * 3600;
