//! Conversations: `/v1/chat/completions`.

pub(super) mod answer;
pub(super) mod request;
#[cfg(test)]
mod tests;
