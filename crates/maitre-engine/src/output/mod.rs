//! From committed tokens to the events that callers receive.

pub mod byte_budget;
pub(crate) mod event;
pub(crate) mod generation;
pub(crate) mod parts;
pub(crate) mod publisher;
pub(crate) mod text;
pub(crate) mod unread;
