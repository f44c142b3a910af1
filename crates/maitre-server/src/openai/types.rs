//! The messages of the API, beside those groups of fields that have files of their own.

pub(super) mod answer;
pub(super) mod chat_message;
pub(super) mod prompt;
pub(super) mod scores;
pub(super) mod text;
