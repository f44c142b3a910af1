//! Between the messages of the API and the types of the engine; the only place that knows both.
//!
//! [`request`] checks what only exists in protobuf (a missing input, a negative duration, JSON that
//! does not parse); everything else the engine checks, and
//! [`Violations`](crate::service::violations::Violations) brings both together so that a caller learns of all
//! mistakes at once, under the paths of the message it sent.

mod constraint;
mod conversation;
pub(crate) mod fields;
mod parameters;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod size;
mod tools;

/// Sizes and counts go out as they are; one beyond the field's range, which no machine of today
/// has, as the largest the field can hold.
pub(crate) fn saturating_u32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

pub(crate) fn saturating_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
