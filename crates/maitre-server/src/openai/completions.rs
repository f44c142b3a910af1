//! Continuations of prompts: `/v1/completions`.

pub(super) mod answer;
mod offsets;
pub(super) mod request;
